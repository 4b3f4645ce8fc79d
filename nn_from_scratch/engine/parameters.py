"""Parameters and buffers: how they start, and the tree of modules that names, moves and saves them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import Self

from nn_from_scratch.errors import ArgumentError, DeviceError, DtypeError, StateDictError


class ModuleTree:
    """What a module knows of its parameters and of the modules inside it; `Module` adds forward and backward.

    A parameter is a plain tensor under an attribute that `parameter_names` lists; its `grad` is None or a tensor.
    A buffer is one that `buffer_names` lists: it is moved and saved with the parameters, and has no gradient.

    Attributes:
        training: whether the module is in training or in evaluation mode; most layers do the same in both.
    """

    parameter_names: ClassVar[tuple[str, ...]] = ()
    buffer_names: ClassVar[tuple[str, ...]] = ()
    training: bool = True

    def own_parameters(self) -> dict[str, Tensor]:
        """The parameters of this module alone, by attribute name, without those that are None (no bias)."""
        if not self.parameter_names:  # as for most layers, several times a step
            return {}
        return {name: tensor for name in self.parameter_names if (tensor := getattr(self, name)) is not None}

    def own_buffers(self) -> dict[str, Tensor]:
        """The buffers of this module alone, by attribute name, without those that are None."""
        if not self.buffer_names:
            return {}
        return {name: tensor for name in self.buffer_names if (tensor := getattr(self, name)) is not None}

    def modules(self) -> tuple[ModuleTree, ...]:
        """The modules directly inside this one, in order (as in the report; unlike torch, not the nested ones)."""
        return ()

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, ModuleTree]]:
        """The modules directly inside, with the names that stand in front of their parameters' names."""
        for place, module in enumerate(self.modules()):
            yield f"{prefix}{place}", module

    def all_modules(self) -> list[ModuleTree]:
        """This module and all inside it at any depth, each object once."""
        found: dict[int, ModuleTree] = {}
        stack: list[ModuleTree] = [self]
        while stack:
            module = stack.pop()
            if id(module) not in found:
                found[id(module)] = module
                inner = module.modules()
                if inner:
                    stack.extend(reversed(inner))
        return list(found.values())

    def _placed(self) -> Iterator[tuple[str, ModuleTree]]:
        """This module and all inside it, each with the prefix of its tensors' names; once for every place."""
        stack: list[tuple[str, ModuleTree]] = [("", self)]
        while stack:
            prefix, module = stack.pop()
            yield prefix, module
            stack.extend(reversed([(f"{name}.", inner) for name, inner in module.named_modules(prefix)]))

    def parameters(self) -> dict[str, Tensor]:
        """All parameters by name (`"weight"` in a layer, `"0.weight"` in a `Sequential`), each tensor once."""
        return _once(
            (p + name, tensor) for p, module in self._placed() for name, tensor in module.own_parameters().items()
        )

    def buffers(self) -> dict[str, Tensor]:
        """All buffers by name, such as `"1.running_mean"`, each tensor once."""
        return _once(
            (p + name, tensor) for p, module in self._placed() for name, tensor in module.own_buffers().items()
        )

    def train(self, mode: bool = True) -> Self:
        """Put this module and all inside it into training mode (or with False into evaluation), and return it.

        Raises:
            ArgumentError: `mode` is not a bool.
        """
        if not isinstance(mode, bool):
            raise ArgumentError(f"mode is {mode!r}, but True for training or False for evaluation is expected")
        for module in self.all_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Put this module and all inside it into evaluation mode: running statistics, no dropout."""
        return self.train(False)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move the parameters, their gradients and the buffers, and return the module itself.

        A buffer of integers keeps its dtype.
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
            for name, old in module.own_buffers().items():
                if id(old) not in moved:
                    counts = not (old.is_floating_point() or old.is_complex())
                    moved[id(old)] = old.to(device=device, dtype=None if counts else dtype)
                setattr(module, name, moved[id(old)])
        return self

    def cuda(self) -> Self:
        """Move the parameters to the current CUDA device.

        Raises:
            DeviceError: CUDA is not available.
        """
        return self.to("cuda")

    def state_dict(self) -> dict[str, Tensor]:
        """The values of parameters and buffers by name; they share memory with the module, so clone what must last."""
        tensors = _once(
            (prefix + name, tensor)
            for prefix, module in self._placed()
            for name, tensor in (module.own_parameters() | module.own_buffers()).items()
        )
        return {name: tensor.detach() for name, tensor in tensors.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy values into the parameters and buffers; either into all of them or, after an error, into none.

        Raises:
            StateDictError: names are missing or unexpected, or a shape or dtype differs.
        """
        buffers = self.buffers()
        held = self.parameters() | buffers
        missing = [name for name in held if name not in state]
        unexpected = [name for name in state if name not in held]
        if missing or unexpected:
            raise StateDictError(
                f"state has other names than {type(self).__name__}: "
                f"missing {', '.join(missing) or 'none'}; unexpected {', '.join(unexpected) or 'none'}"
            )
        for name, tensor in held.items():
            value = state[name]
            if value.shape != tensor.shape or value.dtype != tensor.dtype:
                raise StateDictError(
                    f"state[{name!r}] is {value.dtype} of shape {tuple(value.shape)}, but the "
                    f"{'buffer' if name in buffers else 'parameter'} is {tensor.dtype} of shape {tuple(tensor.shape)}"
                )
        with torch.no_grad():
            for name, tensor in held.items():
                tensor.copy_(state[name])


def _once(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors by name, one that has several names under the first alone."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in named:
        found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())


def uniform(
    *shape: int,
    fan: int,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Independent samples of U(-sqrt(k), sqrt(k)) with k = 1 / fan (report, II.F).

    For the convolutions fan = c n, the channels that one output (in the transposed case: one input) is connected
    with times the entries of the kernel; this is PyTorch's distribution too.

    Raises:
        DtypeError: the dtype is not a floating-point one.
    """
    if dtype is not None and not dtype.is_floating_point:
        raise DtypeError(f"dtype is {dtype}, but parameters need a floating-point dtype")
    bound = 1 / math.sqrt(fan)
    values = torch.empty(shape, device=device, dtype=dtype)
    return values.uniform_(-bound, bound, generator=generator)


def positive(value: int, *, name: str) -> int:
    """The value, if it is a positive integer.

    Raises:
        ArgumentError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ArgumentError(f"{name} is {value!r}, but a positive integer is expected")
    return value
