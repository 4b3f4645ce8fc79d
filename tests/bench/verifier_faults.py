"""What the verifier finds and names among planted faults, beside what `torch.autograd.gradcheck` finds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch

from nn_from_scratch.verify import Verdict, check
from tests.gradcheck.test_rejects import PLANTED, inputs, is_found, verdicts
from tests.unit.verify.planted import CATALOGUE, PlantedFault


def blind_spots() -> list[tuple[str, str, bool, bool]]:
    """Each fault that slow gradcheck is known to pass: its name, the check, found by us, passed by gradcheck."""
    rows = []
    for planted in PLANTED:
        ours = is_found(verdicts(planted.check, planted.make(), inputs(planted)))
        x = inputs(planted).requires_grad_()
        passed = torch.autograd.gradcheck(planted.make(), (x,), raise_exception=False)
        rows.append((planted.name, planted.check, ours, passed))
    return rows


def passed_by_fast_mode() -> int:
    """How many of them gradcheck's fast mode passes."""
    return sum(
        torch.autograd.gradcheck(p.make(), (inputs(p).requires_grad_(),), fast_mode=True, raise_exception=False)
        for p in PLANTED
    )


@dataclass(frozen=True)
class Diagnoses:
    """Planted faults by outcome: named right, without a name, named wrong, not found at all."""

    right: int
    unnamed: tuple[str, ...]
    wrong: tuple[str, ...]
    missed: tuple[str, ...]
    kinds: int

    @property
    def total(self) -> int:
        return self.right + len(self.unnamed) + len(self.wrong) + len(self.missed)


def diagnoses(*, seed: int = 1) -> Diagnoses:
    """Verify every planted fault, and compare the name in the report with what was planted."""
    outcomes: Counter[str] = Counter()
    names: dict[str, list[str]] = {"unnamed": [], "wrong": [], "missed": []}
    for fault in CATALOGUE:
        outcome = outcome_of(fault, seed)
        outcomes[outcome] += 1
        if outcome != "right":
            names[outcome].append(str(fault))
    return Diagnoses(
        right=outcomes["right"],
        unnamed=tuple(names["unnamed"]),
        wrong=tuple(names["wrong"]),
        missed=tuple(names["missed"]),
        kinds=len({fault.kind for fault in CATALOGUE}),
    )


def outcome_of(fault: PlantedFault, seed: int) -> str:
    """What the report says of a planted fault: "right", "unnamed", "wrong" (the name) or "missed"."""
    values = tuple(value.requires_grad_(not fault.needs_pair) for value in fault.inputs(seed))
    pair = (lambda *xs: (fault.reference(*xs), xs), lambda g, cache: fault.backward(g, *cache))
    report = check(pair if fault.needs_pair else fault.function(), *values, checks="gradient", names=fault.names)
    found = [result for result in report.results if result.verdict is Verdict.WRONG]
    if [result.tensor for result in found] != [fault.target]:
        return "missed"
    kind = found[0].details.get("diagnosis_kind")
    if kind is None:
        return "unnamed"
    return "right" if kind in (fault.kind, *fault.also) else "wrong"
