"""The verifier on random expressions over torch's functions, right ones and ones with a fault of 1e-4.

    python -m tests.bench.random_expressions --count 5000
    python -m tests.bench.random_expressions --first 317 --count 1      # one of them again

A generator composes each expression from its number alone: smooth and kinked functions, reductions, indexing and
broadcasting, over inputs of sizes from 1e-6 to 1e6, in float64 and float32. All that is composed is right, so every
accusation is a false one. In float64 it is run again with a factor of 1.0001 on one entry or on one whole gradient,
which the gradient check has to find. A line for each expression that is accused, not decided, or whose fault is missed.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify import Report, check
from tests.bench.worker_processes import run_in_processes

TIME_LIMIT = 30.0  # Seconds that one check may take here.
CHUNK_LIMIT = 600.0  # Seconds for a chunk, after which its process is ended.
CHUNK = 10  # Expressions that a process gets at a time.
FAULT = 1e-4  # The relative error that is planted.
# Relative steps of a plain central difference in the entry of the largest gradient. A fault is planted where one of
# them is off by less than this share of it: where rounding and curvature leave it visible.
VISIBLE_STEPS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
VISIBLE_SHARE = 0.02
LARGEST = 1e12  # The largest value that an expression may have: a power of it is still a number.
LONGEST = 500  # Characters of an expression.
MOST_ENTRIES = 200  # Of an intermediate result.
SHOWN, WIDTH = 3, 260  # Findings of one expression that a line shows, and characters of each.

SMOOTH = """
torch.sin({0}) | torch.cos({0}) | torch.tanh({0}) | torch.sigmoid({0}) | F.softplus({0}) | torch.exp({0})
torch.exp(-{0}.square()) | torch.atan({0}) | torch.erf({0}) | torch.log1p({0}.square()) | torch.sqrt(1 + {0}.square())
{0}.square() | {0} ** 3 | 1 / (1 + {0}.square()) | F.gelu({0}) | F.silu({0}) | F.logsigmoid({0}) | F.mish({0})
torch.asinh({0}) | torch.sinc({0}) | torch.expm1(-{0}.abs()) | torch.log(0.1 + {0}.abs()) | -{0} | 3 * {0} | {0} - 1
""".replace("\n", " | ").split(" | ")
KINKED = """
F.relu({0}) | {0}.abs() | {0}.clamp(-0.5, 0.5) | {0}.clamp(min=0.1) | F.leaky_relu({0}, 0.1) | F.hardtanh({0})
F.elu({0}) | F.hardswish({0}) | F.softshrink({0}) | F.relu6({0}) | torch.where({0} > 0, {0}, 0.1 * {0}.square())
{0}.masked_fill({0} < 0, 0.0) | F.selu({0}) | F.softsign({0}) | F.threshold({0}, 0.1, 0.0)
""".replace("\n", " | ").split(" | ")
BINARY = """
{0} + {1} | {0} - {1} | {0} * {1} | {0} / (1 + {1}.square()) | torch.maximum({0}, {1}) | torch.minimum({0}, {1})
torch.hypot({0}, 1 + {1}.abs()) | torch.atan2({0}, 1 + {1}.square()) | torch.logaddexp({0}, {1})
torch.lerp({0}, {1}, 0.3) | torch.addcmul({0}, {1}, {1}, value=0.5) | torch.where({0} > {1}, {0}, {1}.square())
F.mse_loss({0}, {1}.expand_as({0})) | F.smooth_l1_loss({0}, {1}.expand_as({0}), reduction="none")
""".replace("\n", " | ").split(" | ")
REDUCTIONS = """
{0}.sum({d}) | {0}.mean({d}, keepdim=True) | {0}.sum() | {0}.amax({d}) | {0}.amin({d}, keepdim=True)
{0}.logsumexp({d}) | {0}.softmax({d}) | {0}.log_softmax({d}) | {0}.var({d}) | {0}.std({d}, keepdim=True)
torch.linalg.vector_norm({0}, dim={d}) | {0}.cumsum({d}) | {0}.prod({d}) | {0}.max({d}).values
{0}.sort({d}).values | {0}.cummax({d}).values | {0}.median({d}).values | {0}.logcumsumexp({d})
{0} - {0}.mean({d}, keepdim=True) | F.normalize({0}, dim={d}) | F.layer_norm({0}, {0}.shape[-1:]) | {0}.cumprod({d})
{0}.topk(1, {d}).values | F.softmin({0}, {d}) | {0}.norm(1, {d}) | {0}.mean()
""".replace("\n", " | ").split(" | ")
INDEXING = """
{0}.flip({d}) | {0}.roll(1, {d}) | {0}.transpose(0, -1) | {0}.unsqueeze({d}) | {0}.narrow({d}, 0, 1)
{0}[..., ::2] | {0}[..., 1:] | {0}.repeat_interleave(2, {d}) | torch.cat([{0}, {0}.flip({d})], {d}) | {0}.flatten()
torch.stack([{0}, {0}.square()], {d}) | {0}.tril() | {0}.diagonal(0, 0, -1) | {0}.select({d}, 0) | {0}[{0} > 0]
F.pad({0}, (1, 2)) | {0}.unfold({d}, 2, 1) | {0}.index_select({d}, {i}) | {0}.reshape(-1, 1) | {0}.diff(dim={d})
{0}.scatter_add({d}, {0}.argsort({d}), {0}) | {0}.take({i}) | {0}[{i}] | {0}.movedim(0, -1)
""".replace("\n", " | ").split(" | ")
# Below the usual eps of the norms, PyTorch's gradient of the cosine does not see that they are clamped.
LAYERS = """
{0} @ {0}.transpose(-1, -2) | F.linear({0}, {w}) | F.linear({0}, {w}, {b}) | {0} @ {v} | {0} * {v} | {0} + {b}
F.layer_norm({0}, {0}.shape[-1:], {v}, {b2}) | F.cross_entropy({0}, {t}) | F.cosine_similarity({0}, {v}, -1, 1e-99)
torch.einsum("...i,ji->...j", {0}, {w}) | F.nll_loss({0}.log_softmax(-1), {t}, reduction="none")
F.conv1d({0}.unsqueeze(1), {k}, padding=1) | F.avg_pool1d({0}, 2) | F.max_pool1d({0}, 2) | F.prelu({0}, {s})
""".replace("\n", " | ").split(" | ")
FAMILIES = {"smooth": SMOOTH, "kinked": KINKED, "binary": BINARY, "reductions": REDUCTIONS, "indexing": INDEXING}
FAMILIES = {name: [text for text in texts if text] for name, texts in {**FAMILIES, "layers": LAYERS}.items()}


@dataclass(frozen=True)
class Expression:
    """A right expression: its text, and what it is evaluated at."""

    number: int
    text: str
    inputs: dict[str, Tensor]
    scale: float

    @property
    def function(self) -> Callable[..., Any]:
        """The expression as a function of its inputs, under their names."""
        value: Callable[..., Any] = eval(f"lambda {', '.join(self.inputs)}: {self.text}", {"torch": torch, "F": F})
        return value

    @property
    def dtype(self) -> str:
        return str(self.inputs["x"].dtype).removeprefix("torch.")

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {str(tuple(t.shape)).replace(' ', '')}" for name, t in self.inputs.items())
        return f"{self.number}: {self.text}   at {shapes}, {self.dtype}, size {self.scale:.0e}"


class _Composer:
    """Draws one expression; every intermediate result is evaluated, and kept only if it is a number."""

    def __init__(self, number: int) -> None:
        self.number, self.draw = number, random.Random(number)
        self.generator = torch.Generator().manual_seed(number)
        self.scale = 10.0 ** self.draw.uniform(-6, 6)
        self.dtype = torch.float32 if number % 4 == 3 else torch.float64
        self.inputs: dict[str, Tensor] = {}
        self.pool: list[tuple[str, Tensor]] = []

    def compose(self) -> Expression:
        shape = [self.draw.choice((1, 2, 3, 4, 5)) for _ in range(self.draw.choice((1, 2, 2, 2, 3)))]
        self.add_operand("x", shape)
        if self.draw.random() < 0.6:
            self.add_operand(
                "y", [1 if self.draw.random() < 0.3 else size for size in shape][self.draw.choice((0, 1)) :]
            )
        wanted = self.draw.choice((1, 2, 3, 4, 5, 6))
        while wanted:
            wanted -= self.extend()
        text, *others = [text for text, _ in reversed(self.pool) if "x" in _words(text)]
        if others and self.draw.random() < 0.15:
            text = f"({text}, {others[0]})"
        used = {name: t for name, t in self.inputs.items() if name in _words(text)}
        return Expression(self.number, text, used, self.scale)

    def add_operand(self, name: str, shape: Sequence[int], scale: float | None = None) -> Tensor:
        drawn = torch.randn(tuple(shape), generator=self.generator, dtype=torch.float64)
        drawn = drawn * (self.scale if scale is None else scale)
        self.inputs[name] = drawn.to(self.dtype)
        if scale is None:
            self.pool.append((name, self.inputs[name]))
        return self.inputs[name]

    def extend(self) -> bool:
        """One function more around what is there; False if that gives no tensor of numbers."""
        of_x = [entry for entry in self.pool if "x" in _words(entry[0])]
        text, value = of_x[-1] if self.draw.random() < 0.8 else self.draw.choice(self.pool)
        other, _ = self.draw.choice(self.pool)
        template = self.draw.choice(FAMILIES[self.draw.choice(list(FAMILIES))])
        before = dict(self.inputs)
        dims = max(value.dim(), 1)
        parts = {"d": self.draw.randrange(-dims, dims), **self.further_operands(template, value)}
        new = template.format(_operand(text), _operand(other), **parts)
        try:
            result = Expression(0, new, self.inputs, 0).function(**self.inputs)
        except (RuntimeError, IndexError, ValueError, TypeError):
            result = torch.empty(0)  # it does not fit this shape
        fits = 0 < result.numel() <= MOST_ENTRIES and len(new) <= LONGEST and result.dtype == self.dtype
        if not fits or not bool((result.abs() < LARGEST).all()):
            self.inputs = before
            return False
        self.pool.append((new, result))
        return True

    def further_operands(self, template: str, value: Tensor) -> dict[str, str]:
        """Weights and indices that a template asks for, of shapes that fit the value."""
        last, count, names = value.shape[-1] if value.dim() else 1, len(self.inputs), {}
        shapes = {"w": (3, last), "b": (3,), "b2": (last,), "v": (last,), "k": (2, 1, 3), "s": (1,)}
        for key, shape in shapes.items():
            if f"{{{key}}}" in template:
                names[key] = f"{key}{count}"
                self.add_operand(names[key], (last,) if template.endswith("+ {b}") else shape, scale=1.0)
        rows = value.shape[0] if value.dim() else 1
        for key, below, size in (("i", min([*value.shape, 5]), 3), ("t", last, rows)):
            if f"{{{key}}}" in template and below:
                names[key] = f"{key}{count}"
                drawn = torch.randint(0, below, (size,), generator=self.generator)
                self.inputs[names[key]] = drawn
        return names


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z_]\w*", text)


def _operand(text: str) -> str:
    return text if text.isidentifier() else f"({text})"


def compose(number: int) -> Expression:
    """The expression of that number, the same in every process."""
    return _Composer(number).compose()


@dataclass(frozen=True)
class Outcome:
    """What became of one expression: as it is, or with a fault planted ("one entry", "every entry")."""

    number: int
    text: str
    dtype: str
    planted: str = ""
    verdict: str = ""
    findings: tuple[tuple[str, str, str], ...] = field(default=())

    @property
    def kind(self) -> str:
        """What is not as it should be, in a few words; empty where all is."""
        if not self.planted:
            return "" if self.verdict == "correct" else self.verdict
        return {"wrong": "", "correct": "missed"}.get(self.verdict, f"planted and {self.verdict}")

    def line(self) -> str:
        """The expression with its first findings, in one line."""
        shown = [f"{check} {verdict}: {text[:WIDTH]}" for check, verdict, text in self.findings[:SHOWN]]
        planted = f" ({self.planted})" if self.planted else ""
        return f"[{self.kind}{planted}] {self.text} | " + " | ".join(shown)


def outcomes_of(expression: Expression, checks: str | None = None) -> Iterator[Outcome]:
    """Verify an expression as it is (by all checks), and in float64 with each fault by the gradient check."""
    inputs = list(expression.inputs.values())

    def outcome(function: Callable[..., Any], planted: str, checks: str | None) -> Outcome:
        known: dict[str, Any] = {
            "number": expression.number,
            "text": str(expression),
            "dtype": expression.dtype,
            "planted": planted,
        }
        try:
            report = check(function, *inputs, names=list(expression.inputs), checks=checks, time_limit=TIME_LIMIT)
        except Exception as error:  # what no user should see
            return Outcome(**known, verdict="raised", findings=(("check", "raised", repr(error)),))
        return Outcome(**known, verdict=report.verdict.value, findings=_findings(report))

    yield outcome(expression.function, "", checks)
    if expression.dtype == "float64" and is_visible(expression):
        for planted, change in FAULTS.items():
            yield outcome(planted_fault(expression, change), planted, "gradient")


def is_visible(expression: Expression) -> bool:
    """Whether a plain central difference tells the largest entry of the first gradient from one with a fault."""
    first, *rest = [t.clone() for t in expression.inputs.values()]

    def weighted(x: Tensor) -> Tensor:
        value = expression.function(x, *rest)
        outputs = value if isinstance(value, tuple) else (value,)
        weights = [torch.arange(1.0, 1 + y.numel(), dtype=y.dtype).cos() for y in outputs]
        return torch.stack([weight @ y.flatten() for weight, y in zip(weights, outputs, strict=True)]).sum()

    x = first.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(weighted(x), x)
    place = int(gradient.abs().argmax())
    right, size = float(gradient.flatten()[place]), float(first.abs().mean())
    for step in VISIBLE_STEPS:
        move = torch.zeros_like(first).flatten()
        move[place] = step * size
        try:
            ahead, behind = (float(weighted(first + sign * move.reshape(first.shape))) for sign in (1, -1))
        except RuntimeError:
            continue  # the number of entries depends on the values
        if step * size and abs((ahead - behind) / (2 * step * size) - right) < VISIBLE_SHARE * FAULT * abs(right):
            return True
    return False


def _every_entry(gradient: Tensor) -> Tensor:
    return gradient * (1 + FAULT)


def _one_entry(gradient: Tensor) -> Tensor:
    largest = torch.arange(gradient.numel()).reshape(gradient.shape) == gradient.abs().argmax()
    return torch.where(largest, gradient * (1 + FAULT), gradient)


FAULTS: dict[str, Callable[[Tensor], Tensor]] = {"every entry": _every_entry, "one entry": _one_entry}


def planted_fault(expression: Expression, change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """The expression as a custom function, with autograd's backward but for a change of the first input's gradient."""
    evaluate = expression.function

    class Planted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Any:
            ctx.save_for_backward(*inputs)
            return evaluate(*inputs)

        @staticmethod
        def backward(ctx: Any, *cotangents: Tensor) -> Any:
            leaves = [x.detach().requires_grad_(x.is_floating_point()) for x in ctx.saved_tensors]
            with torch.enable_grad():
                value = evaluate(*leaves)
            outputs = value if isinstance(value, tuple) else (value,)
            wanted = [x for x in leaves if x.requires_grad]
            found = iter(torch.autograd.grad(outputs, wanted, cotangents, allow_unused=True))
            first, *rest = [next(found) if x.requires_grad else None for x in leaves]
            return (None if first is None else change(first), *rest)

    return Planted.apply


def _findings(report: Report) -> tuple[tuple[str, str, str], ...]:
    bad = [r for r in report.results if r.verdict.value in ("wrong", "fragile", "undecided")]
    bad.sort(key=lambda r: r.verdict.value == "undecided")
    return tuple((r.label, r.verdict.value, "; ".join(str(r).split("; ")[1:])) for r in bad)


def chunk_outcomes(chunk: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """All outcomes of the expressions from one number on, as plain data; run in a process of its own."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    first, count = chunk
    for number in range(first, first + count):
        for outcome in outcomes_of(compose(number)):
            yield asdict(outcome)


def totals(outcomes: Sequence[Outcome]) -> str:
    """Counts by verdict, right ones and planted ones apart, and by the checks that accuse."""
    lines = []
    for planted in ("", *FAULTS):
        for dtype in ("float64", "float32"):
            own = [outcome for outcome in outcomes if (outcome.planted, outcome.dtype) == (planted, dtype)]
            if own:
                counts = ", ".join(f"{n} {verdict}" for verdict, n in Counter(o.verdict for o in own).most_common())
                lines.append(f"{planted or 'right'}, {dtype}: {len(own)}, of which {counts}")
                kinds = Counter(
                    f"{v} {label.split(' of ')[0]}" for o in own for label, v in {f[:2] for f in o.findings}
                )
                lines += [f"    by check: {n} {name}" for name, n in kinds.most_common() if not planted]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the expressions; 1 if one is accused, not decided, or its fault missed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first expression")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, help="a file of JSON lines to write")
    options = parser.parse_args(arguments)
    end = options.first + options.count
    chunks = [(start, min(CHUNK, end - start)) for start in range(options.first, end, CHUNK)]
    outcomes = []
    for (start, count), result in run_in_processes(chunk_outcomes, chunks, options.processes, CHUNK_LIMIT):
        lost = Outcome(start, f"{start} to {start + count - 1}: {result}", "float64", verdict="lost")
        outcomes.append(lost if isinstance(result, str) else Outcome(**result))
        if outcomes[-1].kind:
            sys.stdout.write(outcomes[-1].line() + "\n")
            sys.stdout.flush()
    if options.results:
        lines = [json.dumps(asdict(outcome)) + "\n" for outcome in outcomes]
        options.results.write_text("".join(lines), encoding="utf-8")
    sys.stdout.write(totals(outcomes) + "\n")
    return int(any(outcome.kind for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
