"""Calls with pairs of real numbers for what is complex, through which autograd differentiates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import cast

from torch import Tensor

from nn_from_scratch.verify.protocol import Subject, Values
from nn_from_scratch.verify.subjects.autograd import Answer, AutogradRun, AutogradSubject, TorchCall
from nn_from_scratch.verify.subjects.complex_pairs import ComplexPairs
from nn_from_scratch.verify.subjects.structure import name_outputs


class RealCall(TorchCall):
    """A call with pairs in the place of what is complex; it captures nothing complex."""

    def __init__(self, call: TorchCall, pairs: ComplexPairs) -> None:
        self.function, self.arguments = call.function, call.arguments
        self.captured, self.name = call.captured, call.name
        self.operands = pairs.operands
        self._call, self._pairs = call, pairs

    def __call__(self, tensors: Mapping[str, Tensor]) -> object:
        return self._pairs.seen(name_outputs(self._call(self._complex(tensors)), self.name))

    def placed(self, values: Values, frozen: Collection[str]) -> AbstractContextManager[None]:
        return self._call.placed(values, frozen)

    def within(self, run: AutogradRun, action: Callable[[], Answer]) -> Answer:
        inner = SimpleNamespace(values=self._complex(run.values), leaves=self._complex(run.leaves), frozen=run.frozen)
        return self._call.within(cast(AutogradRun, inner), action)

    def _complex(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self._pairs.inner(name, tensor) for name, tensor in tensors.items()}


def differentiated_by_autograd(subject: Subject) -> AutogradSubject | None:
    """The subject itself, with pairs for what is complex, where PyTorch's engine differentiates it; else None."""
    if not isinstance(subject, ComplexPairs):
        return subject if isinstance(subject, AutogradSubject) else None
    inner = subject.subject
    if not isinstance(inner, AutogradSubject) or subject.paired & inner.call.captured.keys():
        return None
    return AutogradSubject(RealCall(inner.call, subject), inner.target, inner.name, inner.form, silent=inner.silent)
