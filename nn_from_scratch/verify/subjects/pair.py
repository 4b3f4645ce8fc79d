"""A pair of functions, forward and backward, on torch tensors or NumPy arrays."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Run, Subject, Traits, Values
from nn_from_scratch.verify.subjects.arguments import Arguments
from nn_from_scratch.verify.subjects.arrays import cotangent_tree, in_kind, match_gradients
from nn_from_scratch.verify.subjects.structure import describe, name_outputs, snapshot, wrap_errors

__all__ = ["PairSubject", "adapt_pair", "required_arguments"]


def required_arguments(function: object) -> int | None:
    """How many positional arguments a function cannot do without; None if it does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(1 for p in parameters if p.kind in kinds and p.default is p.empty)


class PairRun:
    """What the forward returned, and how the backward is to be called."""

    def __init__(self, subject: PairSubject, private: Mapping[str, Tensor]) -> None:
        self._subject = subject
        self._private = private
        self._pass()
        self._named = name_outputs(self._raw, subject.name)
        self.outputs: Mapping[str, Tensor] = {name: tensor.detach() for name, tensor in self._named.items()}

    def _pass(self) -> None:
        subject = self._subject
        with torch.no_grad(), np.errstate(all="ignore"), wrap_errors(subject.name, "forward"):
            returned = subject.arguments.call(
                subject.forward_function, in_kind(self._private, subject.arguments.arrays)
            )
        self._raw, self._cache = subject.split(returned)
        subject.latest = self

    @property
    def handed(self) -> Mapping[str, Tensor]:
        return self._private

    def backward(self, cotangents: Cotangents) -> Gradients:
        subject = self._subject
        if not subject.traits.several_pending and subject.latest is not self:
            self._pass()  # what the forward left behind belongs to another call, or was used up
        subject.latest = None
        dy = cotangent_tree(self._raw, self._named, cotangents)
        seeds = list(dy) if subject.spread and isinstance(dy, tuple | list) else [dy]
        with torch.no_grad(), np.errstate(all="ignore"), wrap_errors(subject.name, "backward"):
            returned = subject.backward_function(*seeds, *self._cache)
        inputs = [slot.name for slot in subject.operands]
        return match_gradients(returned, inputs, [s.name for s in subject.operands if s.differentiable], subject.name)

    def backward_onto(self, cotangents: Cotangents, held: Gradients) -> Gradients:
        raise SubjectError(f"{self._subject.name} returns its gradients; it keeps none in fields")

    def release(self) -> None:
        self._raw, self._cache, self._private = None, (), {}
        self._named, self.outputs = {}, {}


class PairSubject:
    """`y, cache = forward(*xs)` with `backward(dy, cache)`, or `y = forward(*xs)` with `backward(dy)`.

    Args:
        forward_function: the forward.
        backward_function: the backward.
        arguments: the inputs.
        cached: whether the forward returns a cache that the backward takes.
        spread: whether the backward takes the cotangents of several outputs as several arguments.
        target: what the user handed over.
        name: what messages call it.
    """

    form = "pair"

    def __init__(
        self,
        forward_function: Callable[..., Any],
        backward_function: Callable[..., Any],
        arguments: Arguments,
        *,
        cached: bool,
        spread: bool,
        target: object,
        name: str,
    ) -> None:
        self.forward_function = forward_function
        self.backward_function = backward_function
        self.arguments = arguments
        self.operands = arguments.operands
        self.name = name
        self.target = target
        self.spread = spread
        self.latest: PairRun | None = None
        self._cached = cached
        kind = "NumPy arrays" if arguments.arrays else "torch tensors"
        self.notes: tuple[str, ...] = (
            f"a pair on {kind}; the backward takes {'a cache' if cached else 'the cotangent alone'}",
        )
        self.traits = Traits(
            several_pending=cached,
            backward_twice=cached,
            parameter_gradients="returned",
            freezable=False,
            torch_engine=False,
            dtypes=True,
            devices=not arguments.arrays,
            copies=False,
        )

    def split(self, returned: object) -> tuple[object, tuple[object, ...]]:
        """The outputs and the cache in what the forward returned."""
        if not self._cached:
            return returned, ()
        if not isinstance(returned, tuple | list) or len(returned) < 2:
            raise SubjectError(
                f"forward of {self.name} returned {describe(returned)}, but its backward takes a cache; "
                "(y, cache) is expected"
            )
        outputs = returned[0] if len(returned) == 2 else tuple(returned[:-1])
        return outputs, (returned[-1],)

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        """See `Subject.forward`."""
        return self.run(values).outputs

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> PairRun:
        """See `Subject.run`."""
        if frozen:
            raise SubjectError(f"{self.name} is a pair of functions; it cannot be told that an input is frozen")
        private = {slot.name: snapshot(values.get(slot.name, slot.value)) for slot in self.operands}
        if beside is not None:
            private.update({name: x for name, x in beside.handed.items() if name not in values})
        return PairRun(self, private)

    def backward_together(self, runs: Sequence[Run], cotangents: Sequence[Cotangents]) -> Gradients:
        """See `Subject.backward_together`."""
        raise SubjectError(f"{self.name} is a pair of functions; nothing sums the gradients of several calls")

    def rebuilt(self, target: object) -> Subject:
        """See `Subject.rebuilt`."""
        raise SubjectError(f"{self.name} is a pair of functions; only objects with state are copied")


def adapt_pair(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    arguments: Arguments,
    *,
    target: object,
    name: str,
    cache: bool | None,
) -> PairSubject:
    """The subject around a pair; one forward pass shows which of the two forms it is in.

    Args:
        forward: the forward.
        backward: the backward.
        arguments: the inputs.
        target: what the user handed over.
        name: what messages call it.
        cache: whether the forward returns a cache; None to find out from the signatures.

    Raises:
        SubjectError: the forward raised, or what it returned does not fit what the backward takes.
    """

    def made(*, cached: bool, spread: bool) -> PairSubject:
        return PairSubject(forward, backward, arguments, cached=cached, spread=spread, target=target, name=name)

    probe = made(cached=False, spread=False)
    private = {slot.name: snapshot(slot.value) for slot in probe.operands}
    with torch.no_grad(), np.errstate(all="ignore"), wrap_errors(name, "forward"):
        returned = arguments.call(forward, in_kind(private, arguments.arrays))
    several = isinstance(returned, tuple | list) and len(returned) > 1
    count = len(returned) if isinstance(returned, tuple | list) else 1
    takes = required_arguments(backward)
    if cache is None:
        if takes is None:
            cache = several
        elif takes == 1:
            cache = False
        elif several and takes in (2, count):
            cache = not (takes == count and count > 2 and _all_tensors(returned))
        else:
            raise SubjectError(
                f"backward of {name} takes {takes} arguments, but forward returned {describe(returned)}; "
                "expected are "
                "`y, cache = forward(*xs)` with `backward(dy, cache)` or `y = forward(*xs)` with "
                "`backward(dy)`"
            )
    outputs = count - 1 if cache else count
    spread = outputs > 1 and takes is not None and takes == outputs + int(cache)
    subject = made(cached=cache, spread=spread)
    subject.run({})
    return subject


def _all_tensors(returned: object) -> bool:
    return isinstance(returned, tuple | list) and all(isinstance(part, Tensor) for part in returned)
