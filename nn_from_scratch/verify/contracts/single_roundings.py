"""What one rounding of one intermediate result does to the outputs and gradients of a pass, operation by operation.

Rounding the inputs of a pass says how much its result depends on them. It does not say what happens inside: a
difference of two large numbers that cancel, a sum that is rounded once more before it is divided by, a comparison that
tips over. So a pass in float64 is repeated with the result of one operation moved by as much as a coarser dtype rounds
it, then that of the next one, forward and backward alike. Contributions add up like independent errors. Only the
largest few count, so that thousands of roundings in a row, one for each term of a sum, explain no more than a few do:
a sum of many terms should be accumulated in a finer dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import Pass, largest_entry
from nn_from_scratch.verify.protocol import Subject

Move = Callable[[Tensor, torch.dtype, torch.Generator], Tensor]


def _as_rounded(result: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Each entry as the coarser dtype holds it, so that what comes out equal there is equal here.

    What leaves its range stays, as that is more than a rounding.
    """
    rounded = result.to(dtype).to(result)
    fits = torch.isfinite(rounded) & (rounded.abs() >= torch.finfo(dtype).tiny)
    return torch.where(fits, rounded, result)


def _at_most(result: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Each entry up or down by the most that rounding moves it, unless the coarser dtype holds it (a sum of ones)."""
    signs = 2 * torch.randint(0, 2, result.shape, generator=generator) - 1
    moved = result * (1 + torch.finfo(dtype).eps / 2 * signs.to(result))
    return torch.where(result.to(dtype).to(result) == result, result, moved)


class _WatchedResults(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the results of operations, notes their range, and moves those at some places.

    It sees what torch computes below autograd, so the steps of a backward that torch derives are among them; views
    and constants are not, as they are not rounded.
    """

    def __init__(self, dtype: torch.dtype, places: range = range(0), move: Move = _at_most) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.places, self.move = dtype, places, move
        self.generator = torch.Generator().manual_seed(places.start)
        self.count = 0
        self.largest, self.largest_count, self.smallest = 0.0, 0.0, math.inf

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [*_tensors(args), *_tensors(tuple((kwargs or {}).values()))]
        result = func(*args, **(kwargs or {}))
        if given and not func.is_view:
            for tensor in _tensors(result):
                if tensor.is_floating_point() and tensor.numel():
                    self._visit(tensor)
        return result

    def _visit(self, tensor: Tensor) -> None:
        if self.count in self.places:
            tensor.copy_(self.move(tensor, self.dtype, self.generator))
        elif not self.places:
            size = tensor.abs()
            largest = float(size.max())
            self.largest = max(self.largest, largest)
            if bool((tensor == tensor.round()).all()):
                self.largest_count = max(self.largest_count, largest)
            self.smallest = min(self.smallest, float(torch.where(size == 0, math.inf, size).min()))
        self.count += 1


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from _tensors(entry)


class SingleRoundings:
    """The effects of single roundings on one pass in float64.

    Args:
        done: The pass without any.
        dtype: The coarser dtype.

    Attributes:
        count: How many results of torch's operations there are; 0 for a subject that computes elsewhere.
        largest: The largest magnitude among them; `largest_count` that of whole numbers, which count something;
            `smallest` the smallest one that is not zero.
    """

    def __init__(self, subject: Subject, done: Pass, context: CheckContext, dtype: torch.dtype) -> None:
        self._subject, self._done, self._context, self._dtype = subject, done, context, dtype
        watched = _WatchedResults(dtype)
        self._run(watched)
        self.count, self.largest, self.smallest = watched.count, watched.largest, watched.smallest
        self.largest_count = watched.largest_count

    def explain(self, name: str) -> float:
        """What the largest contributions together may do to a gradient, or to an output under "output " + name."""
        sizes = sorted((effect.get(name, 0.0) for effect in self._effects), reverse=True)
        return math.hypot(*sizes[: constants.ADDED_ROUNDINGS])

    @cached_property
    def _effects(self) -> list[dict[str, float]]:
        pairs = zip(self._all_effects(_at_most), self._all_effects(_as_rounded), strict=True)
        return [{name: max(a.get(name, 0.0), b.get(name, 0.0)) for name in a.keys() | b.keys()} for a, b in pairs]

    def _all_effects(self, move: Move) -> list[dict[str, float]]:
        groups = min(self.count, constants.ROUNDED_RESULTS)
        return [self._effect(range(first, self.count, groups), move) for first in range(groups)]

    def _run(self, mode: _WatchedResults) -> dict[str, Tensor]:
        done = self._done
        cotangents = {name: c.clone() for name, c in done.cotangents.items()}
        with mode:
            run = self._subject.run(done.values)
            gradients = run.backward(cotangents)
        found = {f"output {name}": y for name, y in run.outputs.items()}
        return {**found, **{name: g for name, g in gradients.items() if g is not None}}

    def _effect(self, places: range, move: Move) -> dict[str, float]:
        """How far everything moves with the results at these places moved; nothing if that raises."""
        self._context.require_time()
        try:
            found = self._run(_WatchedResults(self._dtype, places, move))
        except SubjectError:
            return {}
        known = {f"output {name}": y for name, y in self._done.outputs.items()} | dict(self._done.gradients)
        effect: dict[str, float] = {}
        for name, tensor in found.items():
            old = known.get(name)
            if old is not None and old.shape == tensor.shape and tensor.is_floating_point():
                size = largest_entry(tensor.double() - old.double())
                effect[name] = size if math.isfinite(size) else 0.0
        return effect
