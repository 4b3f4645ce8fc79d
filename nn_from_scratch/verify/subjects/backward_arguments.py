"""What a backward is called with: the cotangent, and what else its arguments are called after."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Subject
from nn_from_scratch.verify.subjects import constants
from nn_from_scratch.verify.subjects.structure import describe

Kind = Literal["cotangents", "cotangent", "input", "output", "cache", "rate"]

# How people call the gradient that comes in, what a forward keeps, and what a forward returned.
_COTANGENT = re.compile(
    r"(?i)^(d|g|g_?(y|z|out)|d_?(y|z|out|o|h|a|s|e|l|loss|next|top|values?)\w{0,3}|dl_?d\w+)$|"
    r"grad|delta|upstream|error|^err$|cotangent|^top_?diff"
)
_CACHE = re.compile(r"(?i)cache|saved|ctx|context|memory|tape")
_RATE = re.compile(r"(?i)^(lr|eta|step_?size)$|learning_?rate|^rate$")
_INPUT = re.compile(r"(?i)^x|_x$|inp|data|prev|feature|image|sample")
_OUTPUT = re.compile(r"(?i)^(y|out|outputs?|result|activations?)$")
# What of a loss's arguments is compared with, and what is trained.
_TARGET = re.compile(r"(?i)true|target|label|truth|^gt$|actual|expected|reference|^t$|^ts$")
_PREDICTION = re.compile(r"(?i)pred|hat$|logit|score|prob|output")


@dataclass(frozen=True)
class BackwardCall:
    """The arguments of a backward, one after the other.

    Attributes:
        roles: Of each argument its kind, and the name of the input where it is one.
        pointwise: It gives the derivative entry by entry, which the cotangent multiplies.
    """

    roles: tuple[tuple[Kind, str], ...] = (("cotangent", ""),)
    pointwise: bool = False

    @property
    def learns(self) -> bool:
        """Whether it takes a learning rate, and updates parameters itself."""
        return any(kind == "rate" for kind, _ in self.roles)

    @property
    def bare(self) -> bool:
        """Whether it takes no cotangent, as that of a loss."""
        return not self.pointwise and not any(kind in ("cotangent", "cotangents") for kind, _ in self.roles)

    def arguments(
        self,
        cotangent: object,
        inputs: Mapping[str, object],
        output: object,
        cache: object = None,
        rate: float = 1.0,
    ) -> list[object]:
        """What to call it with.

        Args:
            cotangent: in the structure of the output.
            inputs: what the forward was handed, by name.
        """
        given: list[object] = []
        for kind, name in self.roles:
            if kind == "cotangents" and isinstance(cotangent, tuple | list):
                given.extend(cotangent)
            elif kind in ("cotangent", "cotangents"):
                given.append(cotangent)
            elif kind == "rate":
                given.append(rate)
            else:
                given.append(inputs[name] if kind == "input" else output if kind == "output" else cache)
        return given


def learning_rate(dtype: torch.dtype) -> float:
    """A rate at which an update is far larger than the parameter, so that their difference keeps its digits."""
    largest = math.log2(torch.finfo(dtype).max)
    return 2.0 ** min(constants.RATE_POWER, int(largest / 4))


DY = BackwardCall()
"""The usual call: the cotangent alone."""


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


def understand(
    function: object, inputs: Sequence[str], outputs: int, *, cached: bool = False, derivative: bool = False
) -> BackwardCall | None:
    """How a backward is to be called, by the names of its arguments; None if they do not say.

    Args:
        function: the backward.
        inputs: what the forward calls its inputs.
        outputs: how many outputs the forward has.
        cached: whether the forward returns a cache beside them.
        derivative: whether it is called a derivative, so that one argument is the input.
    """
    positional = positional_arguments(function)
    if positional is None:
        return BackwardCall((("cotangents" if outputs > 1 else "cotangent", ""), *((("cache", ""),) if cached else ())))
    names = [p.name for p in positional if p.default is p.empty] or [p.name for p in positional[:1]]
    if not names:
        return BackwardCall(())
    if len(names) == 1:
        if derivative and len(inputs) == 1 and (names[0] == inputs[0] or not _COTANGENT.search(names[0])):
            return BackwardCall((("input", inputs[0]),), pointwise=True)
        return BackwardCall()
    if all(name in inputs for name in names):
        return BackwardCall(tuple(("input", name) for name in names))
    if derivative and len(names) == len(inputs) and not any(_COTANGENT.search(name) for name in names):
        return BackwardCall(tuple(("input", name) for name in inputs))
    return _by_role(names, inputs, outputs, cached=cached)


def _by_role(names: Sequence[str], inputs: Sequence[str], outputs: int, *, cached: bool) -> BackwardCall | None:
    """The arguments of a backward with several, one or more of them cotangents."""
    roles: dict[str, tuple[Kind, str]] = {name: ("input", name) for name in names if name in inputs}
    roles |= {name: ("rate", "") for name in names if name not in roles and _RATE.search(name)}
    rest = [name for name in names if name not in roles]
    if cached:
        caches = [name for name in rest if _CACHE.search(name)] or rest[-1:]
        roles |= dict.fromkeys(caches[:1], ("cache", ""))
        rest = [name for name in rest if name not in roles]
    if len(rest) > 1 and len(rest) != outputs:
        roles |= {name: ("output", "") for name in rest if _OUTPUT.search(name)}
        rest = [name for name in rest if name not in roles]
    unnamed = [name for name in inputs if name not in names]
    likely = [name for name in rest if _COTANGENT.search(name)]
    others = [name for name in rest if name not in likely]
    if len(others) == len(unnamed) > 0 and len(likely) == 1 and all(_INPUT.search(name) for name in others):
        roles |= {name: ("input", given) for name, given in zip(others, unnamed, strict=True)}
        rest = likely
    if len(rest) != 1 and len(rest) != outputs:
        return None
    roles |= dict.fromkeys(rest, ("cotangent", ""))
    if len(rest) > 1:
        first, *following = rest
        roles[first] = ("cotangents", "")
        return BackwardCall(tuple(roles[name] for name in names if name not in following))
    return BackwardCall(tuple(roles[name] for name in names))


def split_cache(returned: object, cached: bool, name: str) -> tuple[object, object]:
    """The outputs and the cache in what a forward returned.

    Raises:
        SubjectError: there is no cache in it.
    """
    if not cached:
        return returned, None
    if not isinstance(returned, tuple | list) or len(returned) < 2:
        raise SubjectError(
            f"forward of {name} returned {describe(returned)}, but its backward takes a cache; (y, cache) is expected"
        )
    return returned[0] if len(returned) == 2 else tuple(returned[:-1]), returned[-1]


def has_cache(function: object, returned: object) -> bool:
    """Whether a backward takes what its arguments call a cache, and the forward may have returned one."""
    names = [p.name for p in positional_arguments(function) or () if p.default is p.empty]
    several = isinstance(returned, tuple | list) and len(returned) > 1
    return several and len(names) > 1 and any(_CACHE.search(name) for name in names)


def is_one_number(outputs: Mapping[str, Tensor]) -> bool:
    """Whether a forward returns one number, as a loss does."""
    return len(outputs) == 1 and all(y.numel() == 1 for y in outputs.values())


def is_cache(name: str) -> bool:
    """Whether an argument is called a cache."""
    return _CACHE.search(name) is not None


def scaled(gradients: Gradients, cotangents: Cotangents) -> dict[str, Tensor | None]:
    """The gradients of a single number times its cotangent, which the backward does not take."""
    scale = next(iter(cotangents.values()), torch.zeros(()))
    return {name: None if g is None else g * scale.to(g.dtype) for name, g in gradients.items()}


def is_derivative(subject: Subject) -> bool:
    """Whether a derivative that is given entry by entry agrees with differences of the forward at most entries."""
    try:
        run = subject.run({})
        found = run.backward({name: torch.ones_like(y) for name, y in run.outputs.items()})
        ((name, gradient),) = found.items()
        (x,) = (operand.value for operand in subject.operands if operand.name == name)
        step = torch.finfo(x.dtype).eps ** constants.STEP_POWER * (1 + x.abs())
        (above,), (below,) = (subject.forward({name: x + h}).values() for h in (step, -step))
    except (SubjectError, ValueError):
        return False
    if gradient is None or not gradient.shape == x.shape == above.shape:
        return False
    differences = (above - below) / (2 * step)
    close = (gradient - differences).abs() <= constants.CLOSE_DERIVATIVE * (1 + differences.abs())
    return bool(close.to(x.dtype).mean() > 1 / 2)


def trained_input(names: Sequence[str]) -> str:
    """Of the inputs of a loss whose backward gives one gradient, the one that it belongs to."""
    predictions = [name for name in names if _PREDICTION.search(name) and not _TARGET.search(name)]
    others = [name for name in names if not _TARGET.search(name)]
    return (predictions or others or list(names))[0]
