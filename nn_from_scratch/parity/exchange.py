"""A whole model from here to torch.nn and back: layers, options, weights, buffers, modes.

The twin of a layer stands in its entry in `specs`. The names in `state_dict` are the same on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nn_from_scratch.engine.module import Module, Sequential
from nn_from_scratch.errors import ArgumentError, StateDictError
from nn_from_scratch.parity.specs import LAYERS
from nn_from_scratch.verify.catalogue.twins import constructor_options, options_from


def to_torch(model: Module) -> torch.nn.Module:
    """Make the same model of torch.nn: a `Sequential` of the layers that torch has too, or one such layer.

    The weights and buffers are copies, of the same dtype and on the same device; the modes are those of the model. A
    layer in two places is one layer there too. A Dropout's generator stays behind: torch's has none.

    Args:
        model: may hold further Sequentials, but no other container and no layer that joins.

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
        spec = next((spec for spec in LAYERS if spec.twin is not None and spec.subject is type(module)), None)
        if spec is None:
            raise ArgumentError(
                f"{module!r} has no counterpart in torch.nn; a Sequential of the layers that torch has too is expected"
            )
        theirs = spec.twin(**options_from(module, spec.twin, spec.attributes))
        _load(theirs, module.state_dict())
    theirs.training = module.training
    made[id(module)] = theirs
    return theirs


def from_torch(model: torch.nn.Module) -> Module:
    """Make the same model of this package's layers out of a `torch.nn.Sequential`, or of one layer.

    The weights and buffers are copies, of the same dtype and on the same device; the modes are those of the model. A
    layer in two places is one layer here too.

    Raises:
        ArgumentError: a module has no counterpart here, an option that ours does not have, hooks or parametrizations.
    """
    return _from_torch(model, {})


def _from_torch(theirs: torch.nn.Module, made: dict[int, Module]) -> Module:
    if not isinstance(theirs, torch.nn.Module):
        raise ArgumentError(f"model is {type(theirs).__name__}, but a torch.nn.Module is expected")
    if id(theirs) in made:
        return made[id(theirs)]
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(getattr(theirs, kind, None) for kind in kinds) or "forward" in vars(theirs):
        raise ArgumentError(
            f"{theirs!r} has hooks, or a forward of its own, which would be lost; remove them first (weight_norm, "
            "spectral_norm and pruning are such hooks)"
        )
    if torch.nn.utils.parametrize.is_parametrized(theirs):
        raise ArgumentError(
            f"{theirs!r} has parametrizations, which would be lost; "
            "torch.nn.utils.parametrize.remove_parametrizations makes plain parameters of them"
        )
    module: Module
    if type(theirs) is torch.nn.Sequential:
        module = Sequential(*(_from_torch(inner, made) for inner in theirs))
    else:
        ours = next((spec.subject for spec in LAYERS if spec.twin is type(theirs)), None)
        if ours is None:
            raise ArgumentError(
                f"{theirs!r} has no counterpart here; a torch.nn.Sequential of layers that are here too is expected"
            )
        taken = constructor_options(ours)
        for name, parameter in constructor_options(type(theirs)).items():
            value = getattr(theirs, name, None)
            # Whether a parameter is there, such as the bias, shows in the state.
            if (
                name not in taken
                and not (value is None or isinstance(value, torch.Tensor))
                and value != parameter.default
            ):
                raise ArgumentError(f"{theirs!r} has {name} = {value!r}, but only {parameter.default!r} is here too")
        try:
            module = ours(**options_from(theirs, ours))
            _load(module, theirs.state_dict())
        except (ArgumentError, StateDictError) as error:
            raise ArgumentError(f"{theirs!r} has no counterpart here: {error}") from error
    module.training = theirs.training
    made[id(theirs)] = module
    return module


def _load(module: Any, state: Mapping[str, torch.Tensor]) -> None:
    """Load a state into a module of either side, in the state's dtype and on its device."""
    for tensor in state.values():
        if tensor.is_floating_point() or tensor.is_complex():
            module.to(device=tensor.device, dtype=tensor.dtype)
    module.load_state_dict(dict(state))
