"""Live functions exchanged in place: for a mutant, or for a wrapper that watches which lines run and what comes out.

The code of the function object is exchanged, so every reference to the function meets what was put in its place.
"""

from __future__ import annotations

import gc
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from types import CodeType, FrameType, FunctionType
from typing import Any

from nn_from_scratch.mutation.functions import Function
from nn_from_scratch.mutation.mutant import Mutant
from nn_from_scratch.mutation.result_faults import Observation, faulty, has_cotangent, keep_larger, observe
from nn_from_scratch.mutation.source import code_of, edited

_counter = iter(range(10**9))


def live_functions(function: Function) -> list[FunctionType]:
    """The function objects of this process that were made from that place in that file; none before it is imported."""
    path = os.path.realpath(function.path)
    name = function.qualname.rpartition(".")[2]
    return [
        found
        for found in gc.get_objects()
        if type(found) is FunctionType  # not isinstance: it asks objects that answer with a warning
        and found.__code__.co_name == name
        and found.__code__.co_firstlineno == function.line
        and _real_path(found.__code__.co_filename) == path
    ]


def install(mutant: Mutant, function: Function, live: Sequence[FunctionType]) -> bool:
    """Put the mutant in place of the live functions, for the rest of this process.

    Returns:
        Whether there are any: none if the function is not imported.
    """
    if mutant.kind == "source":
        code = code_of(function, edited(mutant, function.path.read_bytes()))
        for found in live:
            found.__code__ = code
    else:
        for found in live:
            wrap(found, lambda original: faulty(original, mutant.operator, mutant.place))
    return bool(live)


def wrap(function: FunctionType, make: Callable[[FunctionType], Callable[..., Any]]) -> None:
    """Have all who call the function call what `make` makes of it.

    Args:
        function: it stays the same object; its code becomes a call of the wrapper.
        make: from a function that does what this one did, to what is called in its place.
    """
    original = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    original.__kwdefaults__ = function.__kwdefaults__
    original.__dict__.update(function.__dict__)
    name = f"__nnfs_wrapper_{next(_counter)}"
    function.__globals__[name] = make(original)
    function.__code__ = _call_of(name, function.__code__)
    function.__defaults__ = function.__kwdefaults__ = None
    function.__dict__["__wrapped__"] = original  # where inspect.signature looks for the parameters


class FunctionWatch:
    """Watches functions: that they are called, which of their lines run, and what they return.

    Attributes:
        reached: by name of each function that was called since `begin`, its lines that ran, counted from
            its first one as 0; None if they cannot be told, because its body runs after the call.
        seen: by name, the shapes of what it returned.
        cotangents: names of the functions that take a cotangent.
    """

    def __init__(self) -> None:
        self.reached: dict[str, set[int] | None] = {}
        self.seen: dict[str, dict[str, Observation]] = {}
        self.cotangents: set[str] = set()
        self._caches: list[Any] = []

    def begin(self) -> None:
        """Forget what was reached, and what the functions' caches hold: else only the first of all calls is seen."""
        self.reached.clear()
        for each in self._caches:
            each.cache_clear()

    def put_on(self, function: FunctionType, name: str) -> None:
        """Watch a function, for the rest of this process."""
        if has_cotangent(function):
            self.cotangents.add(name)
        self._caches += [each for each in gc.get_referrers(function) if _is_cache_of(each, function)]
        later = inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function)
        wrap(function, partial(self._watched, name=name, later=later))

    def _watched(self, original: FunctionType, *, name: str, later: bool) -> Callable[..., Any]:
        codes = _with_inner(original.__code__)
        origin = original.__code__.co_firstlineno

        def call(*args: Any, **kwargs: Any) -> Any:
            if later:
                self.reached[name] = None
                return original(*args, **kwargs)
            lines = self.reached.setdefault(name, set())
            assert lines is not None

            def on_line(frame: FrameType, event: str, argument: Any) -> Any:
                lines.add(frame.f_lineno - origin)
                return on_line

            before = sys.gettrace()
            sys.settrace(lambda frame, event, argument: on_line if frame.f_code in codes else None)
            try:
                result = original(*args, **kwargs)
            finally:
                sys.settrace(before)
            keep_larger(self.seen.setdefault(name, {}), observe(result))
            return result

        return call


def _call_of(name: str, original: CodeType) -> CodeType:
    """Code that calls the global of this name; its free variables are the original's, as an exchange demands."""
    free = original.co_freevars
    lines = ["def outer():", *(f"    {variable} = None" for variable in free), "    def inner(*args, **kwargs):"]
    lines += ["        if False:", f"            ({', '.join(free)},)"] if free else []
    lines += [f"        return {name}(*args, **kwargs)", "    return inner"]
    outer = next(c for c in compile("\n".join(lines), "<mutant>", "exec").co_consts if isinstance(c, CodeType))
    inner = next(c for c in outer.co_consts if isinstance(c, CodeType))
    return inner.replace(co_name=original.co_name, co_firstlineno=original.co_firstlineno)


@cache
def _real_path(path: str) -> str:
    return os.path.realpath(path)


def _is_cache_of(candidate: object, function: FunctionType) -> bool:
    """Whether this is what functools.cache or lru_cache made of the function."""
    return hasattr(type(candidate), "cache_clear") and getattr(candidate, "__wrapped__", None) is function


def _with_inner(code: CodeType) -> set[CodeType]:
    """The code of a function, and of the functions, lambdas and comprehensions in it."""
    found = {code}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _with_inner(constant)
    return found
