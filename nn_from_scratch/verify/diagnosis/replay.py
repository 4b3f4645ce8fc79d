"""The forward of a subject, run again with autograd, one of its calls of torch perhaps with another derivative.

A forward that consists of differentiable functions of torch has a gradient by autograd, whoever wrote its backward. It
is no truth here: it is used only where it agrees with the numerical one. Then experiments are cheap, and a fault inside
of a composition has a name: the gradient is right if one call, such as a softmax, had another derivative.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.diagnosis.constants import SHORT_DESCRIPTION
from nn_from_scratch.verify.diagnosis.problem import Cotangents, plain

Forward = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Values by name to outputs by name."""

Surrogate = Callable[["Call"], Tensor]
"""From a call to a tensor of its output's shape, whose gradient is taken in place of that of the output."""

# What copies a tensor, or shows its entries in another order: not a place for a fault of its own.
_COPIES = ("detach", "clone", "contiguous", "to", "double", "float", "type", "type_as", "resolve_conj", "resolve_neg")
_SHAPES = (
    "view",
    "view_as",
    "reshape",
    "flatten",
    "unflatten",
    "squeeze",
    "unsqueeze",
    "expand",
    "expand_as",
    "as_strided",
)
_ORDERS = ("transpose", "permute", "movedim", "swapaxes", "t", "__get__", "__getitem__", "__deepcopy__")
_CARRIERS = frozenset((*_COPIES, *_SHAPES, *_ORDERS))


@dataclass
class Call:
    """One call of a function of torch, in the order in which the forward makes them.

    Attributes:
        tensors: The arguments that are floating tensors.
        describe: Such as "matmul(x, w)"; what is no operand stands with the function that it comes from.
        words: The same for each tensor among the arguments.
        output: What it returned.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    name: str
    describe: str
    words: tuple[str, ...]
    output: Tensor

    def options(self) -> Iterator[tuple[str, object, object]]:
        """Every option of a Python function that is no tensor: its name, its value, and its default."""
        try:
            bound = inspect.signature(self.function).bind(*self.arguments, **self.keywords)
            parameters = bound.signature.parameters
        except (TypeError, ValueError):
            # A function that does not say what its options are: those that stand there by name.
            yield from ((name, value, None) for name, value in self.keywords.items() if _is_option(value))
            return
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            default = parameters[name].default
            by_name = (
                parameters[name].kind is not inspect.Parameter.VAR_KEYWORD and default is not inspect.Parameter.empty
            )
            if by_name and (_is_option(value) or (isinstance(value, Tensor) and default is None)):
                yield name, value, default

    def with_option(self, name: str, value: object) -> Tensor:
        """The output with another value of one option."""
        found: Tensor
        try:
            bound = inspect.signature(self.function).bind(*self.arguments, **self.keywords)
        except (TypeError, ValueError):
            left = {key: given for key, given in self.keywords.items() if key != name}
            found = self.function(*self.arguments, **left)
            return found
        bound.arguments[name] = value
        found = self.function(*bound.args, **bound.kwargs)
        return found

    def with_first(self, argument: object) -> Tensor:
        """The output with another first argument."""
        found: Tensor = self.function(argument, *self.arguments[1:], **self.keywords)
        return found

    def again(self, *tensors: Tensor) -> Tensor:
        """The output for other tensors in place of the arguments'."""
        given = iter(tensors)
        replaced = [next(given) if _is_floating(a) else a for a in self.arguments]
        found: Tensor = self.function(*replaced, **self.keywords)
        return found


@dataclass
class _Recorder(TorchFunctionMode):
    """Switches autograd on around every call, records those that are worth a name, and exchanges one derivative."""

    names: dict[int, str] = field(default_factory=dict)
    at: int | None = None
    surrogate: Surrogate | None = None
    instead: bool = False
    calls: list[Call] = field(default_factory=list)
    kept: list[object] = field(default_factory=list)
    shadows: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        keywords, name = kwargs or {}, str(getattr(func, "__name__", func))
        if not any(isinstance(a, Tensor | list | tuple) for a in (*args, *keywords.values())):
            return func(*args, **keywords)  # what switches autograd off does so, for what no call of torch is
        args = tuple(self._with_graph(a) for a in args)
        with torch.enable_grad():
            # A forward that detaches a tensor has the same value, and so the same derivative, without that.
            out = args[0].view_as(args[0]) if name == "detach" else func(*args, **keywords)
            if not _is_floating(out):
                return out
            tensors = tuple(a for a in args if _is_floating(a))
            words = tuple(self.names.get(id(t), "…") for t in tensors)
            in_place = (name.endswith("_") and not name.endswith("__")) or name.startswith("__i")
            if (
                name in _CARRIERS
                or in_place
                or not tensors
                or any(_is_floating(v) and v.requires_grad for v in keywords.values())
            ):
                return self._remember(out, args, words[0] if words else "…")
            label = name.strip("_")
            description = f"{label}({', '.join(words)})"
            self.calls.append(Call(func, args, keywords, tensors, label, description, words, out))
            if self.surrogate is not None and self.at == len(self.calls) - 1:
                other = self.surrogate(self.calls[-1])
                out = other if self.instead else out.detach() + (other - other.detach())
            return self._remember(out, args, description if len(description) <= SHORT_DESCRIPTION else f"{label}(…)")

    def _remember(self, out: Tensor, args: tuple[Any, ...], name: str) -> Tensor:
        """Keep a tensor's graph, which an autograd function takes from its output, and its name."""
        shadow = out.view_as(out)
        self.kept.append((args, out))  # so that no identity is used twice
        self.shadows[id(out)] = shadow
        self.names[id(out)] = self.names[id(shadow)] = name
        return out

    def _with_graph(self, value: Any) -> Any:
        if type(value) in (list, tuple) and any(isinstance(v, Tensor) for v in value):
            return type(value)([self._with_graph(v) for v in value])
        return value if not _is_floating(value) or value.requires_grad else self.shadows.get(id(value), value)


def _is_option(value: object) -> bool:
    return isinstance(value, str | bool | int | float)


def _is_floating(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


@dataclass(frozen=True)
class Replay:
    """A forward that can be run again with autograd, at given values."""

    forward: Forward
    tensors: Mapping[str, Tensor]

    def gradient(
        self,
        name: str,
        cotangents: Cotangents,
        changed: Mapping[str, Tensor] | None = None,
        *,
        at: int | None = None,
        surrogate: Surrogate | None = None,
        instead: bool = False,
    ) -> tuple[Tensor | None, list[Call]]:
        """The gradient of one tensor, float64 on the CPU, and the calls of the forward.

        Args:
            name: The tensor.
            cotangents: One for each output, by name.
            changed: Tensors in place of others, by name.
            at: Which call has another derivative, that of the `surrogate`.
            instead: Whether it also has another value, that of the surrogate.

        Returns:
            No gradient where the forward does not let autograd through, or raises.
        """
        values = {**self.tensors, **{key: value.to(self.tensors[key]) for key, value in (changed or {}).items()}}
        with torch.inference_mode(False), torch.enable_grad():
            leaves = {key: _leaf(value) for key, value in values.items()}
            # Copies, which the forward may write into.
            handed = {key: leaf.clone() if leaf.requires_grad else leaf for key, leaf in leaves.items()}
            recorder = _Recorder({id(value): key for key, value in handed.items()}, at, surrogate, instead)
            try:
                with recorder:
                    outputs = self.forward(handed)
                pairs = [(outputs[key], g.to(outputs[key])) for key, g in cotangents.items() if key in outputs]
                pairs = [(y, g) for y, g in pairs if y.requires_grad]
                if not pairs:
                    return None, recorder.calls
                ys, gs = zip(*pairs, strict=True)
                (found,) = torch.autograd.grad(ys, leaves[name], gs, allow_unused=True)
            except (SubjectError, RuntimeError, IndexError, ValueError, TypeError, NotImplementedError):
                return None, recorder.calls
        return (torch.zeros_like(plain(leaves[name])) if found is None else plain(found)), recorder.calls


def _leaf(value: Tensor) -> Tensor:
    copy = value.detach().clone()
    return copy.requires_grad_() if copy.is_floating_point() or copy.is_complex() else copy
