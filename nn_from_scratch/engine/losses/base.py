"""The base of all losses."""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.engine.graph import propagate
from nn_from_scratch.engine.layer import Layer
from nn_from_scratch.engine.module import Gradients
from nn_from_scratch.errors import ArgumentError, MissingRecordError, ShapeError


class Loss(Layer):
    """The base of all losses: `backward()` without an argument propagates every pair that is remembered.

    A pair is a record like any other layer's, so it disappears with the records that its prediction came from.

    Args:
        reduction: "mean" or "sum" of the entries' losses, or "none" for the losses themselves.

    Raises:
        ArgumentError: `reduction` is not one of the three.
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ArgumentError(f"reduction is {reduction!r}, but 'mean', 'sum' or 'none' is expected")
        self.reduction = reduction

    def reduced(self, losses: Tensor) -> Tensor:
        """What the losses of the entries become."""
        if self.reduction == "mean":
            return losses.mean()
        return losses.sum() if self.reduction == "sum" else losses

    def spread(self, g: Tensor, n: int, factor: float = 1) -> Tensor:
        """The cotangent of each of the n entries' losses times a factor; a scalar where it is the same for all."""
        return g * (factor / max(n, 1)) if self.reduction == "mean" else g * factor

    def __repr__(self) -> str:
        return self.describe(reduction=(self.reduction, "mean"))

    def backward(self, gradwrtoutput: Tensor | None = None) -> Gradients:
        """Propagate the remembered pairs, adding to the gradients of the parameters that made the predictions.

        Args:
            gradwrtoutput: None for every pair, each with the cotangent one, as if their losses had been added.
                A tensor of the loss's shape for one pair alone: the one that its `input_index` names.

        Returns:
            Nothing without an argument; else the gradients of prediction and target.

        Raises:
            MissingRecordError: no pair is remembered.
        """
        if gradwrtoutput is not None:
            return super().backward(gradwrtoutput)
        if not self._records:
            raise MissingRecordError(
                f"{self.short_name()} remembers no pair of prediction and target: compute the loss before backward "
                "(zero_grad and clear_saved_tensors forget the earlier ones)"
            )
        propagate(
            [
                (self, record, torch.ones(record.shape, dtype=record.dtype, device=record.device))
                for record in self._records.values()
            ]
        )
        return None

    def check_inputs(self, prediction: Tensor, target: Tensor) -> None:
        super().check_inputs(prediction, target)
        if prediction.shape != target.shape:
            raise ShapeError(
                f"target of {self.short_name()} has shape {tuple(target.shape)}, but the prediction has shape "
                f"{tuple(prediction.shape)}"
            )
