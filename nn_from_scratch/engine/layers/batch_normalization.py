"""Batch normalization, and its running statistics.

The derivative through mean and variance is that of `normalization.py`: z = (x - m) r, h = w g and
dl/dx = r (h - mean of h - z mean of (h z)).

Axes: N batch, C channels, H and W height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.engine.arguments import real
from nn_from_scratch.engine.graph import Record, Saving
from nn_from_scratch.engine.layer import expect_dimensions
from nn_from_scratch.engine.layers.normalization import _Normalization, moments, normalized_vjp
from nn_from_scratch.engine.parameters import positive, switch
from nn_from_scratch.errors import ShapeError


class BatchNorm2d(_Normalization):
    """Each channel normalized over the batch and its pixels, as in `torch.nn.BatchNorm2d`.

    Training: A = (N, H, W), with the derivative of `normalization.py`; running_mean <- (1 - a) running_mean + a m,
    and running_var alike, with the unbiased variance. Evaluation: m and v are the running ones, so dl/dx = r h.
    dl/dw = sum of g z, dl/db = sum of g over N, H and W.

    Input and output (N, C, H, W). Parameters weight and bias (C,), at first ones and zeros; buffers running_mean
    and running_var (C,), at first zeros and ones, and num_batches_tracked.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: a; None for 1 / num_batches_tracked, which averages over all batches alike.
        affine: whether w and b are there.
        track_running_stats: whether the running statistics are there; without them the batch's are always taken.
        device, dtype: of parameters and buffers; torch's defaults by default.

    Raises:
        ArgumentError, DtypeError: an argument makes no sense.
        ShapeError, DtypeError, DeviceError: on a call, the input does not fit, or has one value for each channel.
    """

    buffer_names = ("running_mean", "running_var", "num_batches_tracked")
    running_mean: Tensor | None = None
    running_var: Tensor | None = None
    num_batches_tracked: Tensor | None = None
    _axes = (0, 2, 3)

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.num_features = positive(num_features, name="num_features")
        super().__init__((num_features,), eps=eps, weight=affine, bias=affine, device=device, dtype=dtype)
        self.momentum = None if momentum is None else real(momentum, name="momentum", least=0, most=1)
        if switch(track_running_stats, name="track_running_stats"):
            self.running_mean = torch.zeros(num_features, device=device, dtype=dtype)
            self.running_var = torch.ones(num_features, device=device, dtype=dtype)
            self.num_batches_tracked = torch.zeros((), device=device, dtype=torch.int64)

    def check_inputs(self, x: Tensor) -> None:
        super().check_inputs(x)
        expect_dimensions(x, self, "N C H W")
        if x.shape[1] != self.num_features:
            raise ShapeError(
                f"input of {self.short_name()} has shape {tuple(x.shape)} with {x.shape[1]} channels, "
                f"but {self.num_features} are expected"
            )
        if (self.training or self.running_mean is None) and x.numel() <= self.num_features:
            raise ShapeError(
                f"input of {self.short_name()} has shape {tuple(x.shape)}, but the statistics of a batch need more "
                "than one value for each channel"
            )

    def forward(self, x: Tensor) -> Saving:
        if not self.training and self.running_mean is not None and self.running_var is not None:
            r = (self.running_var[:, None, None] + self.eps).rsqrt()
            z = (x - self.running_mean[:, None, None]) * r
            return Saving(self.affine(z, 2), (z, r))
        m, v = moments(x, self._axes)
        if self.training:
            self._track(m.flatten(), v.flatten(), x.numel() // self.num_features)
        r = (v + self.eps).rsqrt()
        z = (x - m) * r
        # Four axes mark the statistics of the batch, which depend on x; the running ones have three.
        return Saving(self.affine(z, 2), (z, r))

    def _track(self, m: Tensor, v: Tensor, n: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        a = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.mul_(1 - a).add_(m, alpha=a)
        self.running_var.mul_(1 - a).add_(v, alpha=a * n / (n - 1))

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        z, r = record.saved
        h = self.scaled(g, 2)
        return normalized_vjp(h, z, r, self._axes) if r.dim() == 4 else r * h

    def parameter_vjps(self, g: Tensor, record: Record) -> dict[str, Tensor]:
        return self.affine_vjps(g, record.saved[0], self._axes)

    def __repr__(self) -> str:
        return self.describe(
            self.num_features,
            eps=(self.eps, 1e-5),
            momentum=(self.momentum, 0.1),
            affine=(self.weight is not None, True),
            track_running_stats=(self.running_mean is not None, True),
        )
