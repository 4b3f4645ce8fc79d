"""From the text of a target to the functions that it names, by reading their source."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from nn_from_scratch.errors import ArgumentError, SubjectError

Definition = ast.FunctionDef | ast.AsyncFunctionDef

#: What a function that computes a gradient is usually called.
BACKWARD = re.compile(r"_?(backward|bwd|vjp|grad|input_vjp|parameter_vjps?)|\w+_(backward|bwd|vjps?)|backward_\w+")


@dataclass(frozen=True)
class Function:
    """A function in a source file.

    Attributes:
        name: "package.module:Class.method", or "folder/file.py:Class.method" where the target named a file.
        qualname: "Class.method".
        line: the first line, decorators included, from 1.
    """

    name: str
    path: Path
    qualname: str
    line: int

    @property
    def module(self) -> str:
        """What stands before the colon: a module's name, or a file."""
        return self.name.split(" (line ")[0].rpartition(":")[0]

    def source(self) -> bytes:
        """The lines of the function, decorators included.

        Raises:
            ArgumentError: the file has changed since the function was found.
        """
        content = self.path.read_bytes()
        node = definition(self, ast.parse(content))
        return b"".join(content.splitlines(keepends=True)[self.line - 1 : node.end_lineno])


def find_functions(targets: Sequence[str]) -> list[Function]:
    """The functions that the targets name, each once, in order.

    Args:
        targets: each `PLACE` or `PLACE:NAME,NAME`. A place is a module, a package (with all in it) or a file that ends
            in .py. A name is that of a function or method ("Class.method"), of a class (its backward methods), or a
            pattern with `*`. Without names: every function that is called like a backward pass.

    Raises:
        ArgumentError: a target is not of that form, or there is no such place or function.
        SubjectError: a module on the way cannot be imported.
    """
    found: dict[str, Function] = {}
    for target in targets:
        place, _, names = target.partition(":") if not re.match(r"^[A-Za-z]:[\\/]", target) else target.rpartition(":")
        patterns = [name.strip() for name in names.split(",") if name.strip()]
        if not place or (":" in target and not patterns):
            raise ArgumentError(f"target is {target!r}, but module, module:name or path/to/file.py:name is expected")
        files = list(_files(place, target))
        for pattern in patterns or [""]:
            chosen = [function for module, path in files for function in _chosen(module, path, pattern)]
            if not chosen and pattern:
                chosen = _exported(place, pattern)
            if not chosen:
                raise ArgumentError(f"target is {target!r}, but {_nothing(files, pattern)}")
            for function in chosen:  # a property and its setter have one name
                taken = found.get(function.name, function)
                other = taken.line != function.line
                name = f"{function.name} (line {function.line})" if other else function.name
                found[name] = replace(function, name=name)
    return list(found.values())


def definition(function: Function, tree: ast.Module) -> Definition:
    """The function's node in the tree of its file."""
    for qualname, node in _definitions(tree):
        if qualname == function.qualname and _first_line(node) == function.line:
            return node
    raise ArgumentError(f"{function.path} has changed: {function.qualname} is no longer in line {function.line}")


def _chosen(module: str, path: Path, pattern: str) -> list[Function]:
    """The functions of a file that a pattern names; those that have a body, for an abstract one computes nothing."""
    with_body = [
        (qualname, node)
        for qualname, node in _definitions(_parse(path))
        if not all(_computes_nothing(statement) for statement in node.body)
    ]
    backward = [(q, n) for q, n in with_body if BACKWARD.fullmatch(n.name)]
    if not pattern:
        chosen = backward
    else:
        chosen = [(q, n) for q, n in with_body if q == pattern or ("*" in pattern and fnmatchcase(q, pattern))]
        chosen = chosen or [(q, n) for q, n in backward if q == f"{pattern}.{n.name}"]
    return [Function(f"{module}:{q}", path, q, _first_line(n)) for q, n in chosen]


def _exported(place: str, name: str) -> list[Function]:
    """The functions of something that the module has from elsewhere, such as a name of a package's front."""
    if place.endswith(".py"):
        return []
    try:
        value: object = importlib.import_module(place)
        for part in name.split("."):
            value = getattr(value, part)
        value = inspect.unwrap(value) if callable(value) else value
        path = Path(inspect.getsourcefile(value) or "")  # type: ignore[arg-type]  # what it refuses is caught here
    except (AttributeError, TypeError, OSError):
        return []
    except (Exception, SystemExit) as error:  # user code; its sys.exit(0) must not end as our success
        raise SubjectError(f"module {place!r} cannot be imported: {type(error).__name__}: {error}") from error
    return _chosen(str(getattr(value, "__module__", place)), path, str(getattr(value, "__qualname__", name)))


def _files(place: str, target: str) -> Iterator[tuple[str, Path]]:
    if place.endswith(".py"):
        if not Path(place).is_file():
            raise ArgumentError(f"target is {target!r}, but there is no file {place!r}")
        yield place, Path(place).resolve()
        return
    if "" not in sys.path:
        sys.path.insert(0, "")  # the current folder, as under `python -m`
    try:
        spec = importlib.util.find_spec(place)
    except (Exception, SystemExit) as error:
        raise SubjectError(f"module {place!r} cannot be found: {type(error).__name__}: {error}") from error
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ArgumentError(f"target is {target!r}, but there is no module {place!r} written in Python")
    front = Path(spec.origin).resolve()
    yield place, front
    if spec.submodule_search_locations is None:
        return
    for path in sorted(front.parent.rglob("*.py")):
        parts = path.relative_to(front.parent).with_suffix("").parts
        inner = parts[:-1] if parts[-1] == "__init__" else parts
        if inner:
            yield ".".join([place, *inner]), path


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise SubjectError(f"file {str(path)!r} is not Python: line {error.lineno}: {error.msg}") from error


def _definitions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """The functions of a module and the methods of its classes; a function inside another is part of that one."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            yield prefix + child.name, child
        else:
            yield from _definitions(child, f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix)


def _computes_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise):
        return "NotImplementedError" in ast.unparse(statement)
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def _first_line(node: Definition) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _nothing(files: Sequence[tuple[str, Path]], pattern: str) -> str:
    names = [q for _, path in files for q, _ in _definitions(_parse(path))]
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    known = f"there are: {listed}" if names else "it defines no functions"
    if not pattern:
        return f"nothing in it is called like a backward pass; {known}"
    return f"there is no function {pattern!r}, nor a class of that name with a backward; {known}"
