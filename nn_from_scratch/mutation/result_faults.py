"""Mutants by a fault in what a function returns, or in how it treats the cotangent that it is given."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nn_from_scratch.mutation.functions import Function
from nn_from_scratch.mutation.mutant import Mutant

Memory = dict[str, Any]
#: Names under which a cotangent is handed over.
_COTANGENT = re.compile(r"g|dy|gy|gz|dout|dz|upstream|cotangents?|grad\w*|d_?out\w*|g_?out\w*|gradwrtoutput|out_bar")


@dataclass(frozen=True)
class Observation:
    """The largest shape, and whether it is one of floating-point numbers, that a place of a result was seen with.

    Attributes:
        shape: sizes; of all tensors seen, the one with most axes, then with most entries.
        floating: whether the dtype is of floating-point numbers.
    """

    shape: tuple[int, ...]
    floating: bool

    @property
    def rank(self) -> tuple[int, int]:
        """Which of two observations tells more."""
        return len(self.shape), int(np.prod(self.shape))


@dataclass(frozen=True)
class ResultFault:
    """A fault in a function's result, or in its treatment of the cotangent.

    Attributes:
        meaning: a sentence's end: "the gradient ...".
        fault: the faulty tensor from the right one; None if the fault is in the treatment of the cotangent.
        least: number of axes, at the end, that it works on; a tensor must have them, longer than one entry.
        first_axis: whether it works on the first axis instead.
        cotangent: the faulty cotangent from the right one.
    """

    meaning: str
    fault: Callable[[Tensor, Memory], Tensor] | None = None
    least: int = 0
    first_axis: bool = False
    cotangent: Callable[[Tensor], Tensor] | None = None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape would show the fault."""
        sizes = shape[:1] if self.first_axis else shape[len(shape) - self.least :]
        return self.fault is not None and len(shape) >= self.least and all(size > 1 for size in sizes)


def _last_entry(t: Tensor, memory: Memory) -> Tensor:
    out = t.clone(memory_format=torch.contiguous_format)
    if out.numel():
        out.view(-1)[-1] *= 1.1
    return out


def _without_last(t: Tensor, memory: Memory) -> Tensor:
    out = t.clone()
    out[..., -1:] = 0
    return out


def _first_sample(t: Tensor, memory: Memory) -> Tensor:
    out = t.clone()
    out[1:] = 0
    return out


def _stale(t: Tensor, memory: Memory) -> Tensor:
    before, memory["before"] = memory.get("before"), t.clone()
    return before if before is not None and before.shape == t.shape and before.dtype == t.dtype else t


def _buffer(t: Tensor, memory: Memory) -> Tensor:
    key = f"{tuple(t.shape)} {t.dtype} {t.device}"
    if key not in memory:
        memory[key] = t.clone()
    return memory[key].copy_(t)  # type: ignore[no-any-return]  # a tensor, put there above


def _modify(cotangent: Tensor) -> Tensor:
    return cotangent.mul_(2) if cotangent.numel() and not _overlaps(cotangent) else cotangent


def _overlaps(t: Tensor) -> bool:
    return any(step == 0 and size > 1 for step, size in zip(t.stride(), t.shape, strict=True))


OPERATORS: Mapping[str, ResultFault] = {
    "sign": ResultFault("has the wrong sign", lambda t, _: -t),
    "zero": ResultFault("is zero", lambda t, _: torch.zeros_like(t)),
    "twice": ResultFault("is twice too large", lambda t, _: 2 * t),
    "times length": ResultFault("is N times too large", lambda t, _: t * len(t), least=1, first_axis=True),
    "over length": ResultFault("is N times too small", lambda t, _: t / len(t), least=1, first_axis=True),
    "inexact": ResultFault("is too large by one part in ten thousand", lambda t, _: t * 1.0001),
    "one entry": ResultFault("is too large by a tenth in its last entry", _last_entry),
    "border": ResultFault("is zero at the end of its last axis", _without_last, least=1),
    "first sample": ResultFault("is zero beyond the first sample", _first_sample, least=1, first_axis=True),
    "transposed": ResultFault(
        "has its last two axes transposed", lambda t, _: t.transpose(-1, -2).reshape(t.shape), least=2
    ),
    "flipped": ResultFault("is flipped along its last axis", lambda t, _: t.flip(-1), least=1),
    "shifted": ResultFault("is shifted by one along its last axis", lambda t, _: t.roll(1, -1), least=1),
    "averaged": ResultFault(
        "is averaged over its first axis",
        lambda t, _: t.mean(0, keepdim=True).expand(t.shape).clone(),
        least=1,
        first_axis=True,
    ),
    "stale": ResultFault("is that of the call before", _stale),
    "buffer": ResultFault("lies in a buffer that the next call overwrites", _buffer),
    "float32 fault": ResultFault(
        "is wrong by a thousandth in float32 alone", lambda t, _: t * 1.001 if t.dtype == torch.float32 else t
    ),
    "rounded": ResultFault("is rounded to float32", lambda t, _: t.float().to(t.dtype)),
    "nan hidden": ResultFault("hides nan and infinity", lambda t, _: t.nan_to_num()),
    "ones for cotangent": ResultFault("ignores the cotangent, as if it were ones", cotangent=torch.ones_like),
    "cotangent modified": ResultFault("is right, but the cotangent is doubled in place", cotangent=_modify),
}


def result_mutants(function: Function, seen: Mapping[str, Observation], *, cotangent: bool) -> list[Mutant]:
    """The mutants of this function that a fault in its result makes.

    Args:
        seen: what it was seen to return while the tests ran: by place, as `observe` gives it.
        cotangent: whether it is handed a cotangent.
    """
    floating = {place: observation.shape for place, observation in seen.items() if observation.floating}
    faults = [(place, name) for place, shape in floating.items() for name in OPERATORS if OPERATORS[name].fits(shape)]
    if cotangent and floating:
        faults += [("", name) for name in OPERATORS if OPERATORS[name].cotangent is not None]
    return [
        Mutant(
            id=f"{function.name}/result: {name}{f'/{place}' if place else ''}",
            function=function.name,
            kind="result",
            operator=name,
            place=place,
            diff=f"{function.name}: the gradient {f'{place!r} ' if place else ''}{OPERATORS[name].meaning}",
        )
        for place, name in faults
    ]


def observe(result: object) -> dict[str, Observation]:
    """The tensors and arrays of a result by place: "" alone, "0", "1", ... in a sequence, the key in a mapping."""
    return {
        place: Observation(tuple(t.shape), t.is_floating_point())
        for place, value in _places(result).items()
        if (t := _tensor(value)) is not None
    }


def keep_larger(known: dict[str, Observation], found: Mapping[str, Observation]) -> None:
    """Put what was found into what is known, place by place, where it tells more."""
    for place, observation in found.items():
        if place not in known or known[place].rank < observation.rank:
            known[place] = observation


def has_cotangent(function: Callable[..., Any]) -> bool:
    """Whether the function's parameters say that it takes a cotangent."""
    return _cotangent_place(function) is not None


def faulty(function: Callable[..., Any], operator: str, place: str) -> Callable[..., Any]:
    """The function with a fault in it."""
    chosen = OPERATORS[operator]
    memory: Memory = {}
    where = _cotangent_place(function)

    def call(*args: Any, **kwargs: Any) -> Any:
        if chosen.fault is None:
            assert where is not None and chosen.cotangent is not None
            return function(*_with_cotangent(args, where, chosen.cotangent), **kwargs)
        fault = chosen.fault

        def change(value: Any) -> Any:
            tensor = _tensor(value)
            if tensor is None or not tensor.is_floating_point() or tensor.dim() < chosen.least:
                return value
            with torch.no_grad():
                changed = fault(tensor, memory)
            return changed.numpy() if isinstance(value, np.ndarray) else changed

        return _replaced(function(*args, **kwargs), place, change)

    return call


#: A longer result is a collection, not one gradient beside another.
_MOST_PLACES = 8


def _places(result: object) -> dict[str, object]:
    if isinstance(result, Mapping):
        named = all(isinstance(key, str) for key in result)
        return dict(result) if named and len(result) <= _MOST_PLACES else {}
    if isinstance(result, Sequence) and not isinstance(result, str):
        return {str(place): value for place, value in enumerate(result)} if len(result) <= _MOST_PLACES else {}
    return {"": result}


def _replaced(result: Any, place: str, change: Callable[[Any], Any]) -> Any:
    if isinstance(result, Mapping):
        return {key: change(value) if key == place else value for key, value in result.items()}
    if isinstance(result, Sequence) and not isinstance(result, str):
        values = [change(value) if str(at) == place else value for at, value in enumerate(result)]
        if hasattr(result, "_fields"):
            return type(result)(*values)
        return values if isinstance(result, list) else tuple(values)
    return change(result) if not place else result


def _tensor(value: object) -> Tensor | None:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        return torch.from_numpy(np.array(value))  # a copy: the original may be read-only or of negative strides
    return value if isinstance(value, Tensor) else None


def _cotangent_place(function: Callable[..., Any]) -> int | None:
    """The place of the first cotangent among the positional arguments; what follows `ctx` are cotangents."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    for place, parameter in enumerate(parameters):
        if parameter.name in ("self", "cls", "ctx"):
            continue
        after_ctx = place > 0 and parameters[place - 1].name == "ctx"
        fits = after_ctx or _COTANGENT.fullmatch(parameter.name) is not None
        if fits and parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            return place
    return None


def _with_cotangent(args: tuple[Any, ...], where: int, change: Callable[[Tensor], Tensor]) -> tuple[Any, ...]:
    def one(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            with torch.no_grad():
                return change(value)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.flags.writeable:
            return change(torch.from_numpy(value)).numpy()  # the same memory, so that a change in place is one there
        return value

    return (*args[:where], *(one(value) for value in args[where : where + 1]), *args[where + 1 :])
