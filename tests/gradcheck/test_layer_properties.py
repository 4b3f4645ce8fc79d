"""Every other layer and the losses, on tensors of any shape and layout, against torch and their own value."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.parity.specs import LAYERS, entry_of
from nn_from_scratch.verify import check
from nn_from_scratch.verify.catalogue import Reference, Spec
from nn_from_scratch.verify.catalogue.building import build
from nn_from_scratch.verify.strategies import shapes, tensors

FINITE = ("zero", "negative_zero", "tie", "tiny", "subnormal")
# Not huge ones: these overflow on the way, and not everywhere where they do in torch.
EVERYWHERE = (*FINITE, "infinity", "nan")


def reference_of(layer: nn.Layer) -> Reference:
    """What of torch the layer must equal, from its entry in the catalogue."""
    entry = entry_of(type(layer))
    assert isinstance(entry, Spec) and entry.reference is not None
    return entry.reference


def agree(data: st.DataObject, layer: nn.Layer, *inputs: Tensor, special: tuple[str, ...] = ()) -> None:
    """Shape, value and gradients are torch's, whatever the layout of inputs and cotangent, and agree by projection."""
    plain = [x.clone(memory_format=torch.contiguous_format) for x in inputs]
    leaves = [x.requires_grad_() if x.is_floating_point() else x for x in plain]
    parameters = {name: p.clone().requires_grad_() for name, p in layer.parameters().items()}
    expected = reference_of(layer)(layer, parameters, *leaves)
    g = data.draw(tensors(tuple(expected.shape), special=special, name="g"))
    expected.backward(g.clone(memory_format=torch.contiguous_format))
    y = layer(*inputs)
    close(y, expected.detach())
    found = nn.backward(y, g)
    for ours, leaf in zip(found if isinstance(found, tuple) else (found,), leaves, strict=True):
        close(ours, leaf.grad)
    for name, parameter in layer.parameters().items():
        close(parameter.grad, parameters[name].grad)
    if not special:
        layer.clear_saved_tensors()
        report = check(layer, *inputs, checks="gradient", time_limit=None)
        assert report.passed, report


def close(ours: Tensor | None, theirs: Tensor | None) -> None:
    if ours is None or theirs is None:
        assert ours is theirs
        return
    scale = theirs[theirs.isfinite()].abs().max() if theirs.isfinite().any() else torch.ones(())
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12 * max(1.0, float(scale)), equal_nan=True)


def inputs(data: st.DataObject, *given: tuple[int, ...], special: tuple[str, ...] = ()) -> list[Tensor]:
    return [data.draw(tensors(shape, special=special, name=f"x{place}")) for place, shape in enumerate(given)]


# What takes a scalar is elementwise, and so takes any shape.
ELEMENTWISE = [build(spec, case) for spec in LAYERS for case in spec.cases if case.shapes == ((),)]
ACTIVATIONS = [nn.ReLU(), nn.LeakyReLU(0.2), nn.Sigmoid(), nn.Tanh(), nn.SiLU(), nn.GELU(), nn.GELU("tanh")]


@pytest.mark.parametrize("layer", ELEMENTWISE, ids=repr)
@given(data=st.data(), shape=shapes())
def test_elementwise_layers(data: st.DataObject, layer: nn.Layer, shape: tuple[int, ...]) -> None:
    agree(data, layer, *inputs(data, shape))


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
@given(x=tensors(special=EVERYWHERE))
def test_activations_of_special_values(layer: nn.Layer, x: Tensor) -> None:
    expected = reference_of(layer)(layer, {}, x)
    close(layer(x), expected)


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
@given(data=st.data(), shape=shapes())
def test_gradients_of_activations_at_special_values(
    data: st.DataObject, layer: nn.Layer, shape: tuple[int, ...]
) -> None:
    agree(data, layer, *inputs(data, shape, special=FINITE), special=EVERYWHERE)


@given(data=st.data(), shape=shapes(axes=(1, 4)), outputs=st.integers(1, 3), bias=st.booleans())
def test_linear(data: st.DataObject, shape: tuple[int, ...], outputs: int, bias: bool) -> None:
    agree(data, nn.Linear(shape[-1], outputs, bias=bias, dtype=torch.float64), *inputs(data, shape))


@pytest.mark.parametrize("log", [False, True])
@given(data=st.data(), shape=shapes(axes=(1, 4)))
def test_softmax(data: st.DataObject, shape: tuple[int, ...], log: bool) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    agree(data, nn.LogSoftmax(dim) if log else nn.Softmax(dim), *inputs(data, shape))


@pytest.mark.parametrize(("mode", "align_corners"), [("nearest", None), ("bilinear", None), ("bilinear", True)])
@given(data=st.data(), shape=shapes(axes=4, sides=(1, 4)))
def test_upsample(data: st.DataObject, shape: tuple[int, ...], mode: str, align_corners: bool | None) -> None:
    options: Any = {"mode": mode, "align_corners": align_corners}
    if data.draw(st.booleans()):
        factors = tuple(data.draw(st.sampled_from([1, 2, 3, 1.5, 2.3])) for _ in range(2))
        layer = nn.Upsample(scale_factor=(factors[0], factors[1]), **options)
    else:
        layer = nn.Upsample((data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))), **options)
    agree(data, layer, *inputs(data, shape))


@given(data=st.data(), shape=shapes(axes=4, sides=(1, 3)), r=st.integers(1, 3))
def test_pixel_shuffle(data: st.DataObject, shape: tuple[int, ...], r: int) -> None:
    N, C, H, W = shape
    agree(data, nn.PixelShuffle(r), *inputs(data, (N, C * r * r, H, W), special=EVERYWHERE), special=EVERYWHERE)


@given(data=st.data(), shape=shapes(), count=st.integers(1, 3))
def test_add(data: st.DataObject, shape: tuple[int, ...], count: int) -> None:
    agree(data, nn.Add(), *inputs(data, *[shape] * count, special=EVERYWHERE), special=EVERYWHERE)


@given(data=st.data(), shape=shapes(axes=(1, 4)), lengths=st.lists(st.integers(0, 3), min_size=1, max_size=3))
def test_concat(data: st.DataObject, shape: tuple[int, ...], lengths: list[int]) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    given_shapes = [(*shape[:dim], n, *shape[dim:][1:]) for n in lengths]
    agree(data, nn.Concat(dim), *inputs(data, *given_shapes, special=EVERYWHERE), special=EVERYWHERE)


def drawn_parameters(layer: nn.Layer) -> nn.Layer:
    """With a weight and a bias that are not ones and zeros."""
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters().values():
        parameter.copy_(torch.rand(parameter.shape, generator=generator, dtype=torch.float64) + 0.5)
    return layer


# A large eps: the entries of an expanded tensor may all be equal, and what is divided by their variance would be huge.
@given(data=st.data(), shape=shapes(axes=4, sides=(1, 4)), affine=st.booleans())
def test_batch_norm(data: st.DataObject, shape: tuple[int, ...], affine: bool) -> None:
    N, C, H, W = shape
    layer = nn.BatchNorm2d(C, eps=0.1, affine=affine, dtype=torch.float64)
    agree(data, drawn_parameters(layer), *inputs(data, (N + 1, C, H, W)))


@given(data=st.data(), shape=shapes(axes=(2, 4), sides=(1, 4)), groups=st.integers(1, 3), affine=st.booleans())
def test_group_norm(data: st.DataObject, shape: tuple[int, ...], groups: int, affine: bool) -> None:
    N, C, *rest = shape
    layer = nn.GroupNorm(groups, (C + 1) * groups, eps=0.1, affine=affine, dtype=torch.float64)
    agree(data, drawn_parameters(layer), *inputs(data, (N, (C + 1) * groups, *rest)))


@given(data=st.data(), shape=shapes(axes=(1, 4), sides=(2, 4)), affine=st.booleans())
def test_layer_norm(data: st.DataObject, shape: tuple[int, ...], affine: bool) -> None:
    over = shape[data.draw(st.integers(0, len(shape) - 1)) :]
    layer = nn.LayerNorm(over, eps=0.1, elementwise_affine=affine, dtype=torch.float64)
    agree(data, drawn_parameters(layer), *inputs(data, shape))


REDUCTIONS = st.sampled_from(["mean", "sum", "none"])


@pytest.mark.parametrize("loss", [nn.MSE, nn.L1, nn.Huber, nn.BCEWithLogits], ids=lambda loss: loss.__name__)
@given(data=st.data(), shape=shapes(), reduction=REDUCTIONS)
def test_losses(data: st.DataObject, loss: Any, shape: tuple[int, ...], reduction: str) -> None:
    agree(data, loss(reduction=reduction), *inputs(data, shape, shape))


@given(data=st.data(), shape=shapes(axes=(1, 4)), reduction=REDUCTIONS, smoothing=st.sampled_from([0.0, 0.3]))
def test_cross_entropy(data: st.DataObject, shape: tuple[int, ...], reduction: str, smoothing: float) -> None:
    axis = min(len(shape) - 1, 1)
    classes = (*shape[:axis], *shape[axis + 1 :])
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    t = torch.randint(shape[axis], classes, generator=generator)
    agree(data, nn.CrossEntropy(reduction=reduction, label_smoothing=smoothing), *inputs(data, shape), t)
