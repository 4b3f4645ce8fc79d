"""Parameters and buffers: what they are made of, how they start, and the tree of modules that names and saves them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import Self

from nn_from_scratch.errors import ArgumentError, DeviceError, DtypeError, OptionTypeError, StateDictError


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
        check_dtype(dtype, complex_too=True)
        check_device(device)
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
        if not isinstance(state, Mapping):
            raise StateDictError(f"state is a {type(state).__name__}, but a dictionary of tensors by name is expected")
        missing = [name for name in held if name not in state]
        unexpected = [name for name in state if name not in held]
        if missing or unexpected:
            raise StateDictError(
                f"state has other names than {type(self).__name__}: "
                f"missing {', '.join(missing) or 'none'}; unexpected {', '.join(unexpected) or 'none'}"
            )
        for name, tensor in held.items():
            value = state[name]
            if not isinstance(value, Tensor):
                raise StateDictError(f"state[{name!r}] is a {type(value).__name__}, but a torch.Tensor is expected")
            if value.dtype != tensor.dtype or value.is_nested or value.shape != tensor.shape:
                raise StateDictError(
                    f"state[{name!r}] is {value.dtype} of shape {_shape(value)}, but the "
                    f"{'buffer' if name in buffers else 'parameter'} is {tensor.dtype} of shape {tuple(tensor.shape)}"
                )
        with torch.no_grad():
            for name, tensor in held.items():
                tensor.copy_(state[name])


def _shape(tensor: Tensor) -> str:
    return "no single shape" if tensor.is_nested else str(tuple(tensor.shape))


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
        ArgumentError, DeviceError, DtypeError: see `check_parameter`.
    """
    check_parameter(shape, device=device, dtype=dtype, generator=generator)
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


def switch(value: bool, *, name: str) -> bool:
    """The value, if it is True or False.

    Raises:
        OptionTypeError: it is not.
    """
    if not isinstance(value, bool):
        kind = type(value).__name__
        raise OptionTypeError(f"{name} is a value of the type {kind}, but True or False is expected")
    return value


def check_dtype(dtype: torch.dtype | None, *, complex_too: bool = False) -> None:
    """Refuse a dtype that parameters cannot have; None is torch's default.

    Raises:
        DtypeError: it is not a dtype, or neither a floating-point nor, where `complex_too`, a complex one.
    """
    if dtype is None:
        return
    expected = "a floating-point or complex dtype" if complex_too else "a floating-point dtype"
    if not isinstance(dtype, torch.dtype) or not (dtype.is_floating_point or (complex_too and dtype.is_complex)):
        raise DtypeError(f"dtype is {dtype!r}, but parameters need {expected}")


def check_device(device: torch.device | str | int | None) -> None:
    """Refuse a device on which no tensor can be made; None is torch's default.

    Raises:
        DeviceError: it names no device, or one that is not available here.
    """
    if device is None:
        return
    if isinstance(device, bool) or not isinstance(device, torch.device | str | int):
        raise DeviceError(f"device is {device!r}, but the name of a device such as 'cpu' is expected")
    try:
        place = torch.device(device)
    except (RuntimeError, ValueError):  # torch says so at length, with all names that it has ever known
        raise DeviceError(f"device is {device!r}, but the name of a device such as 'cpu' is expected") from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device is {str(device)!r}, but CUDA is not available here; 'cpu' is")
    try:
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError):  # another build of torch has it, or there are fewer of them
        raise DeviceError(f"device is {str(device)!r}, which is not available here; 'cpu' is") from None


def check_parameter(
    shape: Sequence[int], *, device: torch.device | str | None, dtype: torch.dtype | None, generator: object = None
) -> None:
    """Refuse what no parameter can be made with.

    Raises:
        ArgumentError: it would have more entries than can be counted.
        OptionTypeError: the generator is not one of torch.
        DeviceError: the device is not available.
        DtypeError: the dtype is not a floating-point one.
    """
    check_dtype(dtype)
    check_device(device)
    if math.prod(shape) > sys.maxsize:
        raise ArgumentError(f"a parameter would have the shape {tuple(shape)}, but no memory holds so many entries")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise OptionTypeError(f"generator is a {type(generator).__name__}, but a torch.Generator is expected")
