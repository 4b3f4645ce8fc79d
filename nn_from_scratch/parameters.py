"""The tree of modules and the parameters in it: names, moving, saving."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import Self

from nn_from_scratch.errors import DeviceError, DtypeError, StateDictError


class ModuleTree:
    """What a module knows of its parameters and of the modules inside it; `Module` adds forward and backward.

    A parameter is a plain tensor under an attribute that `parameter_names` lists; its `grad` is None or a tensor.
    """

    parameter_names: ClassVar[tuple[str, ...]] = ()

    def own_parameters(self) -> dict[str, Tensor]:
        """The parameters of this module alone, by attribute name, without those that are None (no bias)."""
        named = ((name, getattr(self, name)) for name in self.parameter_names)
        return {name: tensor for name, tensor in named if tensor is not None}

    def modules(self) -> tuple[ModuleTree, ...]:
        """The modules directly inside this one, in order (as in the report; unlike torch, not the nested ones)."""
        return ()

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, ModuleTree]]:
        """The modules directly inside, with the names that stand in front of their parameters' names."""
        for place, module in enumerate(self.modules()):
            yield f"{prefix}{place}", module

    def all_modules(self) -> Iterator[ModuleTree]:
        """This module and all inside it at any depth, each object once."""
        seen: set[int] = set()
        stack: list[ModuleTree] = [self]
        while stack:
            module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield module
                stack.extend(reversed(module.modules()))

    def parameters(self) -> dict[str, Tensor]:
        """All parameters by name (`"weight"` in a layer, `"0.weight"` in a `Sequential`), each tensor once."""
        found: dict[str, Tensor] = {}
        seen: set[int] = set()
        stack: list[tuple[str, ModuleTree]] = [("", self)]
        while stack:
            prefix, module = stack.pop()
            for name, tensor in module.own_parameters().items():
                if id(tensor) not in seen:
                    seen.add(id(tensor))
                    found[prefix + name] = tensor
            stack.extend(reversed([(f"{name}.", inner) for name, inner in module.named_modules(prefix)]))
        return found

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move the parameters and their gradients, and return the module itself.

        Pending records keep the tensors that they were made with, so backward through them is refused afterwards.

        Raises:
            DeviceError: the device is not available.
            DtypeError: the dtype is not a floating-point or complex one.
        """
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise DtypeError(f"dtype is {dtype}, but parameters need a floating-point or complex dtype")
        if device is not None:
            device = torch.device(device)
            if device.type == "cuda" and not torch.cuda.is_available():
                raise DeviceError(f"device is {str(device)!r}, but CUDA is not available here; 'cpu' is")
        moved: dict[int, Tensor] = {}  # a tensor shared by two layers stays shared
        for module in self.all_modules():
            for name, old in module.own_parameters().items():
                if id(old) not in moved:
                    new = old.to(device=device, dtype=dtype)
                    if new is not old and old.grad is not None:
                        new.grad = old.grad.to(device=device, dtype=dtype)
                    moved[id(old)] = new
                setattr(module, name, moved[id(old)])
        return self

    def cuda(self) -> Self:
        """Move the parameters to the current CUDA device.

        Raises:
            DeviceError: CUDA is not available.
        """
        return self.to("cuda")

    def state_dict(self) -> dict[str, Tensor]:
        """The parameters' values by name; they share memory with the parameters, so clone what must last."""
        return {name: tensor.detach() for name, tensor in self.parameters().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy values into the parameters; either all of them or, after an error, none.

        Raises:
            StateDictError: names are missing or unexpected, or a shape or dtype differs.
        """
        parameters = self.parameters()
        missing = [name for name in parameters if name not in state]
        unexpected = [name for name in state if name not in parameters]
        if missing or unexpected:
            raise StateDictError(
                f"state has other names than {type(self).__name__}: "
                f"missing {', '.join(missing) or 'none'}; unexpected {', '.join(unexpected) or 'none'}"
            )
        for name, parameter in parameters.items():
            value = state[name]
            if value.shape != parameter.shape or value.dtype != parameter.dtype:
                raise StateDictError(
                    f"state[{name!r}] is {value.dtype} of shape {tuple(value.shape)}, but the parameter is "
                    f"{parameter.dtype} of shape {tuple(parameter.shape)}"
                )
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(state[name])
