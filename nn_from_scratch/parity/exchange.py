"""A whole model from here to torch.nn and back: layers, options, weights, buffers, modes.

The names in `state_dict` are the same on both sides, so only the constructors' arguments need a word for each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from nn_from_scratch.engine import layers
from nn_from_scratch.engine.layer import Layer
from nn_from_scratch.engine.module import Module, Sequential
from nn_from_scratch.errors import ArgumentError

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class _Twins:
    """A layer and its counterpart.

    Attributes:
        ours, theirs: the two classes.
        same: options that are attributes of the same name on both sides, and arguments of both constructors.
        to_theirs, to_ours: further arguments, computed from the layer.
        refused: attributes of theirs with the one value that ours can have.
    """

    ours: type[Layer]
    theirs: type[torch.nn.Module]
    same: tuple[str, ...] = ()
    to_theirs: Callable[[Any], Arguments] = lambda layer: {}
    to_ours: Callable[[Any], Arguments] = lambda layer: {}
    refused: tuple[tuple[str, object], ...] = ()


def _window_of_ours(layer: Any) -> Arguments:
    return {"kernel_size": layer.kernel, "stride": layer.stride, "padding": layer.padding}


def _window_of_theirs(layer: Any) -> Arguments:
    pairs = {name: _tuple(getattr(layer, name)) for name in ("kernel_size", "stride", "padding")}
    return pairs | ({"dilation": _tuple(layer.dilation)} if hasattr(layer, "dilation") else {})


def _geometry_of_ours(layer: Any) -> Arguments:
    g = layer.geometry
    return {
        "kernel_size": g.kernel,
        "stride": g.stride,
        "padding": g.padding,
        "dilation": g.dilation,
        "groups": g.groups,
        "bias": layer.bias is not None,
    }


def _geometry_of_theirs(layer: Any) -> Arguments:
    if isinstance(layer.padding, str):
        raise ArgumentError(f"{layer} has padding {layer.padding!r}, but only numbers can be taken over")
    names = ("kernel_size", "stride", "padding", "dilation", "groups")
    return {name: getattr(layer, name) for name in names} | {"bias": layer.bias is not None}


def _affine(layer: Any) -> Arguments:
    return {"affine": layer.weight is not None}


def _elementwise_affine(layer: Any) -> Arguments:
    weight, bias = layer.weight is not None, layer.bias is not None
    return {"elementwise_affine": weight, "bias": bias or not weight}


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


_CHANNELS = ("in_channels", "out_channels")
_NOT_IN_PLACE = (("inplace", False),)

_TWINS = (
    _Twins(
        layers.AvgPool2d,
        torch.nn.AvgPool2d,
        ("ceil_mode", "count_include_pad", "divisor_override"),
        _window_of_ours,
        _window_of_theirs,
    ),
    _Twins(
        layers.BatchNorm2d,
        torch.nn.BatchNorm2d,
        ("num_features", "eps", "momentum"),
        lambda layer: {**_affine(layer), "track_running_stats": layer.running_mean is not None},
        lambda layer: {**_affine(layer), "track_running_stats": layer.running_mean is not None},
    ),
    _Twins(
        layers.Conv2d,
        torch.nn.Conv2d,
        _CHANNELS,
        _geometry_of_ours,
        _geometry_of_theirs,
        refused=(("padding_mode", "zeros"),),
    ),
    _Twins(layers.Dropout, torch.nn.Dropout, ("p",), refused=_NOT_IN_PLACE),
    _Twins(layers.Flatten, torch.nn.Flatten, ("start_dim", "end_dim")),
    _Twins(layers.GELU, torch.nn.GELU, ("approximate",)),
    _Twins(layers.GroupNorm, torch.nn.GroupNorm, ("num_groups", "num_channels", "eps"), _affine, _affine),
    _Twins(layers.LayerNorm, torch.nn.LayerNorm, ("normalized_shape", "eps"), _elementwise_affine, _elementwise_affine),
    _Twins(layers.LeakyReLU, torch.nn.LeakyReLU, ("negative_slope",), refused=_NOT_IN_PLACE),
    _Twins(
        layers.Linear,
        torch.nn.Linear,
        ("in_features", "out_features"),
        lambda layer: {"bias": layer.bias is not None},
        lambda layer: {"bias": layer.bias is not None},
    ),
    _Twins(layers.LogSoftmax, torch.nn.LogSoftmax, ("dim",)),
    _Twins(
        layers.MaxPool2d,
        torch.nn.MaxPool2d,
        ("ceil_mode",),
        lambda layer: {**_window_of_ours(layer), "dilation": layer.dilation},
        _window_of_theirs,
        refused=(("return_indices", False),),
    ),
    _Twins(layers.PixelShuffle, torch.nn.PixelShuffle, ("upscale_factor",)),
    _Twins(layers.ReLU, torch.nn.ReLU, refused=_NOT_IN_PLACE),
    _Twins(layers.SiLU, torch.nn.SiLU, refused=_NOT_IN_PLACE),
    _Twins(layers.Sigmoid, torch.nn.Sigmoid),
    _Twins(layers.Softmax, torch.nn.Softmax, ("dim",)),
    _Twins(layers.Tanh, torch.nn.Tanh),
    _Twins(
        layers.TransposeConv2d,
        torch.nn.ConvTranspose2d,
        (*_CHANNELS, "output_padding"),
        _geometry_of_ours,
        _geometry_of_theirs,
        refused=(("padding_mode", "zeros"),),
    ),
    _Twins(
        layers.Upsample,
        torch.nn.Upsample,
        ("size", "scale_factor", "mode", "align_corners"),
        refused=(("recompute_scale_factor", None),),
    ),
)


def to_torch(model: Module) -> torch.nn.Module:
    """Make the same model of torch.nn: a `Sequential` of the layers that torch has too, or one such layer.

    The weights and buffers are copies, of the same dtype and on the same device; the modes are those of the model. A
    layer in two places is one layer there too. A Dropout's generator stays behind: torch's has none.

    Args:
        model: may hold further Sequentials, but no container of one's own and no layer that joins.

    Raises:
        ArgumentError: a module has no counterpart.
    """
    return _to_torch(model, {})


def _to_torch(module: Module, made: dict[int, torch.nn.Module]) -> torch.nn.Module:
    if id(module) in made:
        return made[id(module)]
    theirs: torch.nn.Module
    if type(module) is Sequential:
        theirs = torch.nn.Sequential(*(_to_torch(inner, made) for inner in module))
    else:
        twins = next((twins for twins in _TWINS if type(module) is twins.ours), None)
        if twins is None:
            raise ArgumentError(
                f"{module!r} has no counterpart in torch.nn; a Sequential of the layers that torch has too is expected"
            )
        theirs = twins.theirs(**{name: getattr(module, name) for name in twins.same}, **twins.to_theirs(module))
        _like(theirs, module.state_dict())
    theirs.training = module.training
    made[id(module)] = theirs
    return theirs


def _like(theirs: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    for tensor in state.values():
        if tensor.is_floating_point() or tensor.is_complex():
            theirs.to(device=tensor.device, dtype=tensor.dtype)
    theirs.load_state_dict(dict(state))


def from_torch(model: torch.nn.Module) -> Module:
    """Make the same model of this package's layers out of a `torch.nn.Sequential`, or of one layer.

    The weights and buffers are copies, of the same dtype and on the same device; the modes are those of the model. A
    layer in two places is one layer here too.

    Raises:
        ArgumentError: a module has no counterpart here, or an option that ours does not have.
    """
    return _from_torch(model, {})


def _from_torch(theirs: torch.nn.Module, made: dict[int, Module]) -> Module:
    if id(theirs) in made:
        return made[id(theirs)]
    module: Module
    if type(theirs) is torch.nn.Sequential:
        module = Sequential(*(_from_torch(inner, made) for inner in theirs))
    else:
        twins = next((twins for twins in _TWINS if type(theirs) is twins.theirs), None)
        if twins is None:
            raise ArgumentError(
                f"{theirs!r} has no counterpart here; a torch.nn.Sequential of layers that are here too is expected"
            )
        for name, only in twins.refused:
            if getattr(theirs, name) != only:
                raise ArgumentError(f"{theirs!r} has {name} = {getattr(theirs, name)!r}, but only {only!r} is here too")
        options = {name: _tuple(getattr(theirs, name)) for name in twins.same} | dict(twins.to_ours(theirs))
        module = twins.ours(**options)
        state = theirs.state_dict()
        for tensor in state.values():
            if tensor.is_floating_point() or tensor.is_complex():
                module.to(device=tensor.device, dtype=tensor.dtype)
        module.load_state_dict(state)
    module.training = theirs.training
    made[id(theirs)] = module
    return module
