"""A mutant in place of the live function: its code is exchanged, so every reference to the function sees the mutant."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from functools import cache
from types import CodeType, FunctionType
from typing import Any

from nn_from_scratch.mutation.functions import Function
from nn_from_scratch.mutation.mutant import Mutant
from nn_from_scratch.mutation.results import faulty
from nn_from_scratch.mutation.source import code_of, edited

__all__ = ["install", "live_functions", "wrap"]

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
