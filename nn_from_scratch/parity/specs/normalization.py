"""Normalization. The cases draw weights and running statistics, which otherwise are ones and zeros."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.engine.layers import BatchNorm2d, GroupNorm, LayerNorm
from nn_from_scratch.verify.catalogue import Case, Spec


def _batch_norm(layer: BatchNorm2d, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    # Without tracking, so that the reference leaves the layer's running statistics alone.
    of_batch = layer.training or layer.running_mean is None
    return F.batch_norm(
        x,
        None if of_batch else layer.running_mean,
        None if of_batch else layer.running_var,
        parameters.get("weight"),
        parameters.get("bias"),
        of_batch,
        eps=layer.eps,
    )


def _group_norm(layer: GroupNorm, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return F.group_norm(x, layer.num_groups, parameters.get("weight"), parameters.get("bias"), layer.eps)


def _layer_norm(layer: LayerNorm, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return F.layer_norm(x, layer.normalized_shape, parameters.get("weight"), parameters.get("bias"), layer.eps)


IMAGES = ((4, 3, 5, 4),)

SPECS = (
    Spec(
        BatchNorm2d,
        (
            Case("training", IMAGES, (3,)),
            Case("no_affine", IMAGES, (3,), {"affine": False}),
            Case("large_eps", IMAGES, (3,), {"eps": 0.5, "momentum": None}),
            Case("evaluation", IMAGES, (3,), training=False),
            Case("evaluation_no_affine", IMAGES, (3,), {"affine": False}, training=False),
            Case("evaluation_untracked", IMAGES, (3,), {"track_running_stats": False}, training=False),
        ),
        _batch_norm,
        drawn=True,
    ),
    Spec(
        GroupNorm,
        (
            Case("groups", ((3, 6, 4, 5),), (2, 6)),
            Case("each_channel", ((2, 3, 4, 5),), (3, 3)),
            Case("one_group", ((2, 3, 4, 5),), (1, 3)),
            Case("no_affine", ((3, 6, 4, 5),), (2, 6), {"affine": False, "eps": 0.5}),
            Case("no_pixels", ((3, 6),), (2, 6)),
            Case("volume", ((2, 4, 2, 3, 2),), (2, 4)),
        ),
        _group_norm,
        drawn=True,
    ),
    Spec(
        LayerNorm,
        (
            Case("last", ((4, 6),), (6,)),
            Case("vector", ((6,),), (6,)),
            Case("image", ((2, 3, 4, 5),), ((3, 4, 5),)),
            Case("two_axes", ((2, 3, 4, 5),), ((4, 5),), {"eps": 0.5}),
            Case("no_bias", ((4, 6),), (6,), {"bias": False}),
            Case("no_affine", ((4, 6),), (6,), {"elementwise_affine": False}),
        ),
        _layer_norm,
        drawn=True,
    ),
)
