"""Losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.engine import losses
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
EVERYTHING = {"ignore_index": 2, "weight": WEIGHT, "label_smoothing": 0.3}
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
    Case("everything", IMAGE_OF_CLASSES, (), EVERYTHING, classes=OF_CLASSES),
    Case("everything_none", IMAGE_OF_CLASSES, (), {**EVERYTHING, "reduction": "none"}, classes=OF_CLASSES),
)


def _from_equal(loss: losses.L1, prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).abs()


SPECS = (
    Spec(
        losses.BCEWithLogits,
        (
            *PAIR_CASES,
            Case("weight", ((4, 5), (4, 5)), (), {"weight": WEIGHT}),
            Case("pos_weight", ((4, 5), (4, 5)), (), {"pos_weight": WEIGHT, "reduction": "sum"}),
            Case("both", ((4, 5), (4, 5)), (), {"weight": WEIGHT, "pos_weight": WEIGHT, "reduction": "none"}),
        ),
        F.binary_cross_entropy_with_logits,
    ),
    Spec(losses.CrossEntropy, CROSS_ENTROPY_CASES, F.cross_entropy),
    Spec(losses.Huber, (*PAIR_CASES, Case("small_delta", ((4, 3), (4, 3)), (), {"delta": 0.1})), F.huber_loss),
    Spec(losses.L1, PAIR_CASES, F.l1_loss, kinks=_from_equal),
    Spec(losses.MSE, PAIR_CASES, F.mse_loss),
)
