"""Losses of classification: binary cross entropy of logits, and cross entropy with the classes as integers.

Axes: N batch, C classes, ... any further ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.engine.arguments import integer, real
from nn_from_scratch.engine.graph import Record, Saving
from nn_from_scratch.engine.losses.base import Loss
from nn_from_scratch.errors import ArgumentError, DeviceError, DtypeError, ShapeError


class BCEWithLogits(Loss):
    """The binary cross entropy of s = 1 / (1 + exp(-x)) and y, and its mean.

    l = w (-p y log(s) - (1 - y) log(1 - s));   dl/dx = w (s (1 - y) - p y (1 - s)) g / n for n entries;
    dl/dy = w (log(1 - s) - p log(s)) g / n.

    Called with logits x and target y of one shape, any shape; y is usually in [0, 1]. The output has shape (), or
    theirs where nothing is reduced (then, and for the sum, without n). It stays finite where s rounds to 0 or 1.

    Args:
        weight: w, of a shape that broadcasts to that of x; 1 by default.
        pos_weight: p, likewise.
        reduction: "mean", "sum" or "none".

    Raises:
        ArgumentError, DtypeError: an argument makes no sense.
        ShapeError, DtypeError, DeviceError: on a call, logits, target and weights do not fit together.
    """

    buffer_names = ("weight", "pos_weight")
    complex_inputs = False

    def __init__(
        self, *, weight: Tensor | None = None, pos_weight: Tensor | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction=reduction)
        self.weight = _copied(weight, name="weight")
        self.pos_weight = _copied(pos_weight, name="pos_weight")

    def check_inputs(self, prediction: Tensor, target: Tensor) -> None:
        super().check_inputs(prediction, target)
        for name, tensor in self.own_buffers().items():
            sizes = zip(reversed(tensor.shape), reversed(prediction.shape), strict=False)
            if tensor.dim() > prediction.dim() or any(n not in (1, size) for n, size in sizes):
                raise ShapeError(
                    f"{name} of {self.short_name()} has shape {tuple(tensor.shape)}, which does not broadcast to "
                    f"that of the prediction, {tuple(prediction.shape)}"
                )

    def _logarithms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """-log(s) and -log(1 - s), without overflow."""
        rest = (-x.abs()).exp().log1p()
        return rest + (-x).clamp(min=0), rest + x.clamp(min=0)

    def _weights(self) -> tuple[Tensor | float, Tensor | float]:
        return (1.0 if self.weight is None else self.weight), (1.0 if self.pos_weight is None else self.pos_weight)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        w, p = self._weights()
        on, off = self._logarithms(prediction)
        return self.reduced(w * (p * target * on + (1 - target) * off))

    def input_vjp(self, g: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        x, y = record.inputs
        w, p = self._weights()
        g = w * self.spread(g, x.numel())
        of_target = None
        if record.needs[1]:
            on, off = self._logarithms(x)
            of_target = (p * on - off) * g
        # (1 - s) as the logistic function of -x: no digits are lost where s is close to 1.
        return (x.sigmoid() * (1 - y) - p * y * (-x).sigmoid()) * g, of_target

    def __repr__(self) -> str:
        return self.describe(
            weight=(_shape(self.weight), None),
            pos_weight=(_shape(self.pos_weight), None),
            reduction=(self.reduction, "mean"),
        )


class CrossEntropy(Loss):
    """The cross entropy of p = softmax(x), over the classes, and the distribution q that the target class t means.

    l = -sum over c of w_c q_c log(p_c) with q_c = (1 - e) [c = t] + e / C;
    dl/dx_c = (p_c sum over c' of (w q)_c' - (w q)_c) g / D, with D = sum of w_t over the entries that count, for
    the mean; without D for the sum and where nothing is reduced.

    Called with logits x (C,) or (N, C, ...) and classes t, int64, () or (N, ...); the output has shape (), or that
    of t. There is no gradient of t: its place is None.

    Args:
        weight: w, of shape (C,); 1 by default.
        ignore_index: the class whose entries do not count.
        label_smoothing: e, in [0, 1].
        reduction: "mean", "sum" or "none".

    Raises:
        ArgumentError, DtypeError: an argument makes no sense; on a call, there is no class of that number.
        ShapeError, DtypeError, DeviceError: on a call, logits, classes and weights do not fit together.
    """

    needs_inputs = False

    buffer_names = ("weight",)
    complex_inputs = False

    def __init__(
        self,
        *,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        self.weight = _copied(weight, name="weight")
        self.ignore_index = integer(ignore_index, name="ignore_index")
        self.label_smoothing = real(label_smoothing, name="label_smoothing", least=0, most=1)

    def check_inputs(self, prediction: Tensor, target: Tensor) -> None:
        self._check_kind(prediction)
        name = self.short_name()
        if target.dtype != torch.int64:
            raise DtypeError(f"target of {name} has dtype {target.dtype}, but classes are int64")
        if target.device != prediction.device:
            raise DeviceError(f"target of {name} lies on {target.device}, but the prediction on {prediction.device}")
        axis = min(prediction.dim() - 1, 1)
        if axis < 0 or prediction.shape[axis] == 0:
            raise ShapeError(f"prediction of {name} has shape {tuple(prediction.shape)}, which has no classes")
        expected = (*prediction.shape[:axis], *prediction.shape[axis + 1 :])
        if tuple(target.shape) != expected:
            raise ShapeError(
                f"target of {name} has shape {tuple(target.shape)}, but {expected} is expected for a prediction of "
                f"shape {tuple(prediction.shape)}"
            )
        C = prediction.shape[axis]
        if self.weight is not None and tuple(self.weight.shape) != (C,):
            raise ShapeError(f"weight of {name} has shape {tuple(self.weight.shape)}, but there are {C} classes")
        wrong = target[((target < 0) | (target >= C)) & (target != self.ignore_index)]
        if wrong.numel():
            raise ArgumentError(
                f"target of {name} has the class {int(wrong[0])}, but 0 to {C - 1} are expected, or "
                f"ignore_index = {self.ignore_index}"
            )

    def _weighted_targets(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """W q, of the shape of x, zero where the class is ignored; and w_t, of the shape of t, likewise."""
        axis = min(x.dim() - 1, 1)
        C, e = x.shape[axis], self.label_smoothing
        counts = t != self.ignore_index
        place = t.where(counts, 0).unsqueeze(axis)
        w = x.new_ones(C) if self.weight is None else self.weight
        w = w.reshape(C, *(1,) * (x.dim() - axis - 1))  # (C, 1, ...)
        q = torch.full_like(x, e / C).scatter_add_(axis, place, x.new_full(place.shape, 1 - e))
        w_t = w.expand_as(x).gather(axis, place).squeeze(axis)
        return (w * q).where(counts.unsqueeze(axis), 0), w_t.where(counts, 0)

    def forward(self, prediction: Tensor, target: Tensor) -> Saving:
        axis = min(prediction.dim() - 1, 1)
        log_p = prediction.log_softmax(axis)
        wq, w_t = self._weighted_targets(prediction, target)
        # A class that is not asked for may have p = 0: 0 log 0 is 0.
        losses = -(wq * log_p).where(wq != 0, 0).sum(dim=axis)
        D = w_t.sum()
        y = losses.sum() / D if self.reduction == "mean" else self.reduced(losses)
        return Saving(y, (log_p, wq, D))

    def input_vjp(self, g: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        log_p, wq, D = record.saved
        axis = min(log_p.dim() - 1, 1)
        if self.reduction == "mean":
            g = g / D
        elif self.reduction == "none":
            g = g.unsqueeze(axis)
        return (log_p.exp() * wq.sum(dim=axis, keepdim=True) - wq) * g, None

    def __repr__(self) -> str:
        return self.describe(
            weight=(_shape(self.weight), None),
            ignore_index=(self.ignore_index, -100),
            label_smoothing=(self.label_smoothing, 0.0),
            reduction=(self.reduction, "mean"),
        )


def _copied(weight: Tensor | None, *, name: str) -> Tensor | None:
    if weight is None:
        return None
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        what = f"a tensor of {weight.dtype}" if isinstance(weight, Tensor) else f"a {type(weight).__name__}"
        raise DtypeError(f"{name} is {what}, but a floating-point tensor is expected")
    return weight.detach().clone()


def _shape(weight: Tensor | None) -> str | None:
    return None if weight is None else f"tensor of shape {tuple(weight.shape)}"
