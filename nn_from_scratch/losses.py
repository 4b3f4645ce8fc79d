"""Losses: layers with two inputs, prediction and target, and a scalar output."""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.errors import MissingRecordError, ShapeError
from nn_from_scratch.layer import Layer
from nn_from_scratch.module import Gradients, Saving
from nn_from_scratch.records import Record, propagate


class Loss(Layer):
    """What all losses share: `backward()` without an argument propagates every pair that is remembered.

    A pair is a record like any other layer's, so it disappears with the records that its prediction came from.
    """

    def backward(self, gradwrtoutput: Tensor | None = None) -> Gradients:
        """Propagate the remembered pairs, adding to the gradients of the parameters that made the predictions.

        Args:
            gradwrtoutput: None for every pair, each with the cotangent one, as if their losses had been added.
                A scalar tensor for one pair alone: the one that its `input_index` names.

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
                (self, index, torch.ones(record.shape, dtype=record.dtype, device=record.device))
                for index, record in self._records.items()
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


class MSE(Loss):
    """l = mean of e^2 with e = y^ - y;   dl/dy^ = 2 e g / n for n entries, dl/dy its negative.

    Called with prediction y^ and target y of one shape, any shape; the output has shape (). As in the report the
    error e of every pair is remembered, so several forward passes and one `backward()` add up their gradients.

    Raises:
        ShapeError, DtypeError, DeviceError: on a call, prediction and target do not fit together.
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Saving:
        e = prediction - target
        return Saving(e.square().mean(), (e,))

    def input_vjp(self, g: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        (e,) = record.saved
        gradient = e * (2 * g / e.numel())
        return gradient, -gradient if record.needs[1] else None
