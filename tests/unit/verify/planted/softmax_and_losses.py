"""Softmax, log-softmax and the mean squared error."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.unit.verify.planted.fault import PlantedFault, of_one_input


def _softmax(
    fault: str, kind: str, dx: Callable[[Tensor, Tensor], Tensor], mentions: str = "", *, log: bool = False
) -> PlantedFault:
    """`dx` takes the cotangent and the probabilities."""
    layer, forward = ("log_softmax", torch.log_softmax) if log else ("softmax", torch.softmax)

    def of_probabilities(g: Tensor, x: Tensor) -> Tensor:
        return dx(g, torch.softmax(x, 1))

    return of_one_input(layer, fault, kind, lambda x: forward(x, 1), of_probabilities, (4, 6), mentions=mentions)


def _mse(
    fault: str,
    kind: str,
    slope: Callable[[Tensor], Tensor],
    *,
    target: str = "prediction",
    mentions: str = "",
    also: tuple[str, ...] = (),
    use_cotangent: bool = True,
) -> PlantedFault:
    """`slope` takes the error ŷ - y and gives the wrong gradient of the target for a cotangent of one."""

    def backward(g: Tensor, prediction: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        error = prediction - y
        right = 2 / error.numel() * error * g
        wrong = slope(error) * (g if use_cotangent else 1)
        return (wrong, -right) if target == "prediction" else (right, wrong)

    return PlantedFault(
        "mse",
        fault,
        kind,
        target,
        lambda p, y: ((p - y) ** 2).mean(),
        backward,
        ("prediction", "y"),
        ((5, 7), (5, 7)),
        mentions=mentions,
        also=also,
    )


def _ce_sum(t: Tensor) -> Tensor:
    return t.sum(1, keepdim=True)


SOFTMAX_AND_LOSSES = (
    _softmax("diagonal of the Jacobian", "jacobian-diagonal", lambda g, y: y * (1 - y) * g),
    _softmax("sum term missing", "sum-term-missing", lambda g, y: y * g),
    _softmax("sum over the samples", "wrong-axis", lambda g, y: y * (g - (g * y).sum(0)), "axis 0"),
    _softmax("log-softmax's derivative", "neighbor", lambda g, y: g - y * _ce_sum(g), "log-softmax"),
    _softmax("factor y missing", "output-factor-missing", lambda g, y: g - _ce_sum(g * y)),
    _softmax("g passed on", "cotangent-passed-on", lambda g, y: g.clone()),
    _softmax("samples exchanged", "rolled", lambda g, y: (y * (g - _ce_sum(g * y))).roll(1, 0)),
    _softmax("softmax's derivative", "neighbor", lambda g, y: y * (g - _ce_sum(g * y)), log=True),
    _softmax("sum missing", "sum-missing", lambda g, y: g - y * g, log=True),
    _mse("factor 2 missing", "factor", lambda e: e / e.numel(), mentions="small by a factor of 2"),
    _mse("1/N missing", "factor", lambda e: 2 * e, mentions="number of entries"),
    _mse("1/N of the samples alone", "factor", lambda e: 2 * e / 5, mentions="size of axis 1"),
    _mse("target's sign", "sign", lambda e: 2 * e / e.numel(), target="y"),
    _mse(
        "absolute error's derivative",
        "neighbor",
        lambda e: e.sign() / e.numel(),
        also=("sign-only",),
        mentions="absolute error",
    ),
    _mse("square for the error", "value-for-derivative", lambda e: e**2 / e.numel()),
    _mse("cotangent ignored", "cotangent-ignored", lambda e: 2 * e / e.numel(), use_cotangent=False, also=("factor",)),
    _mse("|error|", "absolute-value", lambda e: 2 * e.abs() / e.numel()),
    PlantedFault(
        "huber",
        "not cut off",
        "neighbor",
        "prediction",
        lambda p, y: F.huber_loss(p, y, delta=0.5),
        lambda g, p, y: (g * (p - y) / p.numel(), -g * (p - y).clamp(-0.5, 0.5) / p.numel()),
        ("prediction", "y"),
        ((5, 4), (5, 4)),
        mentions="half the squared error, while the forward is the mean of the Huber loss with δ = 0.5",
    ),
)
