"""A whole model beside the same one of torch.nn, with the error followed from layer to layer.

Both compute value, loss and gradients of the same weights, inputs and targets; each layer works on what its own side
computed before, so the errors add up along the chain (report, III.A). Beside that stands the error that a layer makes
on its own, on what torch computed before. For every layer and for the loss there is one row for the value, one for each
parameter's gradient, and one for the gradient that it propagates.

`python -m nn_from_scratch.parity` prints the table for the report's model, in float64 and in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.engine.losses import MSE
from nn_from_scratch.engine.module import Sequential, backward
from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.parity.exchange import to_torch
from nn_from_scratch.verify import CheckContext
from nn_from_scratch.verify.catalogue.rounding import largest, movements, perturbed

#: (place of the layer, what of it) to the tensor; the loss has the place behind the last layer.
Quantities = Mapping[tuple[int, str], Tensor]

_VALUE, _PROPAGATED = "value", "propagated"
# Of all that torch's model computes; four times as many move no quantity of the report's model 1.5 times as far.
_ROUNDINGS = 6


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """One quantity of one layer, ours beside torch's.

    Attributes:
        layer: its place and its class; the last one is the loss.
        quantity: "value", "propagated" (the gradient of the layer's input), or the name of a parameter, for its
            gradient.
        largest: of the absolute values of torch's entries.
        error: the largest absolute difference of two entries.
        own: the same where our layer works on torch's input and cotangent: what arises in this layer.
        ulps: the largest difference in units in the last place of torch's entry; large where an entry is small beside
            the terms that it is a sum of.
        ulps_of_largest: the largest difference in units in the last place of the largest entry.
        allowed: the largest absolute difference that rounding explains.
    """

    layer: str
    quantity: str
    largest: float
    error: float
    own: float
    ulps: float
    ulps_of_largest: float
    allowed: float


def spacing(x: Tensor) -> Tensor:
    """One unit in the last place of each entry: the distance from |x| to the next larger number of x's dtype.

    Never less than the one of the smallest normal number: below it the digits run out. Shape and dtype are those of x.
    """
    size = x.abs().clamp(min=torch.finfo(x.dtype).tiny)
    return torch.nextafter(size, torch.full_like(size, torch.inf)) - size


def ulps(found: Tensor, expected: Tensor) -> Tensor:
    """|found - expected| in units in the last place of each entry of `expected`; both of one shape and dtype."""
    return (found - expected).abs() / spacing(expected)


def follow(
    model: Sequential,
    x: Tensor,
    target: Tensor,
    *,
    rounding: float | None = None,
    device: torch.device | str | None = None,
) -> tuple[Deviation, ...]:
    """Compare a model with that of torch.nn, layer by layer, under the mean squared error.

    What is allowed is measured: torch's model runs in float64 with the input, the target, every parameter, every
    value and every gradient rounded to the dtype; what that moves a quantity, plus one rounding of its largest entry,
    times the verifier's factor of ten, is what rounding explains there.

    Args:
        model: a Sequential of layers that torch has too, perhaps of further Sequentials; it stays as it is.
        x: its input, on the CPU, of the dtype of its parameters.
        target: of the shape and dtype of its output.
        rounding: the distance of neighboring numbers, relative to them; by default that of the dtype.
        device: where our side runs; torch's runs on the CPU. The CPU by default.

    Returns:
        A row for each quantity, in the order of the layers.

    Raises:
        ArgumentError: a module has no counterpart in torch.nn, or the model is not a Sequential.
    """
    if not isinstance(model, Sequential):
        raise ArgumentError(f"model is a {type(model).__name__}, but a Sequential is expected")
    eps = float(torch.finfo(x.dtype).eps) if rounding is None else rounding
    ours = _pass_of_ours(copy.deepcopy(model).to(device=device), x.to(device), target.to(device))
    theirs = _pass_of_torch(to_torch(copy.deepcopy(model).to(device="cpu")), x, target)
    there = {key: tensor.to(device) for key, tensor in theirs.items()}
    alone = _pass_of_ours(copy.deepcopy(model).to(device=device), x.to(device), target.to(device), there)
    precise = copy.deepcopy(model).to(device="cpu", dtype=torch.float64)
    exact = _pass_of_torch(to_torch(precise), x.double(), target.double())

    def rounded(size: float, seed: int) -> Quantities:
        perturb = partial(perturbed, eps=size, generator=torch.Generator().manual_seed(seed))
        return _pass_of_torch(to_torch(precise), x.double(), target.double(), perturb)

    moved = movements(rounded, exact, eps, _ROUNDINGS)
    names = [*(type(layer).__name__ for layer in _flat(model)), MSE.__name__]
    rows = []
    for (place, quantity), expected in theirs.items():
        found = ours[place, quantity].cpu()
        size, error = largest(expected), largest(found - expected)
        rows.append(
            Deviation(
                layer=f"{place} {names[place]}",
                quantity=quantity,
                largest=size,
                error=error,
                own=largest(alone[place, quantity].cpu() - expected),
                ulps=largest(ulps(found, expected)),
                ulps_of_largest=error / float(spacing(torch.tensor(size, dtype=expected.dtype))),
                allowed=CheckContext.factor * (moved[place, quantity] + eps * size),
            )
        )
    return tuple(rows)


def table(rows: Sequence[Deviation], title: str) -> str:
    """The rows as aligned columns below a title, with a line for each row and a newline at the end."""
    lines = [("layer", "quantity", "largest", "error", "own", "ulps", "of largest", "allowed")]
    for row in rows:
        error, own = (f"{value:.1e}" if value else "0" for value in (row.error, row.own))
        numbers = (f"{row.largest:.2e}", error, own, f"{row.ulps:.3g}", f"{row.ulps_of_largest:.3g}")
        lines.append((row.layer, row.quantity, *numbers, f"{row.allowed:.1e}"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join([*map(str.ljust, line[:2], widths[:2]), *map(str.rjust, line[2:], widths[2:])]).rstrip()
        for line in lines
    ]
    return "\n".join([title, "", *text, ""])


def _flat(model: Any) -> Iterator[Any]:
    """The layers of a Sequential of either side, those of inner ones in their place."""
    for module in model:
        if isinstance(module, Sequential | torch.nn.Sequential):
            yield from _flat(module)
        else:
            yield module


def _pass_of_ours(
    model: Sequential, x: Tensor, target: Tensor, given: Quantities | None = None
) -> dict[tuple[int, str], Tensor]:
    """All quantities; each layer works on those given of its neighbors, or by default on what they computed."""
    layers = list(_flat(model))
    for parameter in model.parameters().values():
        parameter.grad = None
    found: dict[tuple[int, str], Tensor] = {}
    neighbors = found if given is None else given
    for place, layer in enumerate(layers):
        # Detached, so that each layer's gradient can be looked at before it is propagated.
        found[place, _VALUE] = layer((neighbors[place - 1, _VALUE] if place else x).detach())
    loss = MSE()
    last = len(layers)
    found[last, _VALUE] = loss((neighbors[last - 1, _VALUE] if last else x).detach(), target)
    found[last, _PROPAGATED] = _first(loss.backward(torch.ones_like(found[last, _VALUE])))
    for place in reversed(range(last)):
        gradient = neighbors[place + 1, _PROPAGATED].detach()
        found[place, _PROPAGATED] = _first(backward(found[place, _VALUE], gradient))
    for name, parameter in Sequential(*layers).parameters().items():
        position, _, quantity = name.partition(".")
        assert parameter.grad is not None
        found[int(position), quantity] = parameter.grad
    return found


def _first(gradients: object) -> Tensor:
    first = gradients[0] if isinstance(gradients, tuple) else gradients
    assert isinstance(first, Tensor)
    return first


def _pass_of_torch(
    model: torch.nn.Module, x: Tensor, target: Tensor, rounded: Callable[[Tensor], Tensor] = lambda tensor: tensor
) -> dict[tuple[int, str], Tensor]:
    layers = list(_flat(model))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(rounded(parameter))
    values = [rounded(x.clone()).requires_grad_()]
    for layer in layers:
        # The factor that rounds the value rounds the gradient on its way back as well.
        values.append(rounded(layer(values[-1])))
        values[-1].retain_grad()
    loss = torch.nn.functional.mse_loss(values[-1], rounded(target))
    torch.autograd.backward(loss)
    # One that is in two places has the name of the first.
    parameters = dict(torch.nn.Sequential(*layers).named_parameters())
    found: dict[tuple[int, str], Tensor] = {}
    for place in range(len(layers) + 1):
        handed_on = values[place].grad
        assert handed_on is not None
        found[place, _VALUE] = (values[place + 1] if place < len(layers) else loss).detach()
        for name, parameter in parameters.items():
            if name.startswith(f"{place}.") and parameter.grad is not None:
                found[place, name.removeprefix(f"{place}.")] = parameter.grad
        found[place, _PROPAGATED] = handed_on
    return found
