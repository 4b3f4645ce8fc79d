"""What a diagnosis is given and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol

from torch import Tensor

from nn_from_scratch.errors import ArgumentError

__all__ = ["Cotangents", "Diagnosis", "DiagnosisContext", "GradientAt"]

Cotangents = Mapping[str, Tensor]


class GradientAt(Protocol):
    """A gradient of the same tensor in another experiment.

    `cotangents` has one tensor for each output, by name; `values` replaces some of the tensors by name, and
    the others keep the value that they have in `DiagnosisContext.tensors`. Gives None where the experiment
    cannot be done.
    """

    def __call__(self, cotangents: Cotangents, values: Mapping[str, Tensor]) -> Tensor | None:
        """The gradient in that experiment."""
        ...


@dataclass(frozen=True)
class Diagnosis:
    """The name of a fault that explains a whole wrong gradient.

    Attributes:
        kind: A stable identifier in kebab case, such as `sign` or `factor`; `docs/faults.md` lists them all.
            `layout`, `ambiguous` and the like stand for several explanations that these values cannot tell
            apart.
        sentence: One sentence for the terminal.
        details: Figures behind the sentence, such as `factor`, `names`, `axes`, `alternatives`.
    """

    kind: str
    sentence: str
    details: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True, kw_only=True)
class DiagnosisContext:
    """What is known about the experiment that gave a wrong gradient; everything is optional.

    The more is known, the more faults have a name. Tensors may have any floating dtype and device.

    Attributes:
        name: The tensor whose gradient is wrong, a key of `tensors`.
        role: Whether that tensor is an input or a parameter.
        batch_size: N; the axis 0 of an input is named N if it has this size.
        axes: Names of the gradient's axes, such as ("N", "C", "H", "W").
        tensors: The value of every tensor that the subject depends on, by name, in the subject's order.
        outputs: The subject's outputs, by name.
        cotangent: The cotangent, or one for each output by name.
        kernel_size: Of a convolution or pooling, one entry for each spatial axis; inferred from shapes if
            None.
        stride: Likewise.
        padding: Likewise.
        dilation: Likewise.
        constants: Named numbers of the subject (`eps`, `slope`), tried wherever such a number is needed.
        uses: How often the tensor is used in one forward pass.
        numeric_for_ones: The true gradient for cotangents of ones.
        gradient_for_other_cotangent: The subject's gradient for a different cotangent at the same point.
        previous_gradient: The subject's gradient from its previous call, which had other inputs or
            cotangents.
        initial_grad: What `.grad` held before the backward; `analytic` and `numeric` are then what `.grad`
            holds, and should hold, after it.
        contributions: Named parts of the true gradient that add up to it (one for each use, output or
            sample).
        known_gradients: Other true gradients that this one may have been mistaken for, by a phrase that
            completes "the gradient is ...", such as "the gradient of the other pending forward".
        numeric_gradients: The true gradients of the other tensors, by name.
        gradient_at: The subject's own gradient in another experiment.
        numeric_at: The true gradient in another experiment.
        experiments: How many calls of `numeric_at` and `gradient_at` one diagnosis may make, at most.
    """

    name: str | None = None
    role: Literal["input", "parameter"] | None = None
    batch_size: int | None = None
    axes: tuple[str, ...] | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    outputs: Mapping[str, Tensor] = field(default_factory=dict)
    cotangent: Tensor | Cotangents | None = None
    kernel_size: tuple[int, ...] | None = None
    stride: tuple[int, ...] | None = None
    padding: tuple[int, ...] | None = None
    dilation: tuple[int, ...] | None = None
    constants: Mapping[str, float] = field(default_factory=dict)
    uses: int | None = None
    numeric_for_ones: Tensor | None = None
    gradient_for_other_cotangent: Tensor | None = None
    previous_gradient: Tensor | None = None
    initial_grad: Tensor | None = None
    contributions: Mapping[str, Tensor] = field(default_factory=dict)
    known_gradients: Mapping[str, Tensor] = field(default_factory=dict)
    numeric_gradients: Mapping[str, Tensor] = field(default_factory=dict)
    gradient_at: GradientAt | None = None
    numeric_at: GradientAt | None = None
    experiments: int = 32

    def __post_init__(self) -> None:
        if self.name is not None and self.tensors and self.name not in self.tensors:
            raise ArgumentError(f"DiagnosisContext: name={self.name!r} must be None or one of {sorted(self.tensors)}.")
        if self.experiments < 0:
            raise ArgumentError(f"DiagnosisContext: experiments={self.experiments} must be at least 0.")

    @property
    def cotangents(self) -> Cotangents:
        """The cotangents by output name; empty if none is known."""
        if self.cotangent is None:
            return {}
        if isinstance(self.cotangent, Tensor):
            return {next(iter(self.outputs), "y"): self.cotangent}
        return self.cotangent

    @property
    def only_cotangent(self) -> Tensor | None:
        """The cotangent of a subject with a single output."""
        cotangents = self.cotangents
        return next(iter(cotangents.values())) if len(cotangents) == 1 else None
