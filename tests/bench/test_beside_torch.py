"""Ours beside PyTorch, by interleaved pairs: every layer, forward and backward apart, and a training step as it grows.

Run once by default, with the values of both sides compared; `tox -e bench -- --benchmark-enable -rP` measures, and
prints the ratio of ours to PyTorch's with its interval. `-m gpu` does the same on the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.bench.rows import our_step, torch_step
from nn_from_scratch.parity.specs import LAYERS
from nn_from_scratch.testing.ab import AB
from nn_from_scratch.verify.catalogue import Case, Spec
from nn_from_scratch.verify.catalogue.building import Prepared, prepare

pytestmark = pytest.mark.bench

#: Called without arguments; gives what it computes, by which the two sides are known to do the same.
Side = Callable[[], Sequence[Tensor | None]]

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
#: Layers that have an equivalent and draw nothing: what is drawn differs from side to side.
CASES = [
    pytest.param(spec, case, id=f"{spec.name}-{case.name}")
    for spec in LAYERS
    if spec.reference is not None and spec.repeatable is None
    for case in spec.cases
]
#: What grows while the rest stays at a batch of 16, images of 32 x 32 and 16 channels.
BASE = {"batch": 16, "image": 32, "channels": 16}
POINTS = [
    *(("batch", size) for size in (16, 32, 64, 128, 256, 512, 1024)),
    *(("image", size) for size in (32, 64, 128, 256)),
    *(("channels", size) for size in (16, 32, 64, 128, 256)),
]


def expect_same(ours: Side, theirs: Side, *, rtol: float, atol: float) -> None:
    """The same values three times: a step is ordinary first, then captured, then replayed."""
    for _ in range(3):
        pairs = [(a, b) for a, b in zip(ours(), theirs(), strict=True) if a is not None and b is not None]
        assert pairs  # a gradient that is 0 everywhere may be left out, but not all of them
        for mine, other in pairs:
            torch.testing.assert_close(mine.detach(), other.detach(), rtol=rtol, atol=atol)


def sides_of(spec: Spec, case: Case, device: str, timed: str) -> tuple[Side, Side]:
    """The forward or the backward pass of a layer, and of its equivalent with the same inputs and cotangent."""
    mine, other = (prepare(spec, case, dtype=torch.float32, device=device) for _ in range(2))
    layer: nn.Layer = mine.subject
    parameters = list(layer.parameters().values())
    y = layer(*mine.inputs)  # its record stays, and backward leaves it as it is
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(y)

    def forward() -> Sequence[Tensor | None]:
        layer.clear_saved_tensors()
        return (layer(*mine.inputs),)

    def backward() -> Sequence[Tensor | None]:
        for parameter in parameters:
            parameter.grad = None
        found = nn.backward(y, cotangent)
        return (*(found if isinstance(found, tuple) else (found,)), *(parameter.grad for parameter in parameters))

    return forward if timed == "forward" else backward, side_of_torch(spec, other, timed, cotangent)


def side_of_torch(spec: Spec, prepared: Prepared, timed: str, cotangent: Tensor) -> Side:
    inputs = [x.requires_grad_() if x.is_floating_point() else x for x in prepared.inputs]
    call: Callable[..., Tensor]
    if spec.twin is not None:
        call = twin = nn.to_torch(prepared.subject)
        leaves: dict[str, Tensor] = dict(twin.named_parameters())
    else:
        assert spec.reference is not None
        leaves = {name: x.detach().clone().requires_grad_() for name, x in prepared.subject.parameters().items()}
        call = partial(spec.reference, prepared.subject, leaves)
    wanted = [x if x.requires_grad else None for x in (*inputs, *leaves.values())]

    def forward() -> Sequence[Tensor | None]:
        return (call(*inputs),)  # with what its backward needs saved, as ours

    if timed == "forward":
        return forward
    (y,) = forward()
    assert y is not None

    def backward() -> Sequence[Tensor | None]:
        floating = [x for x in wanted if x is not None]
        found = iter(torch.autograd.grad(y, floating, cotangent, retain_graph=True, allow_unused=True))
        return tuple(None if x is None else next(found) for x in wanted)

    return backward


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("timed", ["forward", "backward"])
@pytest.mark.parametrize(("spec", "case"), CASES)
def test_layer(ab: AB, spec: Spec, case: Case, timed: str, device: str) -> None:
    ours, theirs = sides_of(spec, case, device, timed)
    expect_same(ours, theirs, rtol=1e-4, atol=1e-5)
    ab(ours, theirs).measure()


def test_every_layer_that_draws_nothing_is_measured() -> None:
    names = {spec.name for spec in LAYERS if spec.reference is not None} - {"Dropout"}
    assert {case.values[0].name for case in CASES} == names  # type: ignore[union-attr]  # the first is the spec


def test_forward_and_backward_are_timed_apart() -> None:
    spec = next(spec for spec in LAYERS if spec.name == "Linear")
    shapes = [
        [None if x is None else tuple(x.shape) for x in sides_of(spec, spec.cases[0], "cpu", timed)[0]()]
        for timed in ("forward", "backward")
    ]
    assert shapes == [[(4, 5)], [(4, 3), (5, 3), (5,)]]  # the output alone; of input, weight and bias, and no output


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("grown", "size"), POINTS)
def test_training_step(ab: AB, benchmark: Any, grown: str, size: int, device: str) -> None:
    if size != 2 * BASE[grown] and not benchmark.enabled:
        pytest.skip("without --benchmark-enable, one size of each is enough")
    point = {**BASE, grown: size}
    generator = torch.Generator().manual_seed(0)
    shape = (point["batch"], 3, point["image"], point["image"])
    x, y = (torch.rand(shape, generator=generator).to(device) for _ in range(2))
    layout = torch.channels_last if device == "cpu" else torch.contiguous_format
    mine = [t.contiguous(memory_format=layout) for t in (x, y)]  # as training hands batches to steps
    our, their = (make(x, "SGD with momentum", channels=point["channels"]) for make in (our_step, torch_step))
    expect_same(lambda: (our(*mine),), lambda: (their(x, y),), rtol=1e-3, atol=1e-4)
    benchmark.pedantic(lambda: our(*mine), rounds=5)
    ab(lambda: our(*mine), lambda: their(x, y)).measure()
