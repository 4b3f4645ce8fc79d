"""A pair of functions, forward and backward, on torch tensors or NumPy arrays."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Run, Subject, Traits, Values
from nn_from_scratch.verify.subjects.arrays import arrays_for, cotangent_tree, match_gradients, numpy_call
from nn_from_scratch.verify.subjects.call_arguments import Arguments, differentiable_names, private_values, role_names
from nn_from_scratch.verify.subjects.recognition import Form, plain_name
from nn_from_scratch.verify.subjects.structure import describe, name_outputs

Pair = tuple[Callable[..., Any], Callable[..., Any]]


def positional_arguments(function: object) -> list[inspect.Parameter] | None:
    """The positional arguments of a function; None if it does not say, or takes any number of them."""
    try:
        parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def required_arguments(function: object) -> int | None:
    """How many positional arguments a function cannot do without; None if it does not say."""
    positional = positional_arguments(function)
    return None if positional is None else sum(p.default is p.empty for p in positional)


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
        self._raw, self._cache = subject.split(subject.call_forward(self.handed))
        subject.latest = self

    def backward(self, cotangents: Cotangents) -> Gradients:
        subject = self._subject
        if not subject.traits.several_pending and subject.latest is not self:
            self._forward()  # what the forward left behind belongs to another call, or was used up
        subject.latest = None
        dy = cotangent_tree(self._raw, self._named, cotangents)
        seeds = list(dy) if subject.spread and isinstance(dy, tuple | list) else [dy]
        with numpy_call(subject.name, "backward"):
            returned = subject.target[1](*seeds, *self._cache)
        inputs = role_names(subject.operands, "input")
        return match_gradients(returned, inputs, differentiable_names(subject.operands), subject.name)

    def backward_onto(self, cotangents: Cotangents, held: Gradients) -> Gradients:
        raise SubjectError(f"{self._subject.name} returns its gradients; it keeps none in fields")

    def release(self) -> None:
        self._raw, self._cache, self.handed = None, (), {}
        self._named, self.outputs = {}, {}


@dataclass(eq=False)
class PairSubject:
    """`y, cache = forward(*xs)` with `backward(dy, cache)`, or `y = forward(*xs)` with `backward(dy)`.

    Attributes:
        cached: whether the forward returns a cache that the backward takes.
        spread: whether the backward takes the cotangents of several outputs as several arguments.
        latest: the run that the forward was last called for, until its backward.
    """

    target: Pair
    arguments: Arguments
    name: str
    cached: bool = False
    spread: bool = False
    form: str = "pair"
    latest: PairRun | None = None

    def __post_init__(self) -> None:
        self.operands, arrays, cached = self.arguments.operands, self.arguments.arrays, self.cached
        content = "NumPy arrays" if arrays else "torch tensors"
        self.notes: tuple[str, ...] = (
            f"a pair on {content}; the backward takes {'a cache' if cached else 'the cotangent alone'}",
        )
        self.traits = Traits(several_pending=cached, backward_twice=cached, devices=not arrays, copies=False)

    def call_forward(self, private: Mapping[str, Tensor]) -> object:
        """What the forward returns for these values."""
        with numpy_call(self.name, "forward"):
            return self.arguments.call(self.target[0], arrays_for(private, self.arguments.arrays))

    def split(self, returned: object) -> tuple[object, tuple[object, ...]]:
        """The outputs and the cache in what the forward returned."""
        if not self.cached:
            return returned, ()
        if not isinstance(returned, tuple | list) or len(returned) < 2:
            raise SubjectError(
                f"forward of {self.name} returned {describe(returned)}, but its backward takes a cache; "
                "(y, cache) is expected"
            )
        outputs = returned[0] if len(returned) == 2 else tuple(returned[:-1])
        return outputs, (returned[-1],)

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
    return isinstance(obj, tuple | list) and len(obj) == 2 and all(callable(part) for part in obj)


@Form(
    "pair",
    "a tuple (forward, backward) of functions on tensors or NumPy arrays",
    order=40,
    accepts=_accepts,
    signature=lambda pair: (pair[0], 0),
    label=lambda pair: " / ".join(plain_name(part) for part in pair),
)
def adapt_pair(pair: Pair, arguments: Arguments, *, name: str, cache: bool | None = None) -> PairSubject:
    """The subject around a pair; one forward pass shows what its backward takes.

    Args:
        cache: whether the forward returns a cache; None to find out from the signatures.

    Raises:
        SubjectError: the forward raised, or what it returned does not fit what the backward takes.
    """
    probe = PairSubject(pair, arguments, name)
    returned = probe.call_forward(private_values(probe.operands, {}))
    parts = returned if isinstance(returned, tuple | list) else (returned,)
    count = len(parts)
    takes = required_arguments(pair[1])
    if cache is None:
        if takes is None:
            cache = count > 1
        elif takes == 1:
            cache = False
        elif count > 1 and takes in (2, count):
            cache = not (takes == count > 2 and all(isinstance(part, Tensor) for part in parts))
        else:
            raise SubjectError(
                f"backward of {name} takes {takes} arguments, but forward returned {describe(returned)}; expected are "
                "`y, cache = forward(*xs)` with `backward(dy, cache)` or `y = forward(*xs)` with `backward(dy)`"
            )
    outputs = count - int(cache)
    spread = outputs > 1 and takes == outputs + int(cache)
    subject = PairSubject(pair, arguments, name, cached=cache, spread=spread)
    subject.run({})
    return subject
