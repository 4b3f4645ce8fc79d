"""Complex tensors as pairs of real numbers, in which every check can work.

In PyTorch's convention the gradient of a real function L by a complex z is dL/d(Re z) + i dL/d(Im z), and a cotangent v
of an output f stands for L = Re <v, f>. As pairs of real numbers both are the ordinary gradient and cotangent, whether
the function is real to complex, complex to real or complex to complex.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Operand, Run, Subject, Values

NOTE = (
    "complex tensors are looked at as pairs of real numbers: a last index of 0 is the real part, of 1 the imaginary one"
)
_REAL = (torch.float64, torch.float32, torch.float16)  # there are complex numbers of these


def pairs_of(tensor: Tensor) -> Tensor:
    """The real and imaginary parts along a last dimension, on the same memory where that is possible."""
    return torch.view_as_real(tensor.resolve_conj().resolve_neg()) if tensor.is_complex() else tensor


def complex_of(pairs: Tensor, name: str, subject: str) -> Tensor:
    """The complex numbers of such pairs, on the same memory where their layout allows it.

    Raises:
        SubjectError: they are no such pairs, or of a dtype of which there are no complex numbers.
    """
    if pairs.dtype not in _REAL or not pairs.dim() or pairs.shape[-1] != 2:
        raise SubjectError(f"{name} of {subject} is complex, and there are no complex numbers of {pairs.dtype}")
    strides = (*pairs.stride()[:-1], pairs.storage_offset())
    if pairs.stride(-1) == 1 and all(stride % 2 == 0 for stride in strides):
        return torch.view_as_complex(pairs)
    return torch.complex(pairs[..., 0], pairs[..., 1])


class PairsRun:
    """A forward pass whose complex tensors are seen as pairs."""

    def __init__(self, subject: ComplexPairs, run: Run) -> None:
        self._subject, self.run = subject, run
        self.outputs: Mapping[str, Tensor] = subject.seen(run.outputs)

    @property
    def handed(self) -> Mapping[str, Tensor]:
        return {n: pairs_of(t) if n in self._subject.paired else t for n, t in self.run.handed.items()}

    def backward(self, cotangents: Cotangents) -> Gradients:
        return self._subject.gradients(self.run.backward(self._subject.cotangents(cotangents)))

    def backward_onto(self, cotangents: Cotangents, held: Gradients) -> Gradients:
        given = {n: None if g is None else self._subject.inner(n, g) for n, g in held.items()}
        return self._subject.gradients(self.run.backward_onto(self._subject.cotangents(cotangents), given))

    def release(self) -> None:
        self.run.release()
        self.outputs = {}


class ComplexPairs:
    """A subject with its complex operands and outputs as pairs of real numbers, (..., 2).

    Attributes:
        paired: The names of the operands that are pairs.
    """

    def __init__(self, subject: Subject, outputs: Mapping[str, Tensor]) -> None:
        self.subject = subject
        self.name, self.form, self.target = subject.name, subject.form, subject.target
        self.notes: tuple[str, ...] = (*subject.notes, NOTE)
        self.paired = frozenset(op.name for op in subject.operands if op.differentiable and op.value.is_complex())
        self.complex_outputs = frozenset(name for name, y in outputs.items() if y.is_complex())
        self.traits = replace(subject.traits, pairs=self.paired | self.complex_outputs)
        self.operands: tuple[Operand, ...] = tuple(
            replace(operand, value=pairs_of(operand.value)) if operand.name in self.paired else operand
            for operand in subject.operands
        )

    def inner(self, name: str, tensor: Tensor) -> Tensor:
        """The value of an operand as the subject itself takes it."""
        return complex_of(tensor, name, self.name) if name in self.paired else tensor

    def seen(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs with complex ones as pairs."""
        return {name: pairs_of(y) for name, y in outputs.items()}

    def cotangents(self, cotangents: Cotangents) -> dict[str, Tensor]:
        """The cotangents as the subject itself takes them."""
        return {
            name: complex_of(v, f"the cotangent of {name}", self.name) if name in self.complex_outputs else v
            for name, v in cotangents.items()
        }

    def gradients(self, gradients: Gradients) -> dict[str, Tensor | None]:
        """The gradients with those of pairs as pairs; a real one has no imaginary part."""
        return {n: g if g is None or n not in self.paired else _gradient_pairs(g) for n, g in gradients.items()}

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        return self.seen(self.subject.forward({name: self.inner(name, x) for name, x in values.items()}))

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> PairsRun:
        given = {name: self.inner(name, x) for name, x in values.items()}
        return PairsRun(self, self.subject.run(given, beside=_inner_run(beside), frozen=frozen))

    def backward_together(self, runs: Sequence[Run], cotangents: Sequence[Cotangents]) -> Gradients:
        own = [run.run if isinstance(run, PairsRun) else run for run in runs]
        return self.gradients(self.subject.backward_together(own, [self.cotangents(each) for each in cotangents]))

    def rebuilt(self, target: object) -> ComplexPairs:
        again = self.subject.rebuilt(target)
        return ComplexPairs(again, again.forward({}))


def with_pairs(subject: Subject) -> Subject:
    """The subject, with pairs in the place of what is complex of its differentiable operands and its outputs."""
    try:
        outputs = subject.forward({})
    except SubjectError:
        return subject
    complex_operands = any(operand.differentiable and operand.value.is_complex() for operand in subject.operands)
    if not complex_operands and not any(y.is_complex() for y in outputs.values()):
        return subject
    return ComplexPairs(subject, outputs)


def _gradient_pairs(gradient: Tensor) -> Tensor:
    if gradient.layout != torch.strided or gradient.is_nested or gradient.is_quantized:
        return gradient
    return pairs_of(gradient) if gradient.is_complex() else torch.stack([gradient, torch.zeros_like(gradient)], -1)


def _inner_run(run: Run | None) -> Run | None:
    return run.run if isinstance(run, PairsRun) else run
