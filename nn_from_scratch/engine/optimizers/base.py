"""The base of all optimizers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nn_from_scratch.engine.arguments import real
from nn_from_scratch.engine.module import Module
from nn_from_scratch.errors import ArgumentError, StateDictError


class Optimizer:
    """The base of all optimizers: the model, and state that follows its parameters by name.

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
        self.lr = self.initial_lr = real(lr, name="lr", least=0.0)  # schedules start from the initial one
        self.weight_decay = real(weight_decay, name="weight_decay", least=0.0)
        self._state: dict[str, dict[str, Tensor]] = {}
        self._steps: dict[str, int] = {}

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the tensors that are kept for each parameter from its first step on."""
        return ()

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        parameters = self.model.parameters()
        self._update_by_steps(parameters, {name: p.grad for name, p in parameters.items() if p.grad is not None})

    def step_with(self, parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        """`step` with the model's parameters and these gradients, by name, in place of what `grad` holds."""
        if type(self).step is Optimizer.step:
            self._update_by_steps(parameters, gradients)
            return
        for name, gradient in gradients.items():
            parameters[name].grad = gradient
        self.step()
        self.zero_grad()

    def _update_by_steps(self, parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        # In groups that have made equally many steps, on which corrections of a bias depend.
        groups: dict[int, list[str]] = {}
        for name in gradients:
            t = self._steps[name] = self._steps.get(name, 0) + 1
            groups.setdefault(t, []).append(name)
        with torch.no_grad():
            for t, names in groups.items():
                self.update(names, [parameters[n] for n in names], [gradients[n] for n in names], t)

    def update(self, names: list[str], parameters: list[Tensor], gradients: list[Tensor], t: int) -> None:
        """Update parameters, at least one, in place; gradients must not be modified.

        An operation on a whole list (`torch._foreach_...`) costs one call, and on a GPU few kernels.

        Args:
            names: of the parameters, as `state` knows them.
            parameters: those with a gradient that have made equally many steps.
            gradients: of each, of its shape.
            t: counts their steps, this one included.
        """
        raise TypeError(f"{type(self).__name__} defines no update; write one that changes the parameters in place")

    def decayed(self, parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
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
        device, dtype = like.device, like.dtype
        for kind, tensor in kept.items():
            if tensor.dtype is not dtype or tensor.device != device:
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
        if not isinstance(state, Mapping):
            raise StateDictError(f"state is a {type(state).__name__}, but a dictionary of tensors by name is expected")
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


def given(**options: object) -> dict[str, object]:
    """The options that are on."""
    return {name: value for name, value in options.items() if value}
