import math
from collections.abc import Callable

import pytest

from nn_from_scratch.verify.derivative.differences import Derivative, differentiate, noise_level, ridders

EPS = 2.0**-52


def derivative(f: Callable[[float], float], *, noise: float = EPS, finest: float = 0.0) -> Derivative:
    start = f(0.0)

    def delta(t: float) -> float:
        try:
            return f(t) - start
        except (ValueError, ZeroDivisionError, OverflowError):
            return math.nan

    found = differentiate(
        delta,
        lambda scale: max(noise, noise_level(delta, 1e-5 * scale)),
        target=lambda value: 1e-12 * abs(value),
        finest=lambda: finest,
        rounding=noise,
    )
    assert found is not None
    return found


SMOOTH: dict[str, tuple[Callable[[float], float], float]] = {
    "linear": (lambda t: 3 * t, 3.0),
    "exp": (lambda t: math.exp(2 * t), 2.0),
    "sin": (math.sin, 1.0),
    "fast sine": (lambda t: math.sin(1e4 * t), 1e4),
    "slow exponential": (lambda t: math.exp(1e-8 * t), 1e-8),
    "edge of a domain": (lambda t: math.log(1e-6 + t), 1e6),
    "pole close by": (lambda t: 1 / (1e-3 - t), 1e6),
    "square": (lambda t: t * t, 0.0),
    "narrow bend": (lambda t: t / (1e-5 + abs(t)), 1e5),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_the_error_estimate_holds_and_is_small(name: str) -> None:
    function, truth = SMOOTH[name]
    found = derivative(function)
    assert found.settled
    assert abs(found.value - truth) <= 10 * found.error
    assert found.error <= 1e-6 * max(abs(truth), 1.0)


@pytest.mark.parametrize("kink", [0.0, 1e-300, 1e-12])
def test_a_kink_at_or_close_to_the_point_is_in_the_error_estimate(kink: float) -> None:
    found = derivative(lambda t: t + 0.01 * max(0.0, t - kink))
    truth = 1.0 if kink else None
    if truth is None:
        assert found.jump == pytest.approx(0.005, rel=1e-6)
    else:
        assert abs(found.value - truth) <= 10 * found.error
    assert found.error >= 1e-5 or found.step < kink


@pytest.mark.parametrize("kink", [1e-3, -1e-6])
def test_a_kink_farther_away_is_stepped_over(kink: float) -> None:
    found = derivative(lambda t: t + 0.5 * max(0.0, t - kink))
    truth = 1.0 if kink > 0 else 1.5
    assert abs(found.value - truth) <= 10 * found.error
    assert found.error < 1e-7


def test_a_step_never_settles() -> None:
    table = ridders(lambda t: 0.0 if t < 0 else 1.0, 0.1, EPS)
    assert table is not None
    assert not table.settled


def test_noise_is_measured() -> None:
    def rounded(t: float) -> float:
        return round(math.sin(1 + t) * 1e7) / 1e7 - round(math.sin(1) * 1e7) / 1e7

    level = noise_level(rounded, 1e-6)
    assert 1e-9 < level < 1e-6
    assert noise_level(lambda t: math.sin(1 + t) - math.sin(1), 1e-6) < 1e-15


def test_a_function_that_is_finite_nowhere_has_no_derivative() -> None:
    nothing = differentiate(lambda t: math.nan, lambda _: EPS, target=lambda v: 0.0, finest=lambda: 0.0, rounding=EPS)
    assert nothing is None


def test_the_number_of_evaluations_is_bounded() -> None:
    calls: list[float] = []

    def wild(t: float) -> float:
        calls.append(t)
        return math.sin(1 / t) if t else 0.0

    differentiate(wild, lambda _: EPS, target=lambda v: 0.0, finest=lambda: 0.0, rounding=EPS)
    assert len(set(calls)) < 200
