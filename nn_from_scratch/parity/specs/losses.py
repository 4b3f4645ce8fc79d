"""Losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.engine.losses import L1, MSE, BCEWithLogits, CrossEntropy, Huber
from nn_from_scratch.verify.catalogue import Case, Spec

PAIR_CASES = (
    Case("batch", ((4, 3), (4, 3))),
    Case("image", ((2, 3, 4, 5), (2, 3, 4, 5))),
    Case("one", ((1,), (1,))),
    Case("sum", ((4, 3), (4, 3)), (), {"reduction": "sum"}),
    Case("none", ((4, 3), (4, 3)), (), {"reduction": "none"}),
)
OF_CLASSES = {1: 5}
WEIGHT = torch.tensor([0.5, 2.0, 1.0, 0.25, 3.0], dtype=torch.float64)
IMAGE_OF_CLASSES = ((2, 5, 3, 4), (2, 3, 4))
CROSS_ENTROPY_CASES = (
    Case("batch", ((4, 5), (4,)), classes=OF_CLASSES),
    Case("one", ((5,), ()), classes=OF_CLASSES),
    Case("image", IMAGE_OF_CLASSES, classes=OF_CLASSES),
    Case("sum", ((4, 5), (4,)), (), {"reduction": "sum"}, classes=OF_CLASSES),
    Case("none", IMAGE_OF_CLASSES, (), {"reduction": "none"}, classes=OF_CLASSES),
    Case("weight", IMAGE_OF_CLASSES, (), {"weight": WEIGHT}, classes=OF_CLASSES),
    Case("ignore", IMAGE_OF_CLASSES, (), {"ignore_index": 3, "weight": WEIGHT}, classes=OF_CLASSES),
    Case("smoothing", ((4, 5), (4,)), (), {"label_smoothing": 0.2}, classes=OF_CLASSES),
    Case(
        "everything",
        IMAGE_OF_CLASSES,
        (),
        {"ignore_index": 2, "weight": WEIGHT, "label_smoothing": 0.3},
        classes=OF_CLASSES,
    ),
    Case(
        "everything_none",
        IMAGE_OF_CLASSES,
        (),
        {"ignore_index": 2, "weight": WEIGHT, "label_smoothing": 0.3, "reduction": "none"},
        classes=OF_CLASSES,
    ),
)


def _bce(layer: BCEWithLogits, parameters: Mapping[str, Tensor], prediction: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(
        prediction, target, layer.weight, reduction=layer.reduction, pos_weight=layer.pos_weight
    )


def _cross_entropy(layer: CrossEntropy, parameters: Mapping[str, Tensor], prediction: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(
        prediction,
        target,
        layer.weight,
        ignore_index=layer.ignore_index,
        reduction=layer.reduction,
        label_smoothing=layer.label_smoothing,
    )


def _from_equal(layer: L1, prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).abs()


SPECS = (
    Spec(
        BCEWithLogits,
        (
            *PAIR_CASES,
            Case("weight", ((4, 5), (4, 5)), (), {"weight": WEIGHT}),
            Case("pos_weight", ((4, 5), (4, 5)), (), {"pos_weight": WEIGHT, "reduction": "sum"}),
            Case("both", ((4, 5), (4, 5)), (), {"weight": WEIGHT, "pos_weight": WEIGHT, "reduction": "none"}),
        ),
        _bce,
    ),
    Spec(CrossEntropy, CROSS_ENTROPY_CASES, _cross_entropy),
    Spec(
        Huber,
        (*PAIR_CASES, Case("small_delta", ((4, 3), (4, 3)), (), {"delta": 0.1})),
        lambda layer, parameters, prediction, target: F.huber_loss(
            prediction, target, reduction=layer.reduction, delta=layer.delta
        ),
    ),
    Spec(
        L1,
        PAIR_CASES,
        lambda layer, parameters, prediction, target: F.l1_loss(prediction, target, reduction=layer.reduction),
        kinks=_from_equal,
    ),
    Spec(
        MSE,
        PAIR_CASES,
        lambda layer, parameters, prediction, target: F.mse_loss(prediction, target, reduction=layer.reduction),
    ),
)
