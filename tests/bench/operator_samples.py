"""The verifier beside `torch.autograd.gradcheck` on PyTorch's own list of operators, with its own sample inputs.

    python -m tests.bench.operator_samples                           # every operator: most of an hour
    python -m tests.bench.operator_samples --only "nn.functional.*"  # operators by name
    python -m tests.bench.operator_samples --shard 1/4 --results shard1.jsonl

Nobody here chose the operators or the inputs. Each sample is verified by all checks, by the gradient check alone and
by gradcheck (slow, and fast for its time). A line for each sample on which they disagree, or which is not decided,
and the totals. A file of results that exists is continued: its operators are not run again.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError, gradcheck

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify import Report, check
from tests.bench.worker_processes import run_in_processes

DTYPES = {"float64": torch.float64, "complex128": torch.complex128}
TIME_LIMIT = 30.0  # Seconds that one check may take here: the slowest right operator needs a third of it alone.
OPERATOR_LIMIT = 300.0  # Seconds for all samples of an operator, after which its process is ended.
SHOWN = 3  # Results of one sample that a line shows.
WIDTH = 300  # Characters of each.
ACCUSING = ("wrong", "fragile")


# What is wrong in PyTorch itself (2.13), each seen in a few lines without the verifier, and where it is discussed.
TORCH_FAULTS = {
    "as_strided_scatter": "the input keeps the gradient of entries that are overwritten (in review of pytorch#77128)",
    "nn.functional.hardsigmoid": "the slope 1/6 is rounded to float32 in float64 too",
    "nn.functional.max_unpool1d": "an entry that another one with its index overwrites keeps its gradient",
    "nn.functional.max_unpool2d": "an entry that another one with its index overwrites keeps its gradient",
    "nn.functional.max_unpool3d": "an entry that another one with its index overwrites keeps its gradient",
    "normal": "a draw has zero gradients, though it moves with mean and deviation (pytorch#4620)",
    "normal.number_mean": "a draw has a zero gradient, though it moves with the deviation (pytorch#4620)",
    "native_group_norm": "a cotangent of the mean or of the deviation alone gives no gradient (pytorch#183980)",
}


class SampleInput(Protocol):
    """One call of an operator, as PyTorch's list has it."""

    input: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def output_process_fn_grad(self) -> Callable[[Any], Any]: ...


class Operator(Protocol):
    """What is used of an entry of PyTorch's list."""

    name: str
    variant_test_name: str
    gradcheck_nondet_tol: float

    @property
    def op(self) -> Callable[..., Any]: ...

    @property
    def gradcheck_wrapper(self) -> Callable[..., Any]: ...

    def sample_inputs(self, device: str, dtype: torch.dtype, requires_grad: bool) -> Iterator[SampleInput]: ...


@dataclass(frozen=True)
class Outcome:
    """One sample: the verdicts of both sides, what ours found, and the seconds of the gradient alone.

    `problem` says what kept the sample from an outcome at all: a process that ended, a call that raised.
    """

    operator: str
    dtype: str
    sample: int
    shapes: str = ""
    verdict: str = ""
    gradient: str = ""
    gradcheck: str = ""
    findings: tuple[tuple[str, str, str], ...] = ()
    gradcheck_says: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    complex_output: bool = False
    problem: str = ""

    @property
    def complex(self) -> bool:
        """Whether anything in it is complex, which is counted apart."""
        return self.complex_output or self.dtype.startswith("complex")

    @property
    def kind(self) -> str:
        """The disagreement in a few words; empty where there is none."""
        if self.problem:
            return self.problem.split(":")[0]
        accused = self.verdict in ACCUSING or self.gradient in ACCUSING
        if accused and self.operator in TORCH_FAULTS:
            return "fault of torch"
        if accused:
            loudest = self.verdict if self.verdict in ACCUSING else self.gradient
            return f"{loudest}, gradcheck {self.gradcheck}"
        if self.gradcheck == "fails":
            return f"{self.verdict}, gradcheck fails"
        if self.verdict == "correct":
            return ""
        return f"{self.verdict} (complex)" if self.complex else self.verdict

    def line(self) -> str:
        """The disagreement in one line, with the first findings."""
        shown = [f"{check} {verdict}: {text[:WIDTH]}" for check, verdict, text in self.findings[:SHOWN]]
        known = [TORCH_FAULTS[self.operator]] if self.kind == "fault of torch" else []
        more = [f"and {len(self.findings) - SHOWN} more"] if len(self.findings) > SHOWN else []
        said = [f"gradcheck: {self.gradcheck_says[:WIDTH]}"] if self.gradcheck_says else []
        where = f"{self.operator}, {self.dtype}, sample {self.sample} {self.shapes}"
        return f"[{self.kind}] {where}: " + " | ".join([self.problem, *known, *shown, *more, *said]).strip(" |")


def full_name(operator: Operator) -> str:
    """The name with that of the variant: "nn.functional.pad.reflect"."""
    return ".".join(filter(None, (operator.name, operator.variant_test_name)))


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples and dictionaries, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from tensors_in(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from tensors_in(entry)


def with_tensors(value: Any, tensors: Iterator[Tensor]) -> Any:
    """The same nested value with its tensors replaced, in order."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, Mapping):
        return {key: with_tensors(entry, tensors) for key, entry in value.items()}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(with_tensors(entry, tensors) for entry in value)
    return value


def as_function(operator: Operator, sample: SampleInput) -> tuple[Callable[..., Any], list[Tensor]]:
    """One sample as a function of all its tensors, and those tensors, which require grad where the list says so."""
    given = (sample.input, sample.args, sample.kwargs)
    tensors = [t.detach().requires_grad_(t.requires_grad) for t in tensors_in(given)]

    def function(*tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        first, arguments, options = with_tensors(given, iter(tensors))
        value = operator.gradcheck_wrapper(operator.op, first, *arguments, **options)
        outputs = tuple(tensors_in(sample.output_process_fn_grad(value)))
        return outputs[0] if len(outputs) == 1 else outputs

    return function, tensors


def chosen_samples(operator: Operator, dtype: torch.dtype, count: int) -> list[tuple[int, SampleInput]]:
    """So many samples that have something to differentiate, evenly from the operator's own, with their numbers."""
    torch.manual_seed(0)
    every = [
        (number, sample)
        for number, sample in enumerate(operator.sample_inputs("cpu", dtype, requires_grad=True))
        if any(t.requires_grad and t.numel() for t in tensors_in((sample.input, sample.args, sample.kwargs)))
    ]
    step = max((len(every) - 1) / max(count - 1, 1), 1.0)
    return [every[place] for place in dict.fromkeys(round(i * step) for i in range(count)) if place < len(every)]


def compare(operator: Operator, dtype_name: str, count: int) -> Iterator[Outcome]:
    """The outcome of each of so many samples of an operator in one dtype."""
    try:
        samples = chosen_samples(operator, DTYPES[dtype_name], count)
    except Exception as error:  # whatever the list's own generator raises
        yield Outcome(full_name(operator), dtype_name, 0, problem=f"no sample: {_said(error)}")
        return
    for number, sample in samples:
        function, tensors = as_function(operator, sample)
        yield judge(operator, dtype_name, number, function, tensors)


def judge(
    operator: Operator, dtype_name: str, number: int, function: Callable[..., Any], tensors: Sequence[Tensor]
) -> Outcome:
    """Verify one function of tensors by both sides."""
    known: dict[str, Any] = {"operator": full_name(operator), "dtype": dtype_name, "sample": number}
    known["shapes"] = " ".join(str(tuple(t.shape)).replace(" ", "") for t in tensors)
    seconds: dict[str, float] = {}
    nondeterminism = operator.gradcheck_nondet_tol

    def theirs(*, fast: bool) -> tuple[str, str]:
        try:
            gradcheck(function, tuple(tensors), fast_mode=fast, nondet_tol=nondeterminism)
        except GradcheckError as error:
            return f"fails{_excuse(function, tensors)}", _said(error)
        except Exception as error:  # whatever the operator raises where gradcheck calls it
            return "raises", _said(error)
        return "passes", ""

    def gradient() -> Report:
        return check(function, *tensors, checks="gradient", time_limit=TIME_LIMIT)

    known["gradcheck"], known["gradcheck_says"] = theirs(fast=False)
    try:
        report = check(function, *tensors, time_limit=TIME_LIMIT)
        alone = gradient()
        for name, side in (("ours", gradient), ("fast", lambda: theirs(fast=True))):
            seconds[name] = min(_seconds(side) for _ in range(2))
    except SubjectError as error:  # what the verifier does not take, with what helps
        return Outcome(**known, problem=f"refused: {error}")
    except Exception as error:  # what no user should see
        return Outcome(**known, problem=f"check raised: {_said(error)}")
    seconds["all checks"] = report.seconds
    findings = tuple(
        (result.label, result.verdict.value, "; ".join(str(result).split("; ")[1:]) or str(result))
        for result in sorted((*report.results, *alone.results), key=lambda r: r.verdict.value not in ACCUSING)
        if result.verdict.value in (*ACCUSING, "undecided")
    )
    value = function(*tensors)
    known["complex_output"] = any(y.is_complex() for y in tensors_in(value))
    known |= {"verdict": report.verdict.value, "gradient": alone.verdict.value}
    return Outcome(**known, findings=tuple(dict.fromkeys(findings)), seconds=seconds)


def _excuse(function: Callable[..., Any], tensors: Sequence[Tensor]) -> str:
    """What explains that gradcheck fails, whatever the gradient is; empty if nothing does."""
    outputs = list(tensors_in(function(*tensors)))
    # It takes the same step for every dtype: float32 has no digit left of such a difference.
    double = (torch.float64, torch.complex128)
    inexact = [
        t for t in (*outputs, *(t for t in tensors if t.requires_grad)) if t.is_floating_point() or t.is_complex()
    ]
    if any(t.dtype not in double for t in inexact):
        return " on single precision"
    # NaN is equal to no NaN, not even where both Jacobians have it.
    return " on NaN" if any(bool(t.isnan().any()) for t in outputs) else ""


def _seconds(side: Callable[[], object]) -> float:
    began = time.perf_counter()
    side()
    return time.perf_counter() - began


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[: 2 * WIDTH]


def listed_operators() -> dict[str, Operator]:
    """PyTorch's operators that autograd differentiates on a CPU, by name.

    The import changes flags of torch for the whole process, so it stands here and not at the top.
    """
    from torch.testing._internal.common_methods_invocations import op_db

    return {full_name(operator): operator for operator in op_db if operator.supports_autograd}


def operator_outcomes(task: tuple[str, int, tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    """All outcomes of one operator by name, as plain data; run in a process of its own."""
    name, count, dtypes = task
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    operator: Any = listed_operators()[name]
    for dtype_name in dtypes:
        if DTYPES[dtype_name] in operator.supported_backward_dtypes("cpu"):
            for outcome in compare(operator, dtype_name, count):
                yield asdict(outcome)


def totals(outcomes: Sequence[Outcome]) -> str:
    """Counts by verdict and by kind of disagreement for each dtype, and the median seconds."""
    lines = []
    for dtype_name in DTYPES:
        own = [outcome for outcome in outcomes if outcome.dtype == dtype_name]
        if not own:
            continue
        operators = len({outcome.operator for outcome in own})
        lines.append(f"{dtype_name}: {len(own)} samples of {operators} operators")
        for side in ("verdict", "gradient", "gradcheck"):
            counts = Counter(getattr(outcome, side) or "none" for outcome in own)
            lines.append(f"  {side}: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()))
        kinds = Counter(outcome.kind for outcome in own if outcome.kind)
        lines += [f"  disagreement: {count} {kind}" for kind, count in kinds.most_common()]
        found = Counter(f"{v} {label.split(' of ')[0]}" for o in own for label, v in {f[:2] for f in o.findings})
        lines += [f"    by check: {count} {name}" for name, count in found.most_common()]
        medians = {
            side: statistics.median(o.seconds[side] for o in own if o.seconds)
            for side in ("ours", "fast", "all checks")
            if any(o.seconds for o in own)
        }
        lines.append("  median milliseconds: " + ", ".join(f"{k} {1e3 * v:.2f}" for k, v in medians.items()))
    return "\n".join(lines)


def read_results(path: Path) -> list[Outcome]:
    """The outcomes in a file of results, a line each; none if there is no file."""
    if not path.exists():
        return []
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Outcome(**{**entry, "findings": tuple(tuple(f) for f in entry["findings"])}) for entry in entries]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; 1 if something right may have been accused or something was missed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="PATTERN", help="operators by name, with * and ?")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="every N-th operator, from the I-th")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="of the samples; both by default")
    parser.add_argument("--samples", type=int, default=3, help="samples of each operator and dtype")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, help="a file of JSON lines to write, or to continue")
    options = parser.parse_args(arguments)
    part, parts = (int(number) for number in options.shard.split("/"))
    patterns = options.only or ["*"]
    names = [n for n in sorted(listed_operators()) if any(fnmatch.fnmatchcase(n, p) for p in patterns)]
    outcomes = read_results(options.results) if options.results else []
    done = {outcome.operator for outcome in outcomes}
    dtypes = tuple(options.dtype or DTYPES)
    tasks = [(name, options.samples, dtypes) for name in names[part - 1 :: parts] if name not in done]
    for task, result in run_in_processes(operator_outcomes, tasks, options.processes, OPERATOR_LIMIT):
        outcome = Outcome(task[0], dtypes[0], 0, problem=result) if isinstance(result, str) else Outcome(**result)
        outcomes.append(outcome)
        if options.results:
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
        if outcome.kind:
            sys.stdout.write(outcome.line() + "\n")
            sys.stdout.flush()
    sys.stdout.write(totals(outcomes) + "\n")
    return int(any(outcome.kind for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
