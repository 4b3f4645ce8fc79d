"""A subject as a plain function of tensors, to which torch's transforms can be applied (vmap, forward mode)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts.collector import ComparisonCollector
from nn_from_scratch.verify.contracts.validity import is_hand_written
from nn_from_scratch.verify.guarded import GuardedSubject
from nn_from_scratch.verify.protocol import Operand, Subject
from nn_from_scratch.verify.subjects.autograd import AutogradSubject
from nn_from_scratch.verify.subjects.call_arguments import private_values
from nn_from_scratch.verify.subjects.real_call import differentiated_by_autograd
from nn_from_scratch.verify.subjects.structure import name_outputs

OF_TORCH = 'all of the backward is PyTorch\'s own (level "full" looks all the same)'


def autograd_subject(subject: Subject) -> AutogradSubject | None:
    """The subject itself where PyTorch's engine differentiates it; None for any other form."""
    inner = subject.unguarded if isinstance(subject, GuardedSubject) else subject
    return differentiated_by_autograd(inner)


@dataclass(frozen=True, eq=False)
class PlainFunction:
    """A subject as a function of some of its tensors; the others keep their starting values.

    Tensors that it captures cannot be handed over and keep theirs too.
    """

    subject: Subject
    plain: AutogradSubject

    @property
    def operands(self) -> list[Operand]:
        """The operands that have a gradient and can be handed over."""
        captured = self.plain.call.captured
        return [op for op in self.plain.operands if op.differentiable and op.name not in captured]

    @property
    def is_hand_written(self) -> bool:
        """Whether a part of the backward is not PyTorch's own."""
        return is_hand_written(self.subject)

    def __call__(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs by name."""
        values = {**private_values(self.plain.operands, {}), **tensors}
        with self._guard():
            return self.plain.looked_at(name_outputs(self.plain.call(values), self.plain.name))

    def _guard(self) -> AbstractContextManager[Any]:
        return self.subject.guard("forward") if isinstance(self.subject, GuardedSubject) else nullcontext()


def plain_function(collector: ComparisonCollector) -> PlainFunction | str:
    """The subject as a function, or why no transform is tried on it."""
    plain = autograd_subject(collector.subject)
    if plain is None:
        return f"PyTorch's engine does not call the backward of a subject of the form {collector.subject.form!r}"
    function = PlainFunction(collector.subject, plain)
    if not function.operands:
        return "no tensor with a gradient can be handed over"
    if collector.context.level == "quick" and not function.is_hand_written:
        return OF_TORCH
    return function


def attempted(action: Callable[[], Any]) -> tuple[Any, str]:
    """What an action gives, and why it gives nothing: the first sentence of what was raised.

    Warnings are not shown: torch warns of slow ways of its own, and at its first use of some (as errors under pytest).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return action(), ""
    except SubjectError as error:
        return None, str(error)
    except Exception as error:  # whatever torch or the subject raises under a transform
        text = " ".join(str(error).split())
        return None, f"{type(error).__name__}: {text.partition('. ')[0][:200]}"
