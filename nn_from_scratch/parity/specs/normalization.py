"""Normalization. The cases draw weights and running statistics, which otherwise are ones and zeros."""

from __future__ import annotations

import torch

from nn_from_scratch.engine import layers
from nn_from_scratch.verify.catalogue import Case, Spec

IMAGES = ((4, 3, 5, 4),)

SPECS = (
    Spec(
        layers.BatchNorm2d,
        (
            Case("training", IMAGES, (3,)),
            Case("no_affine", IMAGES, (3,), {"affine": False}),
            Case("large_eps", IMAGES, (3,), {"eps": 0.5, "momentum": None}),
            Case("evaluation", IMAGES, (3,), training=False),
            Case("evaluation_no_affine", IMAGES, (3,), {"affine": False}, training=False),
            Case("evaluation_untracked", IMAGES, (3,), {"track_running_stats": False}, training=False),
        ),
        drawn=True,
        twin=torch.nn.BatchNorm2d,
        attributes={"affine": "weight", "track_running_stats": "running_mean"},
    ),
    Spec(
        layers.GroupNorm,
        (
            Case("groups", ((3, 6, 4, 5),), (2, 6)),
            Case("each_channel", ((2, 3, 4, 5),), (3, 3)),
            Case("one_group", ((2, 3, 4, 5),), (1, 3)),
            Case("no_affine", ((3, 6, 4, 5),), (2, 6), {"affine": False, "eps": 0.5}),
            Case("no_pixels", ((3, 6),), (2, 6)),
            Case("volume", ((2, 4, 2, 3, 2),), (2, 4)),
        ),
        drawn=True,
        twin=torch.nn.GroupNorm,
        attributes={"affine": "weight"},
    ),
    Spec(
        layers.LayerNorm,
        (
            Case("last", ((4, 6),), (6,)),
            Case("vector", ((6,),), (6,)),
            Case("image", ((2, 3, 4, 5),), ((3, 4, 5),)),
            Case("two_axes", ((2, 3, 4, 5),), ((4, 5),), {"eps": 0.5}),
            Case("no_bias", ((4, 6),), (6,), {"bias": False}),
            Case("no_affine", ((4, 6),), (6,), {"elementwise_affine": False}),
        ),
        drawn=True,
        twin=torch.nn.LayerNorm,
        attributes={"elementwise_affine": "weight"},
    ),
)
