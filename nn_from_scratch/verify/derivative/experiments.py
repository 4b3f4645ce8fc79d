"""Gradients of other experiments, for the diagnosis: other cotangents, other values of the operands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.context import Budget
from nn_from_scratch.verify.derivative import constants
from nn_from_scratch.verify.derivative.entries import entry_gradient
from nn_from_scratch.verify.derivative.linearization import point_with
from nn_from_scratch.verify.derivative.probes import DirectionalProbe, VariedOperand, directional
from nn_from_scratch.verify.diagnosis.constants import TINY

Named = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Experiments:
    """The gradients of one operand, the subject's and the true one, in other experiments.

    Attributes:
        gradient: The subject's gradient, which is wrong.
        numeric: The true gradient.
        start: A largest step that suits the function, relative to the operand's size.
        budget: What numerical gradients may take.
    """

    varied: VariedOperand
    gradient: Tensor | None
    numeric: Tensor
    start: float
    budget: Budget

    def subject_gradient(self, cotangents: Named, values: Named) -> Tensor | None:
        """The subject's own gradient."""
        moved = self._at(cotangents, values, differentiated=True)
        return None if moved is None else moved.gradient

    def true_gradient(self, cotangents: Named, values: Named) -> Tensor | None:
        """The numerical gradient; None also where the wrong one is no combination of it and the true one."""
        moved = self._at(cotangents, values, differentiated=False)
        return None if moved is None else self._numeric(moved)

    def gradient_of(self, name: str) -> Tensor | None:
        """The numerical gradient of another operand in the same experiment; None as for `true_gradient`."""
        other = VariedOperand.at(self.varied.point, name, self.varied.context)
        return self._numeric(replace(other, row=self.varied.row)) if other.operand.differentiable else None

    def _numeric(self, moved: VariedOperand) -> Tensor | None:
        seconds = min(constants.SHARE_FOR_RECOMPUTING * self.varied.context.remaining, self.budget.left)
        try:
            if not self._may_explain(moved):
                return None
            found = entry_gradient(moved, start=self.start, seconds=seconds)
        except SubjectError:
            return None
        return found.value if found is not None and bool(torch.isfinite(found.value).all()) else None

    def _at(self, cotangents: Named, values: Named, *, differentiated: bool) -> VariedOperand | None:
        """The operand at other values, with another cotangent; None where the subject does not go."""
        point, varied = self.varied.point, self.varied
        placed = {**point.values, **{name: value.to(point.values[name]) for name, value in values.items()}}
        if placed[varied.name].shape != varied.x.shape:
            return None
        try:
            moved = point_with(point.subject, placed, cotangents, differentiated=differentiated)
        except SubjectError:
            return None
        return replace(varied, point=moved, row=0) if moved.finite is None else None

    def _may_explain(self, moved: VariedOperand) -> bool:
        """Whether a few directional derivatives leave it possible that the wrong gradient is a·this + b·the true one.

        A whole numerical gradient takes a table for each entry; most experiments explain nothing, and a few differences
        say so. Whatever they cannot tell is possible.
        """
        gradient = self.gradient
        few = moved.x.numel() <= constants.SCREENING_DIRECTIONS
        if few or gradient is None or gradient.shape != moved.x.shape or gradient.is_complex():
            return True
        true = self.numeric if self.numeric.shape == moved.x.shape else torch.zeros_like(moved.x)
        rows = []
        for k in range(constants.SCREENING_DIRECTIONS):
            probe = DirectionalProbe(moved, moved.direction("screening", k))
            wide, narrow = (probe.slope(share * self.start) for share in constants.SCREENING_STEPS)
            along = (directional(g, probe.direction)[0] for g in (gradient, true.to(probe.direction)))
            rows.append((*along, narrow, abs(wide - narrow)))
        wrong, *terms, error = torch.tensor(rows, dtype=torch.float64).T
        # Columns of one length, so that neither is lost in the rounding of the other.
        matrix = torch.nn.functional.normalize(torch.stack(terms, dim=1), dim=0)
        residual = torch.linalg.vector_norm(wrong - matrix @ (torch.linalg.pinv(matrix) @ wrong))
        unknown = torch.linalg.vector_norm(error) / torch.linalg.vector_norm(terms[1]).clamp(min=TINY)
        allowed = (constants.SCREENING_RESIDUAL + unknown) * torch.linalg.vector_norm(wrong)
        return not bool(residual > allowed)  # NaN says nothing
