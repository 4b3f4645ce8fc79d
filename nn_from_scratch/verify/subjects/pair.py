"""A pair of functions, forward and backward, on torch tensors or NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Operand, Run, Subject, Traits, Values
from nn_from_scratch.verify.subjects.arrays import arrays_for, cotangent_tree, match_gradients, numpy_call
from nn_from_scratch.verify.subjects.backward_arguments import (
    DY,
    BackwardCall,
    Kind,
    is_cache,
    is_derivative,
    is_one_number,
    positional_arguments,
    required_arguments,
    scaled,
    split_cache,
    understand,
)
from nn_from_scratch.verify.subjects.call_arguments import Arguments, differentiable_names, private_values, role_names
from nn_from_scratch.verify.subjects.gradient_order import gradient_order
from nn_from_scratch.verify.subjects.methods import find_methods, is_derivative_name, is_static
from nn_from_scratch.verify.subjects.recognition import Form, plain_name
from nn_from_scratch.verify.subjects.structure import describe, name_outputs

_CONTEXTS = ("ctx", "context")
Pair = tuple[Callable[..., Any], Callable[..., Any]]


class PairRun:
    """What the forward returned, and how the backward is to be called."""

    def __init__(self, subject: PairSubject, private: Mapping[str, Tensor]) -> None:
        self._subject = subject
        self.handed: Mapping[str, Tensor] = private
        self._forward()
        self._named = name_outputs(self._raw, subject.name)
        self.outputs: Mapping[str, Tensor] = {name: tensor.detach() for name, tensor in self._named.items()}

    def _forward(self) -> None:
        subject = self._subject
        self._raw, self._cache = split_cache(subject.call_forward(self.handed), subject.cached, subject.name)
        subject.latest = self

    def call_backward(self, cotangents: Cotangents) -> object:
        """Call the backward; what it returns."""
        subject = self._subject
        if not subject.traits.several_pending and subject.latest is not self:
            self._forward()  # what the forward left behind belongs to another call, or was used up
        subject.latest = None
        dy: Any = cotangent_tree(self._raw, self._named, cotangents)
        handed = arrays_for(self.handed, subject.arguments.arrays)
        given = subject.call.arguments(dy, handed, self._raw, self._cache)
        with numpy_call(subject.name, "backward"):
            returned = subject.target[1](*given)
            return returned * dy if subject.call.pointwise else returned

    def backward(self, cotangents: Cotangents) -> Gradients:
        subject = self._subject
        returned, wanted = self.call_backward(cotangents), differentiable_names(subject.operands)
        found = match_gradients(returned, subject.inputs, wanted, subject.name)
        return scaled(found, cotangents) if subject.call.bare else found

    def backward_onto(self, cotangents: Cotangents, held: Gradients) -> Gradients:
        raise SubjectError(f"{self._subject.name} returns its gradients; it keeps none in fields")

    def release(self) -> None:
        self._raw, self._cache, self.handed = None, None, {}
        self._named, self.outputs = {}, {}


@dataclass(eq=False)
class PairSubject:
    """`y, cache = forward(*xs)` with `backward(dy, cache)`, or `y = forward(*xs)` with `backward(dy)`.

    Attributes:
        cached: whether the forward returns a cache that the backward takes.
        call: what the backward takes.
        only: the input that a single gradient belongs to, where there are several.
        latest: the run that the forward was last called for, until its backward.
    """

    target: Pair
    arguments: Arguments
    name: str
    cached: bool = False
    call: BackwardCall = DY
    only: str | None = None
    form: str = "pair"
    latest: PairRun | None = None

    def __post_init__(self) -> None:
        arrays, cached = self.arguments.arrays, self.cached
        self.operands: tuple[Operand, ...] = self.arguments.operands
        if self.only is not None:
            self.operands = tuple(
                replace(o, differentiable=o.differentiable and o.name == self.only) for o in self.operands
            )
        self.inputs = role_names(self.operands, "input") if self.only is None else [self.only]
        content = "NumPy arrays" if arrays else "torch tensors"
        self.notes: tuple[str, ...] = (f"a pair on {content}; {self._taken()}",)
        if self.only is not None:
            self.notes += (f"backward gives one gradient, taken for that of {self.only}",)
        # A backward that takes nothing but the cotangent may depend on what the forward has left behind.
        free = cached or any(kind in ("input", "output") for kind, _ in self.call.roles)
        self.traits = Traits(several_pending=free, backward_twice=free, devices=not arrays, copies=False)

    def _taken(self) -> str:
        """What the backward takes, in words."""
        if self.call.pointwise:
            return "the backward is taken for the derivative, entry by entry"
        if self.call.bare:
            return "the backward takes no cotangent: it is taken for that of cotangent 1"
        if self.cached:
            return "the backward takes a cache"
        others = [name or kind for kind, name in self.call.roles if kind in ("input", "output")]
        return (
            f"the backward takes the cotangent and {', '.join(others)}"
            if others
            else "the backward takes the cotangent alone"
        )

    def call_forward(self, private: Mapping[str, Tensor]) -> object:
        """What the forward returns for these values."""
        with numpy_call(self.name, "forward"):
            return self.arguments.call(self.target[0], arrays_for(private, self.arguments.arrays))

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        return self.run(values).outputs

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> PairRun:
        if frozen:
            raise SubjectError(f"{self.name} is a pair of functions; it cannot be told that an input is frozen")
        private = private_values(self.operands, values)
        if beside is not None:
            private.update({name: x for name, x in beside.handed.items() if name not in values})
        return PairRun(self, private)

    def backward_together(self, runs: Sequence[Run], cotangents: Sequence[Cotangents]) -> Gradients:
        raise SubjectError(f"{self.name} is a pair of functions; nothing sums the gradients of several calls")

    def rebuilt(self, target: object) -> Subject:
        raise SubjectError(f"{self.name} is a pair of functions; only objects with state are copied")


def _accepts(obj: Any) -> bool:
    return _functions_of(obj) is not None


def _functions_of(obj: Any) -> Pair | None:
    """The forward and backward of a tuple, or of a class or object whose passes are static methods."""
    if isinstance(obj, tuple | list):
        return (obj[0], obj[1]) if len(obj) == 2 and all(callable(part) for part in obj) else None
    methods = find_methods(obj)
    if methods is None or not is_static(obj, methods):
        return None
    forward, backward = methods.forward_of(obj), methods.backward_of(obj)
    return _with_context(forward, backward) if _takes_context(forward, backward) else (forward, backward)


class Context:
    """What a forward saves for its backward, as in `torch.autograd.Function`."""

    saved_tensors: tuple[object, ...] = ()

    def save_for_backward(self, *tensors: object) -> None:
        """Keep these as `saved_tensors`."""
        self.saved_tensors = tensors


def _takes_context(*functions: object) -> bool:
    """Whether all of some functions take a context before their other arguments."""
    taken = [positional_arguments(function) or [] for function in functions]
    return all(len(parameters) > 1 and parameters[0].name in _CONTEXTS for parameters in taken)


def _with_context(forward: Callable[..., Any], backward: Callable[..., Any]) -> Pair:
    """The same passes as a pair whose cache is the context."""

    def with_context(*inputs: Any, **keywords: Any) -> tuple[object, Context]:
        context = Context()
        return forward(context, *inputs, **keywords), context

    def back(dy: object, context: Context) -> object:
        return backward(context, dy)

    return with_context, back


def _signature(obj: Any) -> tuple[object, int]:
    methods = None if isinstance(obj, tuple | list) else find_methods(obj)
    if methods is None:
        return obj[0], 0
    forward, backward = methods.forward_of(obj), methods.backward_of(obj)
    return forward, int(_takes_context(forward, backward))


def _label(obj: Any) -> str:
    return " / ".join(plain_name(part) for part in obj) if isinstance(obj, tuple | list) else plain_name(obj)


@Form(
    "pair",
    "a tuple (forward, backward) of functions on tensors or NumPy arrays",
    order=40,
    accepts=_accepts,
    signature=_signature,
    label=_label,
)
def adapt_pair(obj: Any, arguments: Arguments, *, name: str, cache: bool | None = None) -> PairSubject:
    """The subject around a pair; one forward and one backward pass show what its backward takes and gives.

    Args:
        cache: whether the forward returns a cache; None to find out from the signatures.

    Raises:
        SubjectError: the forward raised, or what it returned does not fit what the backward takes.
    """
    pair = _functions_of(obj)
    if pair is None:
        raise SubjectError(f"{name} is {describe(obj)}, but a tuple (forward, backward) of functions is expected")
    probe = PairSubject(pair, arguments, name)
    returned = probe.call_forward(private_values(probe.operands, {}))
    takes = required_arguments(pair[1])
    cached = _is_cached(returned, takes, name) if cache is None else cache
    subject = replace(probe, cached=cached, call=_call_of(pair, probe, returned, cached))
    run = subject.run({})
    try:
        gradients = run.call_backward({y: torch.ones_like(v) for y, v in run.outputs.items() if v.is_floating_point()})
    except SubjectError:
        return subject  # which the checks will say
    asked = [operand.name for operand in arguments.operands if operand.required]
    wanted = differentiable_names(arguments.operands)
    order = gradient_order(gradients, subject.inputs, wanted, asked, pair[1], {}, name, loss=is_one_number(run.outputs))
    return subject if order is None or len(order) > 1 else replace(subject, only=order[0])


def _is_cached(returned: object, takes: int | None, name: str) -> bool:
    """Whether the forward returned a cache for a backward that takes so many arguments."""
    parts = returned if isinstance(returned, tuple | list) else (returned,)
    count = len(parts)
    if takes is None:
        return count > 1
    if takes <= 1 or count == 1:
        return False
    if takes in (2, count):
        return not (takes == count > 2 and all(isinstance(part, Tensor) for part in parts))
    raise SubjectError(
        f"backward of {name} takes {takes} arguments, but forward returned {describe(returned)}; expected are "
        "`y, cache = forward(*xs)` with `backward(dy, cache)` or `y = forward(*xs)` with `backward(dy)`"
    )


def _call_of(pair: Pair, probe: PairSubject, returned: object, cached: bool) -> BackwardCall:
    """What the backward of a pair is called with."""
    parts = returned if isinstance(returned, tuple | list) else (returned,)
    outputs, takes = len(parts) - cached, required_arguments(pair[1])
    names = [p.name for p in positional_arguments(pair[1]) or () if p.default is p.empty]
    if cached:
        spread = outputs > 1 and takes == outputs + 1
        cotangents: tuple[tuple[Kind, str], ...] = (("cotangents" if spread else "cotangent", ""),)
        swapped = len(names) == 2 and is_cache(names[0]) and not is_cache(names[1])
        return BackwardCall((("cache", ""), *cotangents) if swapped else (*cotangents, ("cache", "")))
    if takes is None or takes == outputs > 1:
        return BackwardCall((("cotangents" if takes == outputs > 1 else "cotangent", ""),))
    call = understand(pair[1], probe.inputs, outputs, derivative=is_derivative_name(plain_name(pair[1])))
    if call is None or (call.bare and any(np.size(part) != 1 for part in parts)):
        raise SubjectError(
            f"backward of {probe.name} takes {takes} arguments ({', '.join(names)}), but forward returned "
            f"{describe(returned)}; expected are `y, cache = forward(*xs)` with `backward(dy, cache)`, or "
            f"`y = forward(*xs)` with `backward(dy)` or with `backward({', '.join(probe.inputs)}, dy)`"
        )
    if call.pointwise:
        subject = replace(probe, call=call)
        return subject.call if is_derivative(subject) or names[:1] == probe.inputs[:1] else DY
    return call
