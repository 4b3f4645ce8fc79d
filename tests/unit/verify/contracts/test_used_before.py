"""Objects that are used again: what an earlier call leaves in them shows in no later gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nn_from_scratch.verify import Verdict, check

RNG = np.random.default_rng(0)
P, T = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))


class FirstSize:
    """The number of entries is that of the first batch."""

    n: int | None = None

    def forward(self, p: Any, t: Any) -> Any:
        self.n = self.n or p.size
        self.e = p - t
        return (self.e**2).mean()

    def backward(self) -> Any:
        return 2 * self.e / self.n


class FirstMask:
    """A ReLU whose mask is that of the first call."""

    mask: Any = None

    def forward(self, x: Any) -> Any:
        self.mask = (x > 0) if self.mask is None else self.mask
        return np.maximum(x, 0)

    def backward(self, dy: Any) -> Any:
        return dy * self.mask


@pytest.mark.parametrize(("make", "inputs"), [(FirstSize, (P, T)), (FirstMask, (P,))])
def test_what_the_first_call_left_is_found(make: type[Any], inputs: tuple[Any, ...]) -> None:
    report = check(make(), *inputs, checks=["gradient", "used_before"])
    (result,) = [r for r in report.results if r.check == "used_before" and r.verdict is not Verdict.LIMIT]
    assert result.verdict is Verdict.WRONG and "after a call with" in str(result), str(report)
    assert all(r.verdict is Verdict.CORRECT for r in report.results if r.check == "gradient")


class Remembers:
    """The output depends on earlier calls, as that of a recurrent cell does: nothing can be compared."""

    def __init__(self) -> None:
        self.state = 0.0

    def forward(self, x: Any) -> Any:
        self.state = 0.5 * self.state + float(x.sum())
        self.scale = np.tanh(self.state)
        return x + self.scale

    def backward(self, dy: Any) -> Any:
        return dy + dy.sum() * (1 - self.scale**2)


class Adds:
    """Gradients that add up are no state that an earlier call leaves behind."""

    def __init__(self) -> None:
        self.w, self.dw = torch.tensor(P[0]), torch.zeros(3, dtype=torch.float64)

    def forward(self, x: Any) -> Any:
        self.x = x
        return x * self.w

    def backward(self, dy: Any) -> Any:
        self.dw += (dy * self.x).sum(0)
        return dy * self.w


def test_a_right_object_may_be_used_again_and_a_state_is_no_fault() -> None:
    adds = check(Adds(), torch.tensor(P), checks="used_before")
    assert [r.verdict for r in adds.results] == [Verdict.CORRECT], str(adds)
    remembers = check(Remembers(), P, checks=["gradient", "used_before"])
    assert [r.verdict for r in remembers.results if r.check == "used_before"] == [Verdict.NOT_APPLICABLE]
    assert remembers.passed, str(remembers)
