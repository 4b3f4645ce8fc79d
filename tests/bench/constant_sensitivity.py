"""How much each numeric constant of the verifier matters: verdicts that change when it is 1/4 and 4 times as large.

    python -m tests.bench.constant_sensitivity                           # every constant, some hours
    python -m tests.bench.constant_sensitivity --folder derivative       # those of one folder
    python -m tests.bench.constant_sensitivity --only START TABLE_ROWS

Whole numbers are halved and doubled. A constant is set in a child process before the rest of the verifier is loaded.
The sample, all with the seed of `--seed`: gradient checks of right functions, all checks of some of them, relative
errors of 1e-9 in five operations, and the planted faults, both those with a name and those that gradcheck passes.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import nn_from_scratch

PACKAGE = Path(nn_from_scratch.__file__).parent
FACTORS = (0.25, 4.0)
RELATIVE_ERROR = 1e-9
CHANGES = ("false alarms", "undecided", "missed", "wrong names", "other")


@dataclass(frozen=True)
class Sample:
    """How much each child process verifies."""

    seed: int
    gradients: int
    functions: int
    faults: int


def modules(folder: str | None) -> list[str]:
    """The modules that hold the constants of the verifier, or of one of its folders ("verify" for its top)."""
    paths = sorted((PACKAGE / "verify").rglob("constants.py"))
    found = [path for path in paths if folder in (None, path.parent.name)]
    return [".".join(("nn_from_scratch", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in found]


def constants_in(module: ModuleType) -> dict[str, Any]:
    """The constants of a module that can be varied, by name."""
    named = {name: value for name, value in vars(module).items() if re.fullmatch("[A-Z][A-Z0-9_]*", name)}
    return {name: value for name, value in named.items() if varied(value, 2.0) != value}


def varied(value: Any, factor: float) -> Any:
    """A number times the factor (a whole one halved or doubled); what holds numbers, with each of them so."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value * 2 if factor > 1 else max(1, value // 2)
    if isinstance(value, float):
        return value * factor
    if isinstance(value, tuple | list):
        return type(value)(varied(entry, factor) for entry in value)
    if isinstance(value, dict):
        return {key: varied(entry, factor) for key, entry in value.items()}
    return value


def outcomes(sample: Sample) -> dict[str, str]:
    """Verify the sample: the verdict on each right function, and what becomes of each fault."""
    from nn_from_scratch.verify import CheckContext, as_subject, check
    from nn_from_scratch.verify.derivative.gradients import check_gradient
    from tests.bench.verifier_faults import outcome_of
    from tests.bench.verifier_figures import FAULTS, OPERATIONS, detects, schedule, with_fault
    from tests.gradcheck.test_rejects import PLANTED, inputs, is_found, verdicts
    from tests.right_functions import CASES, draw_inputs
    from tests.unit.verify.planted import CATALOGUE

    found = {}
    for place, (case, scale, drawn, seed) in zip(range(sample.gradients), schedule(CASES, sample.seed), strict=False):
        subject = as_subject(case.function, *draw_inputs(case, seed, scale, drawn))
        for result in check_gradient(subject, CheckContext(seed=seed)):
            found[f"right {place} {case.name} {result.tensor}"] = result.verdict.value
    for case in CASES[:: max(1, len(CASES) // max(1, sample.functions))]:
        for result in check(case.function, *draw_inputs(case, sample.seed, 1.0, "random"), seed=sample.seed).results:
            found[f"right {case.name} {result.check} {result.tensor}"] = result.verdict.value
    for name, (function, draw) in OPERATIONS.items():
        for where, fault in FAULTS.items():
            seen = detects(with_fault(function, fault, RELATIVE_ERROR), draw(sample.seed), sample.seed)
            found[f"fault in {where} of {name}"] = "right" if seen else "missed"
    for planted in CATALOGUE[:: max(1, len(CATALOGUE) // max(1, sample.faults))]:
        found[f"fault {planted}"] = outcome_of(planted, sample.seed)
    for blind in PLANTED[:: max(1, len(PLANTED) // max(1, sample.faults))]:
        seen = is_found(verdicts(blind.check, blind.make(), inputs(blind)))
        found[f"fault {blind.name}"] = "right" if seen else "missed"
    return found


def changes(before: dict[str, str], after: dict[str, str]) -> Counter[str]:
    """How many outcomes changed, by what they became."""
    counts: Counter[str] = Counter()
    for name, outcome in before.items():
        new = after.get(name, "not there")
        if new == outcome:
            continue
        if name.startswith("right"):
            counts[{"wrong": "false alarms", "undecided": "undecided"}.get(new, "other")] += 1
        else:
            counts[{"missed": "missed", "wrong": "wrong names"}.get(new, "other")] += 1
    return counts


def in_child(sample: Sample, change: Callable[[], None]) -> tuple[dict[str, str], float]:
    """The outcomes in a child process in which a constant was changed first, and its seconds of processor time."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_verify, args=(sample, change, sending))
    child.start()
    sending.close()
    try:
        found: tuple[dict[str, str], float] = receiving.recv()
    except EOFError:
        found = ({}, 0.0)
    child.join()
    return found


def _verify(sample: Sample, change: Callable[[], None], sending: Connection) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    change()
    began = time.process_time()
    sending.send((outcomes(sample), time.process_time() - began))


def lines(sample: Sample, folder: str | None, only: list[str] | None) -> Iterator[str]:
    """One line for each constant and factor."""
    before, seconds = in_child(sample, lambda: None)
    yield f"{len(before)} outcomes, {seconds:.0f} s of processor time; seed {sample.seed}"
    for name in modules(folder):
        module = importlib.import_module(name)
        for constant, value in constants_in(module).items():
            if only is not None and constant not in only:
                continue
            for factor in FACTORS:
                new = varied(value, factor)
                after, longer = in_child(sample, lambda: setattr(module, constant, new))  # noqa: B023
                counts = changes(before, after)
                told = ", ".join(f"{counts[kind]} {kind}" for kind in CHANGES if counts[kind])
                what = told or "no change" if after else "it does not run"
                yield f"{name.split('.')[-2]} {constant} {value} -> {new}: {what}; {longer / seconds:.2f} of the time"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="the folder whose constants are varied; verify for the top of the verifier")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="the constants to vary")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gradients", type=int, default=400, help="gradient checks of right functions")
    parser.add_argument("--functions", type=int, default=12, help="right functions that get all checks")
    parser.add_argument("--faults", type=int, default=60, help="planted faults of each of the two collections")
    options = parser.parse_args()
    sample = Sample(options.seed, options.gradients, options.functions, options.faults)
    for line in lines(sample, options.folder, options.only):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
