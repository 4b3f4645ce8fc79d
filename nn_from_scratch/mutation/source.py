"""Mutants by an edit of the source: one operator, operand, number, condition, argument or statement is changed."""

from __future__ import annotations

import ast
import difflib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import CodeType

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.mutation.functions import Definition, Function, definition
from nn_from_scratch.mutation.mutant import Mutant

#: (operator, node that is replaced, new text)
Change = tuple[str, ast.AST, str]

_BINARY: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}
_COMPARISON: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
}
#: Attributes and functions that are taken for one another.
_MIXED_UP = (
    *(("stride", "dilation"), ("sum", "mean"), ("max", "min"), ("amax", "amin"), ("floor", "ceil"), ("sin", "cos")),
    *(("tanh", "sigmoid"), ("zeros_like", "ones_like"), ("add_", "sub_"), ("mul_", "div_")),
)
_LOOKALIKES = {
    **dict(_MIXED_UP),
    **{second: first for first, second in _MIXED_UP},
    **{"padding": "stride", "fold": "unfold", "argmax": "argmin", "sqrt": "square", "rsqrt": "sqrt"},
    **{"exp": "expm1", "log": "log1p"},
}
_COMPOUND = (ast.BinOp, ast.BoolOp, ast.Compare, ast.UnaryOp, ast.IfExp, ast.Lambda, ast.NamedExpr, ast.Starred)


def source_mutants(function: Function) -> list[Mutant]:
    """All mutants of this function that an edit of its source makes.

    An edit that the compiler turns into the same program as another, or as the original, is left out.

    Raises:
        ArgumentError: the file has changed since the function was found.
    """
    content = function.path.read_bytes()
    tree = ast.parse(content)
    starts = _line_starts(content)
    whole = definition(function, tree)
    original = code_of(function, content)
    programs = {_program(original)}
    counts: Counter[str] = Counter()
    found = []
    for operator, node, new in _changes(whole, content, starts):
        start, end = _span(node, starts)
        old = content[start:end].decode()
        if old == new:
            continue
        mutant = Mutant(
            id=f"{function.name}/{operator}/{counts[operator]}",
            function=function.name,
            kind="source",
            operator=operator,
            line=(line := content.count(b"\n", 0, start) + 1),
            statement=_statement_of(whole, line, function.line),
            start=start,
            old=old,
            new=new,
            diff="",
        )
        counts[operator] += 1
        after = edited(mutant, content)
        try:
            code = code_of(function, after)
        except SyntaxError:
            continue
        if _program(code) in programs or code.co_freevars != original.co_freevars:
            continue
        programs.add(_program(code))
        found.append(replace(mutant, diff=_diff(function, content, after)))
    return found


def edited(mutant: Mutant, content: bytes) -> bytes:
    """The file with the mutant's edit in it.

    Raises:
        ArgumentError: the file has changed since the mutant was made.
    """
    end = mutant.start + len(mutant.old.encode())
    if content[mutant.start : end] != mutant.old.encode():
        raise ArgumentError(f"the file of {mutant.id} has changed: {mutant.old!r} is no longer in its place")
    return content[: mutant.start] + mutant.new.encode() + content[end:]


def code_of(function: Function, content: bytes) -> CodeType:
    """The compiled body of the function in this version of its file.

    Raises:
        SyntaxError: it is not Python.
    """
    code = compile(content, str(function.path), "exec", dont_inherit=True)
    names = function.qualname.split(".")
    for place, name in enumerate(names):
        inner = [const for const in code.co_consts if isinstance(const, CodeType) and const.co_name == name]
        last = place == len(names) - 1
        # A property's getter and setter have one name; the first line tells them apart.
        exact = [const for const in inner if not last or const.co_firstlineno == function.line]
        if not exact:
            raise SyntaxError(f"no {function.qualname} in line {function.line}")
        code = exact[0]
    return code


def _changes(node: Definition, content: bytes, starts: list[int]) -> Iterator[Change]:
    def text(of: ast.AST) -> str:
        start, end = _span(of, starts)
        plain = content[start:end].decode()
        return f"({plain})" if isinstance(of, _COMPOUND) else plain

    def between(parent: ast.AST, left: ast.AST, right: ast.AST, old: str, new: str) -> str:
        """The parent's text, with the operator between two of its operands exchanged."""
        start, end = _span(parent, starts)
        a, b = _span(left, starts)[1], _span(right, starts)[0]
        gap = content[a:b].decode().replace(old, new, 1)
        return content[start:a].decode() + gap + content[b:end].decode()

    for inner in _computing(node):
        if isinstance(inner, ast.BinOp):
            left, right = inner.left, inner.right
            if isinstance(inner.op, ast.MatMult):
                yield "swap factors", inner, f"{text(right)} @ {text(left)}"
            elif type(inner.op) in _BINARY:
                old, new = _BINARY[type(inner.op)]
                yield "operator", inner, between(inner, left, right, old, new)
            if isinstance(inner.op, ast.Add | ast.Sub):
                yield "drop term", inner, text(left)
                yield "drop term", inner, text(right) if isinstance(inner.op, ast.Add) else f"(-{text(right)})"
            if isinstance(inner.op, ast.Mult):
                yield "drop factor", inner, text(left)
                yield "drop factor", inner, text(right)
            if isinstance(inner.op, ast.Div | ast.FloorDiv | ast.Pow):
                yield "drop factor", inner, text(left)
        elif isinstance(inner, ast.Compare) and len(inner.ops) == 1:
            old, others = _COMPARISON[type(inner.ops[0])]
            for new in others:
                yield "comparison", inner, between(inner, inner.left, inner.comparators[0], old, new)
        elif isinstance(inner, ast.BoolOp):
            old, new = ("and", "or") if isinstance(inner.op, ast.And) else ("or", "and")
            whole = f" {new} ".join(text(value) for value in inner.values)
            yield "condition", inner, f"({whole})"
        elif isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.USub | ast.Not):
            yield "sign" if isinstance(inner.op, ast.USub) else "condition", inner, text(inner.operand)
        elif isinstance(inner, ast.Constant):
            yield from _constants(inner)
        elif isinstance(inner, ast.IfExp):
            yield "branch", inner, text(inner.body)
            yield "branch", inner, text(inner.orelse)
        elif isinstance(inner, ast.If | ast.While):
            yield "branch", inner.test, "False"
            if isinstance(inner, ast.If):
                yield "branch", inner.test, "True"
        elif isinstance(inner, ast.Attribute) and inner.attr in _LOOKALIKES:
            yield "neighbour", inner, f"{text(inner.value)}.{_LOOKALIKES[inner.attr]}"
        elif isinstance(inner, ast.Name) and inner.id in _LOOKALIKES and isinstance(inner.ctx, ast.Load):
            yield "neighbour", inner, _LOOKALIKES[inner.id]
        elif isinstance(inner, ast.Call):
            yield from _calls(inner, text)
        elif isinstance(inner, ast.AugAssign):
            yield "assign", inner, f"{text(inner.target)} = {text(inner.value)}"
            if isinstance(inner.op, ast.Add | ast.Sub):
                sign = "-" if isinstance(inner.op, ast.Add) else "+"
                yield "operator", inner, f"{text(inner.target)} {sign}= {text(inner.value)}"
        elif _only_acts(inner):
            yield "drop statement", inner, "pass"
        elif isinstance(inner, ast.Continue | ast.Break):
            yield "drop statement", inner, "break" if isinstance(inner, ast.Continue) else "continue"


def _only_acts(node: ast.AST) -> bool:
    """Whether a statement is there for its effect: a call, or an assignment into something; a name must stay bound."""
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant | ast.Yield)
    return isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name | ast.Tuple)


def _constants(node: ast.Constant) -> Iterator[Change]:
    if isinstance(node.value, bool):
        yield "constant", node, str(not node.value)
    elif isinstance(node.value, int):
        yield "constant", node, str(node.value + 1)
        if node.value > 1:
            yield "constant", node, str(node.value - 1)
    elif isinstance(node.value, float):
        yield "constant", node, repr(node.value * 2 if node.value else 1.0)


def _calls(node: ast.Call, text: Callable[[ast.AST], str]) -> Iterator[Change]:
    arguments = [*map(text, node.args)]
    keywords = [f"{k.arg}={text(k.value)}" if k.arg else f"**{text(k.value)}" for k in node.keywords]
    function = text(node.func)
    if len(node.args) >= 2 and not any(isinstance(value, ast.Starred) for value in node.args[:2]):
        swapped = [arguments[1], arguments[0], *arguments[2:], *keywords]
        yield "swap arguments", node, f"{function}({', '.join(swapped)})"
    for place, keyword in enumerate(node.keywords):
        if keyword in _assertions(node):
            continue
        rest = [*arguments, *keywords[:place], *keywords[place + 1 :]]
        yield "drop argument", node, f"{function}({', '.join(rest)})"


def _assertions(node: ast.AST) -> list[ast.keyword]:
    """Arguments that compute nothing: `strict` of zip says what is held to be true, as an assertion does."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip"):
        return []
    return [keyword for keyword in node.keywords if keyword.arg == "strict"]


def _computing(node: Definition) -> Iterator[ast.AST]:
    """What the body computes with, in order of the source: no annotations, error messages, assertions or names."""
    waiting: list[ast.AST] = list(reversed(node.body))
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, ast.Raise | ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom):
            continue
        yield inner
        children = list(ast.iter_child_nodes(inner))
        if isinstance(inner, ast.AnnAssign):
            children = [inner.target, *([inner.value] if inner.value is not None else [])]
        elif isinstance(inner, Definition):
            children = list(inner.body)
        idle = _assertions(inner)
        waiting.extend(child for child in reversed(children) if child not in idle)


def _program(code: CodeType) -> tuple[object, ...]:
    """What the compiler made of it, without places in the source."""
    constants = tuple(
        _program(value) if isinstance(value, CodeType) else (type(value), repr(value)) for value in code.co_consts
    )
    # In a call by keywords the names are a constant; all else that differs is in these.
    return (code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)


def _diff(function: Function, before: bytes, after: bytes) -> str:
    name = function.module if function.module.endswith(".py") else function.path.name
    lines = difflib.unified_diff(
        before.decode().splitlines(), after.decode().splitlines(), f"a/{name}", f"b/{name}", lineterm="", n=1
    )
    return "\n".join(lines)


def _line_starts(content: bytes) -> list[int]:
    """For each line, where it begins, in bytes."""
    starts = [0]
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def _span(node: ast.AST, starts: list[int]) -> tuple[int, int]:
    """First byte, and first after it. What ast counts are bytes of the line in UTF-8."""
    begin = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]  # only nodes that have a place
    end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
    return begin, end


def _statement_of(node: Definition, line: int, origin: int) -> tuple[int, int]:
    """First and last line, counted from `origin`, of the innermost statement in which a line lies.

    Of a compound statement those of its head. What lies in a function inside belongs to the statement that makes it:
    the body may run anywhere.
    """
    first, last = node.lineno, node.body[0].lineno - 1
    body: list[ast.stmt | ast.ExceptHandler] = [*node.body]
    while body:
        inner = next((each for each in body if _first_line(each) <= line <= (each.end_lineno or 0)), None)
        if inner is None:
            break
        parts = [getattr(inner, part, []) for part in ("body", "orelse", "handlers", "finalbody")]
        body = [] if isinstance(inner, Definition | ast.ClassDef) else [each for part in parts for each in part]
        first, last = _first_line(inner), (body[0].lineno - 1 if body else inner.end_lineno or 0)
    return first - origin, max(first, last) - origin


def _first_line(node: ast.stmt | ast.ExceptHandler) -> int:
    """The line in which a statement begins, its decorators included."""
    lines: list[int] = [node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))]
    return min(lines)
