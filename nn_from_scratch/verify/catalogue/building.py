"""The subject of a case with its parameters, and its inputs."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nn_from_scratch.verify.catalogue.cases import Case, Spec
from nn_from_scratch.verify.catalogue.twins import constructor_options

# How far from a kink the drawn inputs should be: a rounding in TF32, the coarsest, moves a value of one by 2^-10 ...
_CLEAR = 1e-3
# ... and how often they are drawn for that, twice as often as the engine's cases need, ...
_DRAWS = 8
# ... under seeds this far apart, a prime number, so that the draws of neighboring seeds differ.
_SEEDS_APART = 7919


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared:
    """A subject and all that it is called with.

    Attributes:
        subject: as `build` made it, on the device.
        arguments, options: what the subject is called with beside the inputs.
    """

    subject: Any
    inputs: tuple[Tensor, ...]
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def call(self, spec: Spec) -> tuple[Any, ...]:
        """The subject as it is verified, which draws the same in every call, and what it is called with, in order."""
        subject = self.subject if spec.repeatable is None else spec.repeatable(self.subject)
        return (subject, *(x.numpy() if spec.numpy else x for x in self.inputs), *self.arguments)


def build(spec: Spec, case: Case, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Any:
    """The subject of this case, on the CPU, its parameters (and where it has any, its masks) drawn under the seed."""
    generator = torch.Generator().manual_seed(seed)
    if _is_made(spec.subject):
        offered: dict[str, Any] = {"generator": generator, "dtype": dtype}
        taken = constructor_options(spec.subject)
        options = {**_cast(case.options, dtype), **{k: v for k, v in offered.items() if k in taken}}
        with _seeded(seed):
            subject = spec.subject(*case.arguments, **options)
    elif isinstance(spec.subject, type | tuple) or inspect.isroutine(spec.subject):
        return spec.subject
    else:
        subject = copy.deepcopy(spec.subject)  # so that no trial finds what another one left behind
    if callable(getattr(subject, "to", None)):
        subject.to(dtype=dtype)
    if spec.drawn:
        _draw_constants(subject, generator)
    if callable(getattr(subject, "train", None)):
        subject.train(case.training)
    return subject


def draw_inputs(case: Case, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Normally distributed inputs of the case's shapes; classes are drawn uniformly."""
    generator = torch.Generator().manual_seed(seed + 1)
    return tuple(
        torch.randint(case.classes[position], shape, generator=generator)
        if position in case.classes
        else torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for position, shape in enumerate(case.shapes)
    )


def prepare(
    spec: Spec, case: Case, *, seed: int = 0, dtype: torch.dtype = torch.float64, device: str = "cpu"
) -> Prepared:
    """The subject and its inputs, the same for the same arguments."""
    subject = build(spec, case, seed=seed, dtype=dtype)
    inputs = _clear_of_kinks(spec, case, subject, seed, dtype)
    if device != "cpu" and callable(getattr(subject, "to", None)):
        subject.to(device=device)
    made = _is_made(spec.subject)
    return Prepared(
        subject=subject,
        inputs=tuple(x.to(device) for x in inputs),
        arguments=() if made else case.arguments,
        options={} if made else _cast(case.options, dtype, device),
    )


def _clear_of_kinks(spec: Spec, case: Case, subject: Any, seed: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Inputs at some distance from every kink, or the furthest of several draws: rounding must not cross one."""
    best, furthest = draw_inputs(case, seed=seed, dtype=dtype), -1.0
    if spec.kinks is None:
        return best
    for draw in range(_DRAWS):
        inputs = draw_inputs(case, seed=seed + _SEEDS_APART * draw, dtype=dtype)
        distances = spec.kinks(subject, *inputs)
        distance = float(distances.min()) if distances.numel() else _CLEAR
        if distance > furthest:
            best, furthest = inputs, distance
        if furthest >= _CLEAR:
            break
    return best


def _is_made(subject: Any) -> bool:
    """Whether the subject of an entry is a class that each case makes an object of."""
    return isinstance(subject, type) and not issubclass(subject, torch.autograd.Function)


def _cast(options: Any, dtype: torch.dtype, device: str = "cpu") -> dict[str, Any]:
    return {
        name: value.to(device=device, dtype=dtype if value.is_floating_point() else None)
        if isinstance(value, Tensor)
        else value
        for name, value in options.items()
    }


def _draw_constants(subject: Any, generator: torch.Generator) -> None:
    # Above zero, because a variance must not be negative.
    for tensors in (subject.parameters(), subject.buffers()):
        for tensor in tensors.values() if isinstance(tensors, dict) else tensors:
            with torch.no_grad():
                if tensor.is_floating_point() and tensor.numel() and bool((tensor == tensor.flatten()[0]).all()):
                    tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.5)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Context manager under which torch, NumPy and Python draw from this seed; then they continue where they were."""
    of_numpy, of_python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(of_numpy)
            random.setstate(of_python)
