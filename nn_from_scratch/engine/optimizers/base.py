"""What all optimizers share."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from nn_from_scratch.engine.module import Module
from nn_from_scratch.engine.optimizers.packing import Pack, adjacent, joined, packable, parted
from nn_from_scratch.errors import ArgumentError, StateDictError

#: Numbers that change from step to step, by name.
Coefficients = Mapping[str, float | Tensor]


class Optimizer:
    """What all optimizers share: the model, and state that follows its parameters by name.

    State tensors are moved to the device and dtype of their parameter when they are next used, so `model.cuda()`
    may come before or after the optimizer is made.
    """

    def __init__(self, model: Module, *, lr: float, weight_decay: float = 0.0) -> None:
        if not isinstance(model, Module):
            raise ArgumentError(
                f"model is a {type(model).__name__}, but an optimizer takes the Module itself, because zero_grad "
                "clears its records"
            )
        self.model = model
        self.lr = self.initial_lr = checked(lr, name="lr", least=0.0)  # schedules start from the initial one
        self.weight_decay = checked(weight_decay, name="weight_decay", least=0.0)
        self._state: dict[str, dict[str, Tensor]] = {}
        self._steps: dict[str, int] = {}
        self._packs: dict[tuple[str, ...], Pack] = {}

    @property
    def state_names(self) -> tuple[str, ...]:
        """The kinds of tensors that are kept for each parameter from its first step on."""
        return ()

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        with torch.no_grad():
            for t, named in self.groups().items():
                for name in named:
                    self._steps[name] = t + 1
                self.apply(named, self.coefficients(t + 1))

    def groups(self) -> dict[int, dict[str, Tensor]]:
        """The parameters that have a gradient, by how many steps each has made."""
        groups: dict[int, dict[str, Tensor]] = {}
        for name, parameter in self.model.parameters().items():
            if parameter.grad is not None:
                groups.setdefault(self._steps.get(name, 0), {})[name] = parameter
        return groups

    def advance(self, names: list[str]) -> int:
        """Count a step of these parameters, which have made equally many; how many they have made then."""
        for name in names:
            self._steps[name] += 1
        return self._steps[names[0]]

    def apply(self, named: dict[str, Tensor], c: Coefficients) -> None:
        """Update these parameters, which have gradients and have made equally many steps, with these coefficients."""
        gradients = {name: p.grad for name, p in named.items() if p.grad is not None}
        for name in named:
            self._state.setdefault(name, {})  # in the order of the parameters, whoever is updated first
        small = packable(named, self._state)
        large = {name: p for name, p in named.items() if name not in small}
        of_large = [gradients[name] for name in large]
        if not small:
            self.update(list(large), list(large.values()), of_large, c)
            return
        pack = self._pack(small)
        together, of_small = joined(small.values()), [gradients[name] for name in small]
        gradient = adjacent(of_small)
        if gradient is None:
            gradient = joined(of_small)
        self._state[pack.name] = pack.state
        try:
            self.update([pack.name, *large], [together, *large.values()], [gradient, *of_large], c)
        finally:
            del self._state[pack.name]
        pack.share(small, self._state)
        torch._foreach_copy_(list(small.values()), parted(together, small.values()))

    def _pack(self, small: dict[str, Tensor]) -> Pack:
        """The state of these parameters in one, as long as it is theirs."""
        names = tuple(small)
        pack = self._packs.get(names)
        if pack is None or not pack.is_shared(self._state):
            for others in [others for others in self._packs if {*others} & {*names}]:
                del self._packs[others]
            pack = self._packs[names] = Pack(small, self._state)
        return pack

    def coefficients(self, t: int) -> dict[str, float]:
        """The numbers of the update that change from step to step, where t counts a parameter's steps from 1.

        `update` takes them from here alone, so that a captured step is right in the next one too.
        """
        return {"lr": self.lr}

    def update(self, names: list[str], parameters: list[Tensor], gradients: list[Tensor], c: Coefficients) -> None:
        """Update parameters, at least one, in place; gradients must not be modified.

        On a CPU small parameters come as one, with one axis, because an operation on each would cost more than what it
        does; elsewhere an operation on a whole list (`torch._foreach_...`) costs one call.

        Args:
            names: of the parameters, as `state` knows them.
            parameters: those with a gradient that have made equally many steps.
            gradients: of each, of its shape.
            c: what `coefficients` gave; tensors of shape () while a step is captured.
        """
        raise TypeError(f"{type(self).__name__} defines no update; write one that changes the parameters in place")

    def decayed(self, parameters: list[Tensor], gradients: list[Tensor], c: Coefficients) -> list[Tensor]:
        """The gradients with those of decay theta^2 / 2 added."""
        if not self.weight_decay:
            return gradients
        return list(torch._foreach_add(gradients, parameters, alpha=self.weight_decay))

    def zero_grad(self) -> None:
        """Drop the gradients, and with them the records of every module of the model."""
        for module in self.model.all_modules():
            for parameter in module.own_parameters().values():
                parameter.grad = None
        self.model.clear_saved_tensors()

    def states(self, names: list[str], parameters: list[Tensor]) -> list[list[Tensor]]:
        """For each of `state_names` the tensors of all these parameters, of zeros where they are new."""
        held = [self.state(name, parameter) for name, parameter in zip(names, parameters, strict=True)]
        for kept, parameter in zip(held, parameters, strict=True):
            if not kept:
                kept.update({kind: torch.zeros_like(parameter) for kind in self.state_names})
        return [[kept[kind] for kept in held] for kind in self.state_names]

    def state(self, name: str, like: Tensor) -> dict[str, Tensor]:
        """The state of the parameter of this name, where and as the parameter is; empty before its first step."""
        kept = self._state.setdefault(name, {})
        for kind, tensor in kept.items():
            if tensor.device != like.device or tensor.dtype != like.dtype:
                kept[kind] = tensor.to(device=like.device, dtype=like.dtype)
        return kept

    def describe(self, **options: object) -> str:
        """`Name(lr=..., option=value)`."""
        named = [f"{name}={value!r}" for name, value in {"lr": self.lr, **options}.items()]
        return f"{type(self).__name__}({', '.join(named)})"

    def state_dict(self) -> dict[str, Tensor]:
        """All that a resumed run needs beside the options, such as `step.0.weight` and `momentum.0.weight`.

        The tensors share memory with the optimizer's, so clone what must last.
        """
        flat = {f"step.{name}": torch.tensor(count) for name, count in self._steps.items()}
        for name, kept in self._state.items():
            flat.update({f"{kind}.{name}": tensor for kind, tensor in kept.items()})
        return flat

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` gave; either all of it or, after an error, nothing.

        Raises:
            StateDictError: an entry is missing, of another optimizer or model, or of another shape.
        """
        parameters = self.model.parameters()
        expected: dict[str, tuple[int, ...]] = {}
        for name, parameter in parameters.items():
            if f"step.{name}" in state:
                expected[f"step.{name}"] = ()
                expected.update({f"{kind}.{name}": tuple(parameter.shape) for kind in self.state_names})
        for key in state:
            if key not in expected:
                raise StateDictError(f"state[{key!r}] belongs to no parameter of this model under {self!r}")
        for key, shape in expected.items():
            if key not in state:
                raise StateDictError(f"state[{key!r}] is missing, but {self!r} keeps it")
            if tuple(state[key].shape) != shape:
                raise StateDictError(f"state[{key!r}] has shape {tuple(state[key].shape)}, but {shape} is expected")
        stepped = [name for name in parameters if f"step.{name}" in state]
        self._steps = {name: int(state[f"step.{name}"]) for name in stepped}
        self._state = {name: {k: state[f"{k}.{name}"].clone() for k in self.state_names} for name in stepped}


def descend(parameters: list[Tensor], directions: list[Tensor], rate: float | Tensor) -> None:
    """Take the rate times its direction from every parameter, in place: theta <- theta - rate d.

    With two roundings whatever the rate is, so that a captured step gives the same bits.
    """
    torch._foreach_sub_(parameters, torch._foreach_mul(directions, rate))


def given(**options: object) -> dict[str, object]:
    """The options that are on."""
    return {name: value for name, value in options.items() if value}


def checked(value: float, *, name: str, least: float, below: float = math.inf) -> float:
    """The value as a float, if it lies in [least, below).

    Raises:
        ArgumentError: it does not, or is no number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < below:
        limit = f" and below {below}" if below < math.inf else ""
        raise ArgumentError(f"{name} is {value!r}, but a finite number of at least {least}{limit} is expected")
    return float(value)
