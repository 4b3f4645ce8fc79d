"""Functions under watch: that they are called, which of their lines run, and what they return."""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Callable
from functools import partial
from types import CodeType, FrameType, FunctionType
from typing import Any

from nn_from_scratch.mutation.installation import wrap
from nn_from_scratch.mutation.results import Observation, has_cotangent, observe

__all__ = ["Watch"]


class Watch:
    """What is seen of the functions that it is put on.

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
        for cache in self._caches:
            cache.cache_clear()

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
            places = self.seen.setdefault(name, {})
            for place, observation in observe(result).items():
                if place not in places or places[place].rank < observation.rank:
                    places[place] = observation
            return result

        return call


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
