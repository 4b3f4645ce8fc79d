"""Layers that move entries, join branches, or change the resolution."""

from __future__ import annotations

from functools import reduce
from operator import add

import torch

from nn_from_scratch.engine import layers
from nn_from_scratch.verify.catalogue import Case, Spec

UPSAMPLE_CASES = (
    Case("nearest", ((2, 3, 4, 5),), (), {"scale_factor": 2}),
    Case("nearest_uneven", ((2, 2, 4, 5),), (), {"scale_factor": (1.7, 0.6)}),
    Case("nearest_size", ((2, 2, 4, 5),), ((7, 13),)),
    Case("nearest_same_size", ((2, 2, 4, 5),), ((4, 5),)),
    Case("bilinear", ((2, 3, 4, 5),), (), {"scale_factor": 2, "mode": "bilinear"}),
    Case("bilinear_uneven", ((2, 2, 4, 5),), (), {"scale_factor": (1.7, 0.6), "mode": "bilinear"}),
    Case("bilinear_size", ((2, 2, 4, 5),), ((7, 1),), {"mode": "bilinear"}),
    Case("corners", ((2, 3, 4, 5),), (), {"scale_factor": 2, "mode": "bilinear", "align_corners": True}),
    Case("corners_size", ((2, 2, 4, 5),), ((1, 13),), {"mode": "bilinear", "align_corners": True}),
    Case("one_pixel", ((1, 1, 1, 1),), (3,), {"mode": "bilinear"}),
)


SPECS = (
    Spec(
        layers.Add,
        (
            Case("two", ((2, 3, 4), (2, 3, 4))),
            Case("three", ((3, 5), (3, 5), (3, 5))),
            Case("one", ((2, 3),)),
        ),
        lambda layer, parameters, *xs: reduce(add, xs),
    ),
    Spec(
        layers.Concat,
        (
            Case("channels", ((2, 3, 4, 5), (2, 1, 4, 5))),
            Case("three", ((2, 4), (1, 4), (3, 4)), (0,)),
            Case("last", ((2, 4), (2, 3)), (-1,)),
            Case("one", ((2, 3),)),
        ),
        lambda layer, parameters, *xs: torch.cat(xs, layer.dim),
    ),
    Spec(
        layers.Flatten,
        (
            Case("default", ((2, 3, 4),)),
            Case("middle", ((2, 3, 4, 5),), (1, 2)),
            Case("all", ((2, 3, 4),), (0,)),
            Case("one_axis", ((2, 3),)),
        ),
        twin=torch.nn.Flatten,
    ),
    Spec(
        layers.PixelShuffle,
        (Case("two", ((2, 8, 3, 4),), (2,)), Case("three", ((1, 9, 2, 1),), (3,)), Case("one", ((2, 3, 2, 2),), (1,))),
        twin=torch.nn.PixelShuffle,
    ),
    Spec(layers.Upsample, UPSAMPLE_CASES, twin=torch.nn.Upsample),
)
