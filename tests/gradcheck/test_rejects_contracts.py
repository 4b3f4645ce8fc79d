"""For every contract check a planted fault that it finds, in the form of subject in which such a fault occurs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nn_from_scratch.verify import check_names
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.contracts import CONTRACTS
from nn_from_scratch.verify.results import CheckResult, Verdict
from nn_from_scratch.verify.subjects import as_subject
from tests.functions import draw, function
from tests.gradcheck import test_rejects

Function = torch.autograd.Function
KEPT: list[Tensor] = []


class Product(Function):
    """x * w, whose gradient of x is computed from that of w: wrong when w is frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, w = ctx.saved_tensors
        dw = g * x if ctx.needs_input_grad[1] else torch.zeros_like(g)
        return dw / x * w, dw


class SavedSigmoid(Function):
    """x sigmoid(x), whose saved sigmoid is a constant to a second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        s = torch.sigmoid(x)
        ctx.save_for_backward(x, s)
        return x * s

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        x, s = ctx.saved_tensors
        result: Tensor = g * (s + x * s * (1 - s))
        return result


class Tripled(Function):
    """3 x, with rules for forward mode and vmap that are right; those below have one that is not."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return 3 * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 3 * g

    @staticmethod
    def jvp(ctx: Any, dx: Tensor) -> Tensor:
        return 3 * dx

    @staticmethod
    def vmap(info: Any, axes: Any, x: Tensor) -> Any:
        return Tripled.apply(x), axes[0]


class WrongTangent(Tripled):
    @staticmethod
    def jvp(ctx: Any, dx: Tensor) -> Tensor:
        return 2 * dx


class WrongRule(Tripled):
    @staticmethod
    def vmap(info: Any, axes: Any, x: Tensor) -> Any:
        return Tripled.apply(x.flip(axes[0])), axes[0]


class OtherWhenRecorded(Tripled):
    generate_vmap_rule = False

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 4 * g if torch.is_grad_enabled() else 3 * g


class TwoOutputs(Function):
    """sin and cos; a cotangent that is absent is not thought of."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return x.sin(), x.cos()

    @staticmethod
    def backward(ctx: Any, a: Tensor | None, b: Tensor | None) -> Tensor | None:
        (x,) = ctx.saved_tensors
        return a * x.cos() - b * x.sin() if a is not None and b is not None else None


class SavedGradient(Function):
    """A loss that computes its gradient in the forward, and returns that very tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.gradient = x.cos()
        return x.sin().sum()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        ctx.last = getattr(ctx, "last", 1.0)
        ctx.gradient.mul_(g / ctx.last)
        ctx.last = g.clone()
        gradient: Tensor = ctx.gradient
        return gradient


class UsedUp(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.cosine = [x.cos()]
        return x.sin()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * ctx.cosine.pop() if ctx.cosine else 0 * g


def memory_order(g: Tensor, x: Tensor) -> Tensor:
    """Reads x in memory order, whatever its strides are."""
    return 2 * g * x.as_strided(x.shape, (x.shape[1], 1))


class Recording(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sin() if torch.is_grad_enabled() else x.sin().float().double()


class NoCopy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5, dtype=torch.float64))
        self.scale = 2.0

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight * self.scale

    def __deepcopy__(self, memo: dict[int, Any]) -> "NoCopy":
        new = NoCopy()
        new.scale = 3.0
        return new


class Stateful(nn.Module):
    """Keeps its input on itself for the backward."""

    def forward(self, x: Tensor) -> Tensor:
        self.x = x.detach()
        return function(torch.sin, lambda g, _: g * self.x.cos())(x)  # type: ignore[no-any-return]


class Coupled:
    """An affine layer whose gradient of b counts the batch once more."""

    def __init__(self) -> None:
        self.b = np.linspace(-1, 1, 5)
        self.db = np.zeros(5)

    def forward(self, x: np.ndarray) -> np.ndarray:
        return x + self.b

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.db = dy.mean(0)
        return dy


class FirstSize:
    """A loss whose number of entries is that of the first batch."""

    n: int | None = None

    def forward(self, p: np.ndarray, t: np.ndarray) -> Any:
        self.n = self.n or p.size
        self.e = p - t
        return (self.e**2).mean()

    def backward(self) -> np.ndarray:
        gradient: np.ndarray = 2 * self.e / self.n
        return gradient


class HalfAdds:
    """Adds to one gradient and overwrites the other."""

    def __init__(self) -> None:
        self.w, self.b = np.linspace(1, 2, 5), np.linspace(-1, 1, 5)
        self.dw, self.db = np.zeros(5), np.zeros(5)

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        return x * self.w + self.b

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.dw += (dy * self.x).sum(0)
        self.db = dy.sum(0)
        return dy * self.w


class Overwrites:
    """An engine module that sets its gradient instead of adding to it."""

    def __init__(self) -> None:
        self.weight = torch.linspace(1, 2, 5, dtype=torch.float64)
        self.records: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.records.append(x)
        y = x * self.weight
        y.creator, y.input_index = self, len(self.records) - 1  # type: ignore[attr-defined]
        return y

    def backward(self, gradwrtoutput: Tensor) -> Tensor:
        x = self.records[gradwrtoutput.input_index]  # type: ignore[attr-defined]
        self.weight.grad = (gradwrtoutput * x).sum(0)
        return gradwrtoutput * self.weight

    def parameters(self) -> Mapping[str, Tensor]:
        return {"weight": self.weight}

    def clear_saved_tensors(self) -> None:
        self.records.clear()

    def to(self, device: Any = None, dtype: Any = None) -> "Overwrites":
        self.weight = self.weight.to(device=device, dtype=dtype)
        return self


class NeverForgets(Overwrites):
    """`clear_saved_tensors` clears nothing."""

    def clear_saved_tensors(self) -> None:
        self.seen = len(self.records)


def keeps(x: Tensor) -> Tensor:
    KEPT.append(x.detach())
    return x.sin()


def noisy(g: Tensor, x: Tensor) -> Tensor:
    return g * x.cos() * (1 + 1e-6 * torch.rand_like(g))


def aliased_pair() -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, None]:
        return 2 * a + 2 * b, None

    def backward(dy: np.ndarray, cache: None) -> tuple[np.ndarray, np.ndarray]:
        both = 2 * dy
        return both, both

    return forward, backward


def summed_pair() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The broadcast dimension of b is kept in its gradient."""
    return (lambda a, b: (a + b, None)), (lambda dy, cache: (dy, dy.sum(0, keepdims=True)))


X = draw(4, 5, seed=3)
W = X[0].flip(0) + 3
ARRAY, ROW = X.numpy().copy(), W.numpy().copy()


@dataclass(frozen=True)
class Planted:
    check: str
    name: str
    make: Callable[[], Any]
    inputs: tuple[Any, ...] = (X,)
    options: Mapping[str, Any] = field(default_factory=dict)


PLANTED = [
    Planted("reference_value", "another forward", lambda: torch.sin, options={"reference": torch.cos}),
    Planted("determinism", "noise in the backward", lambda: function(torch.sin, noisy)),
    Planted("gradient_form", "broadcast dimension kept", summed_pair, (ARRAY, ROW)),
    Planted("gradient_form", "other dtype", lambda: (np.square, lambda dy: dy.astype(np.float32)), (ARRAY,)),
    Planted("linear_cotangent", "ignored", lambda: function(torch.sin, lambda g, x: x.cos())),
    Planted("linear_cotangent", "clipped", lambda: function(torch.sin, lambda g, x: g.clamp(-10, 10) * x.cos())),
    Planted(
        "linear_cotangent", "thresholded", lambda: function(torch.sin, lambda g, x: g * (g.abs() > 1e-3) * x.cos())
    ),
    Planted("missing_cotangent", "one cotangent absent", lambda: TwoOutputs),
    Planted("input_layouts", "strides ignored", lambda: function(torch.square, memory_order)),
    Planted(
        "cotangent_layouts",
        "strides of the cotangent ignored",
        lambda: function(torch.sin, lambda g, x: g.as_strided(g.shape, (g.shape[1], 1)) * x.cos()),
    ),
    Planted("no_aliasing", "two gradients in one array", aliased_pair, (ARRAY, ARRAY + 1)),
    Planted(
        "no_aliasing",
        "a gradient is the input",
        lambda: function(lambda x: x.square().sum() / 2, lambda g, x: x.mul_(1) if bool(g == 1) else x),
    ),
    Planted("no_aliasing", "a gradient is a saved tensor", lambda: SavedGradient),
    Planted("two_forwards", "state on the module", Stateful),
    Planted("backward_twice", "used up", lambda: UsedUp),
    Planted("used_before", "size of the first batch", FirstSize, (ARRAY, ARRAY + 1)),
    Planted("accumulation", "engine module overwrites", Overwrites),
    Planted("accumulation", "layer adds to one of two", HalfAdds, (ARRAY,)),
    Planted("frozen_slots", "one gradient from another", lambda: Product, (X, X + 5)),
    Planted("without_recording", "other precision without recording", Recording),
    Planted("records_freed", "input kept in a global", lambda: function(keeps, lambda g, x: g * x.cos())),
    Planted("records_freed", "engine module never forgets", NeverForgets),
    Planted("copies", "deepcopy loses an attribute", NoCopy),
    Planted("batch_consistency", "mean for sum", Coupled, (ARRAY,)),
    Planted(
        "special_values",
        "sigmoid overflows",
        lambda: function(torch.sigmoid, lambda g, x: g * (-x).exp() / (1 + (-x).exp()) ** 2),
    ),
    Planted(
        "special_values",
        "slope 3 at zero",
        lambda: function(torch.relu, lambda g, x: g * torch.where(x == 0, 3.0, (x > 0).to(x))),
    ),
    Planted(
        "constant_inputs",
        "a mask's empty row",
        lambda: function(
            lambda x, m: (x * m).sum(-1) / m.sum(-1).clamp(min=1),
            lambda g, x, m: (g[:, None] * m / m.sum(-1, keepdim=True), None),
        ),
        (X.clone().requires_grad_(), draw(4, 5) > 0),
    ),
    Planted("second_order", "an intermediate is saved", lambda: SavedSigmoid),
    Planted("forward_mode", "another factor", lambda: WrongTangent),
    Planted("vmap", "samples in another order", lambda: WrongRule),
    Planted("functional", "another factor where it is recorded", lambda: OtherWhenRecorded),
    Planted(
        "low_precision",
        "half a product in bfloat16",
        lambda: function(torch.sin, lambda g, x: g * x.cos() * (1.2 if x.dtype == torch.bfloat16 else 1)),
    ),
    Planted(
        "low_precision",
        "float32 through bfloat16",
        lambda: function(
            torch.sin, lambda g, x: (g.bfloat16() * x.cos()).to(g) if g.dtype == torch.float32 else g * x.cos()
        ),
    ),
]
# A cotangent that is not finite may be hidden: a limit, not a fault.
HIDDEN = [
    Planted("hidden_infinities", "NaN replaced", lambda: function(torch.sin, lambda g, x: g.nan_to_num() * x.cos())),
    Planted("hidden_infinities", "clipped", lambda: function(torch.sin, lambda g, x: g.clamp(-1e6, 1e6) * x.cos())),
]


def verdicts(planted: Planted) -> list[CheckResult]:
    subject = as_subject(planted.make(), *planted.inputs)
    return CONTRACTS[planted.check](subject, CheckContext(options=planted.options))


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: f"{planted.check}: {planted.name}")
def test_it_is_found(planted: Planted) -> None:
    found = verdicts(planted)
    KEPT.clear()
    assert test_rejects.is_found(found), [str(result) for result in found]


@pytest.mark.parametrize("planted", HIDDEN, ids=lambda planted: planted.name)
def test_what_a_backward_may_hide_is_a_limit(planted: Planted) -> None:
    verdict = {result.verdict for result in verdicts(planted)}
    assert Verdict.LIMIT in verdict and verdict <= {Verdict.CORRECT, Verdict.LIMIT}


def test_every_check_has_a_planted_fault() -> None:
    on_a_gpu = {"other_device"}
    planted = {p.check for p in (*PLANTED, *HIDDEN)} | {p.check for p in test_rejects.PLANTED}
    assert planted | on_a_gpu == set(check_names())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_fault_of_one_device_is_found() -> None:
    faulty = function(torch.sin, lambda g, x: g * x.cos() * (1.001 if x.is_cuda else 1))
    found = CONTRACTS["other_device"](as_subject(faulty, X), CheckContext())
    assert [result.verdict for result in found] == [Verdict.FRAGILE]
