"""The arguments of `check`, each looked at before anything runs: one of a wrong type or value is one sentence."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, get_args

from torch import Tensor

from nn_from_scratch.errors import ArgumentError, OptionTypeError
from nn_from_scratch.verify import constants
from nn_from_scratch.verify.context import Level
from nn_from_scratch.verify.reports import Fragile
from nn_from_scratch.verify.subjects.structure import describe


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _names(value: object) -> bool:
    """Whether a value is a collection of strings; a lone string is not."""
    return (
        isinstance(value, Collection)
        and not isinstance(value, str | bytes | Tensor | Mapping)
        and all(isinstance(name, str) for name in value)
    )


def _by_name(value: object, kind: type = object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(k, str) and isinstance(v, kind) for k, v in value.items())


#: Of each argument that is not merely one of a few words: whether a value has the right type, and what that is.
_TYPES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "seed": (lambda v: isinstance(v, Integral) and not isinstance(v, bool), "an integer"),
    "time_limit": (lambda v: v is None or _is_number(v), "a positive number of seconds, or None"),
    "factor": (_is_number, "a positive finite number"),
    "strict": (lambda v: isinstance(v, bool), "True or False"),
    "on_check": (lambda v: v is None or callable(v), "a function of a check's name"),
    "reference": (callable, "a function with the values that the forward should have"),
    "surrogate": (callable, "a function of the inputs, whose derivative the backward is meant to be"),
    "batch": (
        lambda v: isinstance(v, str) or _names(v) or _by_name(v, int),
        "the name of an input, names, or a dictionary of names and dimensions",
    ),
    "keywords": (_by_name, "a dictionary of arguments by name"),
    "parameters": (lambda v: _by_name(v, Tensor), "a dictionary of tensors by name"),
    "mapping": (lambda v: _by_name(v, str), "a dictionary of names"),
    "names": (_names, "a list of names"),
    "differentiable": (_names, "a list of names"),
    "cache": (lambda v: isinstance(v, bool), "True or False"),
    "form": (lambda v: isinstance(v, str), "the name of a form"),
    "name": (lambda v: isinstance(v, str), "a string"),
    **dict.fromkeys(constants.NUMBERS_OF_CHECKS, (_is_number, "a number of at least 0")),
}


def require_arguments(
    *, level: object, fragile: object, options: Mapping[str, object], known: Collection[str], **others: object
) -> None:
    """Refuse what makes no sense among the arguments of `check` (all but the subject, its inputs and `checks`).

    Args:
        level: One of the levels.
        fragile: One of the ways to take fragile gradients.
        options: The options of the subject and of single checks; None stands for what is not given.
        known: The names of all options that there are.
        others: Further arguments of `check`.

    Raises:
        ArgumentError: One has a value that makes no sense, or is unknown.
        OptionTypeError: One is of another type than what is expected; this is an `ArgumentError` too.
    """
    for name, value, words in (("level", level, get_args(Level)), ("fragile", fragile, get_args(Fragile))):
        if not isinstance(value, str) or value not in words:
            raise ArgumentError(f"{name}={shown(value)} should be one of {', '.join(words)}.")
    unknown = sorted(options.keys() - set(known))
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise ArgumentError(f"{unknown[0]} is not an option of check{meant}; there are {', '.join(sorted(known))}.")
    typed: dict[str, Any] = {**others, **{name: value for name, value in options.items() if value is not None}}
    for name, value in typed.items():
        if name in _TYPES and not _TYPES[name][0](value):
            raise OptionTypeError(f"{name}={shown(value)} should be {_TYPES[name][1]}.")
    limit, factor = typed["time_limit"], typed["factor"]
    if not (limit is None or limit > 0):
        raise ArgumentError(f"time_limit={limit!r} should be {_TYPES['time_limit'][1]}.")
    if not 0 < factor < math.inf:
        raise ArgumentError(f"factor={factor!r} should be {_TYPES['factor'][1]}.")
    for name in constants.NUMBERS_OF_CHECKS:
        number = typed.get(name, 0)
        if not number >= 0:
            raise ArgumentError(f"{name}={number!r} should be {_TYPES[name][1]}.")


def seconds_of(time_limit: float | None) -> float | None:
    """The time limit that threads can wait for; one without an end, or beyond what a clock holds, is none at all."""
    return None if time_limit is None or time_limit > constants.LONGEST_TIME_LIMIT else float(time_limit)


def asked_checks(checks: str | Iterable[str] | None, known: Collection[str]) -> list[str] | None:
    """The names of the checks that were asked for or, with a minus, not wanted; None where nothing was said.

    Raises:
        ArgumentError: One is unknown.
        OptionTypeError: It is neither a string nor a collection of them.
    """
    if checks is None:
        return None
    asked: Any = [part.strip() for part in checks.split(",")] if isinstance(checks, str) else checks
    if not _names(asked):
        raise OptionTypeError(f"checks={shown(checks)} should be the name of a check, or a list of names.")
    for entry in asked:
        if entry.removeprefix("-") not in known:
            raise ArgumentError(f"checks={entry!r} should be among {', '.join(known)}, or one of them after a minus.")
    return list(asked)


def shown(value: object) -> str:
    """A value within a sentence: its text if that is short and on one line, else what it is."""
    if isinstance(value, str | int | float) or value is None or isinstance(value, tuple | list | dict | set):
        text = repr(value)
        if len(text) <= constants.SHOWN_CHARACTERS and "\n" not in text:
            return text
    return describe(value)
