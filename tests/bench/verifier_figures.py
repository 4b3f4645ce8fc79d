"""What the verifier reaches, beside `torch.autograd.gradcheck`: five tables.

    python -m tests.bench.verifier_figures                       # all of them, a few minutes
    python -m tests.bench.verifier_figures --checks 10000        # the full number of right subjects
    python -m tests.bench.verifier_figures --only speed

Every ratio is taken within one run, with the two sides in turn.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify import CheckContext, CheckResult, Verdict, as_subject
from nn_from_scratch.verify.derivative.gradients import check_gradient
from tests.bench.verifier_faults import blind_spots, diagnoses, passed_by_fast_mode
from tests.functions import altered, draw
from tests.right_functions import CASES, DRAWS, Case, draw_inputs

SCALES = (1e-8, 1e-3, 1.0, 10.0, 1e4)
EPSILONS = tuple(10.0**-k for k in range(1, 15))
Fault = Callable[[Tensor, float], Tensor]
OPERATIONS: dict[str, tuple[Callable[..., Tensor], Callable[[int], tuple[Tensor, ...]]]] = {
    "linear": (F.linear, lambda s: (draw(16, 24, seed=s), draw(12, 24, seed=s + 1), draw(12, seed=s + 2))),
    "conv2d": (
        lambda x, w: F.conv2d(x, w, padding=1),
        lambda s: (draw(4, 3, 8, 8, seed=s), draw(5, 3, 3, 3, seed=s + 1)),
    ),
    "softmax": (lambda x: F.softmax(x, -1), lambda s: (3 * draw(8, 32, seed=s),)),
    "layer_norm": (
        lambda x, w, b: F.layer_norm(x, (32,), w, b),
        lambda s: (draw(8, 32, seed=s), draw(32, seed=s + 1), draw(32, seed=s + 2)),
    ),
    "gelu": (F.gelu, lambda s: (2 * draw(500, seed=s),)),
}


def all_entries(gradient: Tensor, epsilon: float) -> Tensor:
    """A factor of 1 + epsilon on the whole gradient."""
    return gradient * (1 + epsilon)


def one_entry(gradient: Tensor, epsilon: float) -> Tensor:
    """A factor of 1 + epsilon on the largest entry alone."""
    largest = torch.arange(gradient.numel()).reshape(gradient.shape) == gradient.abs().argmax()
    return torch.where(largest, gradient * (1 + epsilon), gradient)


FAULTS: dict[str, Fault] = {"every entry": all_entries, "one entry": one_entry}


def with_fault(function: Callable[..., Tensor], fault: Fault, epsilon: float) -> Callable[..., Any]:
    """A custom function whose backward is autograd's with a fault in the gradient of the first input."""
    return altered(function, lambda gradient: fault(gradient, epsilon))


def detects(function: Callable[..., Any], inputs: Sequence[Tensor], seed: int) -> bool:
    """Whether the gradient check finds the first input's gradient wrong."""
    subject = as_subject(function, *inputs)
    first = check_gradient(subject, CheckContext(seed=seed, options={"entry_seconds": 0.0}))[0]
    return first.verdict is Verdict.WRONG


def torch_detects(function: Callable[..., Any], inputs: Sequence[Tensor], *, fast: bool) -> bool:
    """Whether gradcheck raises, with the gradient of the first input alone."""
    leaves = [x.clone().requires_grad_(i == 0) for i, x in enumerate(inputs)]
    return not torch.autograd.gradcheck(function, leaves, fast_mode=fast, raise_exception=False)


def smallest(found: Callable[[float, int], bool], seeds: int) -> float | None:
    """The smallest of `EPSILONS` down to which every seed is found."""
    last = None
    for epsilon in EPSILONS:
        if not all(found(epsilon, seed) for seed in range(seeds)):
            break
        last = epsilon
    return last


@dataclass(frozen=True)
class Alarms:
    """The outcome of checks of right subjects: counts by verdict, and what was not correct."""

    counts: Counter[str]
    not_correct: tuple[str, ...]
    seconds: float

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def undecided_share(self) -> float:
        return self.counts["undecided"] / max(self.total, 1)


def false_alarms(checks: int, *, seed: int = 0, cases: Sequence[Case] = CASES) -> Alarms:
    """Check right functions over scales, draws and seeds until there are so many results."""
    counts: Counter[str] = Counter()
    not_correct: list[str] = []
    began = time.monotonic()
    for case, scale, drawn, number in schedule(cases, seed):
        if sum(counts.values()) >= checks:
            break
        inputs = draw_inputs(case, number, scale, drawn)
        for result in check_gradient(as_subject(case.function, *inputs), CheckContext(seed=number)):
            counts[result.verdict.value] += 1
            if result.verdict is not Verdict.CORRECT:
                not_correct.append(f"{case.name}, scale {scale:g}, {drawn}, seed {number}: {result}")
    return Alarms(counts, tuple(not_correct), time.monotonic() - began)


def schedule(cases: Sequence[Case], seed: int) -> Iterator[tuple[Case, float, str, int]]:
    """Cases with scales, draws and seeds, which rotate with the case, so that a short run meets all of them too."""
    settings = [(scale, drawn) for scale in SCALES for drawn in DRAWS]
    for turn in range(10**6):
        for position, case in enumerate(cases):
            scale, drawn = settings[(turn + 7 * position) % len(settings)]
            yield case, scale, drawn, seed + turn // len(settings)


def networks() -> list[tuple[str, list[CheckResult]]]:
    """ReLU networks of 10 layers and 10^5 activations: linear, convolutional, and with an empty background."""
    torch.manual_seed(0)
    linear = [m for _ in range(10) for m in (torch.nn.Linear(256, 256), torch.nn.ReLU())]
    convolutions = {
        bias: [
            m for i in range(10) for m in (torch.nn.Conv2d(4 if i else 1, 4, 3, padding=1, bias=bias), torch.nn.ReLU())
        ]
        for bias in (True, False)
    }
    picture = draw(2, 1, 36, 36, seed=1)
    empty = picture.clone()
    empty[..., :18] = 0
    subjects = {
        "linear": (torch.nn.Sequential(*linear).double(), draw(40, 256, seed=0)),
        "convolutions": (torch.nn.Sequential(*convolutions[True]).double(), picture),
        "convolutions, half of the input 0": (torch.nn.Sequential(*convolutions[False]).double(), empty),
    }
    return [(name, check_gradient(as_subject(net, x), CheckContext())) for name, (net, x) in subjects.items()]


@dataclass(frozen=True)
class Speed:
    """Seconds of one gradient check, of gradcheck and of the forward, at one number of input entries."""

    entries: int
    forward: float
    ours: float
    fast: float
    slow: float | None


def speed(size: int, *, slow: bool, repeats: int = 15) -> Speed:
    """The gradient of a conv2d's input (4, 3, size, size), ours and gradcheck's in turn; the least of the repeats."""
    w = draw(5, 3, 3, 3, seed=1)
    x = draw(4, 3, size, size, seed=0).requires_grad_()

    def convolve(x: Tensor) -> Tensor:
        return F.conv2d(x, w, padding=1)

    subject = as_subject(convolve, x)
    sides: dict[str, Callable[[], object]] = {
        "forward": lambda: convolve(x.detach()),
        "ours": lambda: check_gradient(subject, CheckContext()),
        "fast": lambda: torch.autograd.gradcheck(convolve, (x,), fast_mode=True),
    }
    least = dict.fromkeys(sides, float("inf"))
    for _ in range(repeats):
        for name, side in sides.items():
            least[name] = min(least[name], _seconds(side))
    full = _seconds(lambda: torch.autograd.gradcheck(convolve, (x,))) if slow else None
    return Speed(x.numel(), least["forward"], least["ours"], least["fast"], full)


def _seconds(side: Callable[[], object]) -> float:
    began = time.perf_counter()
    side()
    return time.perf_counter() - began


def _print(text: str = "", *, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


def _print_sensitivity(seeds: int) -> None:
    _print("sensitivity: smallest relative error found with every seed (a dash: not even 0.1)")
    _print(f"{'':12s} {'fault in':12s} {'ours':>8s} {'fast':>8s} {'slow':>8s}")
    for fault_name, fault in FAULTS.items():
        for name, (function, inputs) in OPERATIONS.items():

            def ours(epsilon: float, seed: int) -> bool:
                return detects(with_fault(function, fault, epsilon), inputs(10 * seed), seed)  # noqa: B023

            def theirs(epsilon: float, seed: int, *, fast: bool) -> bool:
                return torch_detects(with_fault(function, fault, epsilon), inputs(10 * seed), fast=fast)  # noqa: B023

            figures = (
                smallest(ours, seeds),
                smallest(lambda e, s: theirs(e, s, fast=True), 3),
                smallest(lambda e, s: theirs(e, s, fast=False), 1),
            )
            shown = " ".join(f"{'-' if figure is None else format(figure, '.0e'):>8s}" for figure in figures)
            _print(f"{name:12s} {fault_name:12s} {shown}")


def _print_alarms(checks: int, seed: int) -> None:
    found = false_alarms(checks, seed=seed)
    _print(
        f"false alarms: {found.counts['wrong']} of {found.total} checks of {len(CASES)} right functions; "
        f"undecided {found.counts['undecided']} ({100 * found.undecided_share:.2g} %); {found.seconds:.0f} s"
    )
    for result in found.not_correct:
        _print(f"  {result}")
    for name, results in networks():
        verdicts = Counter(str(result.verdict) for result in results)
        worst = max(result.resolution or 0.0 for result in results)
        _print(f"ReLU network, {name}: {dict(verdicts)}, worst resolution {worst:.1e}")


def _print_speed() -> None:
    _print("speed: gradient of a conv2d's input, milliseconds")
    _print(
        f"{'entries':>8s} {'forward':>8s} {'ours':>8s} {'fast':>8s} {'slow':>8s} {'slow/ours':>10s} {'fast/ours':>10s}"
    )
    for size in (8, 32, 128):
        s = speed(size, slow=size == 8)
        slow = "-" if s.slow is None else f"{1e3 * s.slow:.1f}"
        ratio = "-" if s.slow is None else f"{s.slow / s.ours:.0f}"
        _print(
            f"{s.entries:8d} {1e3 * s.forward:8.3f} {1e3 * s.ours:8.2f} {1e3 * s.fast:8.2f} {slow:>8s} "
            f"{ratio:>10s} {s.fast / s.ours:10.2f}"
        )


def _print_blind_spots() -> None:
    rows = blind_spots()
    _print(f"blind spots: {sum(ours for *_, ours, _ in rows)} of {len(rows)} found by us; ", end="")
    _print(f"{sum(passed for *_, passed in rows)} passed by gradcheck slow, {passed_by_fast_mode()} by its fast mode")
    for name, check, ours, passed in rows:
        _print(
            f"  {name:45s} {check:20s} {'found' if ours else 'MISSED':8s} gradcheck {'passes' if passed else 'fails'}"
        )


def _print_diagnoses() -> None:
    d = diagnoses()
    _print(
        f"diagnosis: {d.right} of {d.total} planted faults of {d.kinds} kinds named right "
        f"({100 * d.right / d.total:.1f} %), {len(d.unnamed)} without a name, {len(d.wrong)} named wrong, "
        f"{len(d.missed)} not found"
    )
    for name in (*d.unnamed, *d.wrong, *d.missed):
        _print(f"  {name}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checks", type=int, default=600, help="number of checks of right functions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=10, help="seeds for each figure of the sensitivity")
    parser.add_argument("--only", choices=("speed", "sensitivity", "blind-spots", "diagnosis", "alarms"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if options.only in (None, "speed"):
        _print_speed()
    if options.only in (None, "sensitivity"):
        _print_sensitivity(options.seeds)
    if options.only in (None, "blind-spots"):
        _print_blind_spots()
    if options.only in (None, "diagnosis"):
        _print_diagnoses()
    if options.only in (None, "alarms"):
        _print_alarms(options.checks, options.seed)


if __name__ == "__main__":
    main()
