"""A trial, run: by the verifier, or beside a reference."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from typing import Any

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify import CheckResult, Report, check, check_names
from nn_from_scratch.verify.catalogue.building import prepare
from nn_from_scratch.verify.catalogue.cases import PARITY, TF32, VERIFICATION, OptimizerSpec
from nn_from_scratch.verify.catalogue.references import compare_with_reference
from nn_from_scratch.verify.catalogue.rounding import dtype_of, tensor_cores
from nn_from_scratch.verify.catalogue.trajectories import compare_trajectories
from nn_from_scratch.verify.catalogue.trials import Trial
from nn_from_scratch.verify.verification import environment, machine

# Of the verifier's own checks, those with trials of their own: the value is compared with the reference in parity.
_ELSEWHERE = ("reference_value", *VERIFICATION)


def checks_of(trial: Trial, chosen: Collection[str] | None = None) -> tuple[str, ...]:
    """The names of the single checks that a trial consists of.

    Args:
        chosen: a choice, as in `run_trial`; those of the trial that it leaves.

    Raises:
        ArgumentError: a name of the choice is unknown.
    """
    own = tuple(name for name in check_names() if name not in (*_ELSEWHERE, *trial.without))
    if trial.check != "contracts":
        own = (trial.check,)
    if chosen is None:
        return own
    known = (*PARITY, "trajectory", *check_names())
    for name in chosen:
        if name.removeprefix("-") not in known:
            raise ArgumentError(f"checks={name!r} should be among {', '.join(known)}, or one of them after a minus.")
    wanted = {name for name in chosen if not name.startswith("-")}
    return tuple(name for name in own if (not wanted or name in wanted) and f"-{name}" not in chosen)


def run_trial(trial: Trial, *, seed: int = 0, checks: Collection[str] | None = None, **options: Any) -> Report:
    """Run a trial.

    Args:
        seed: of everything that is drawn.
        checks: of the checks that belong to this trial, these alone; or, with minus signs, all but these.
        options: of `nn_from_scratch.verify.check`, such as `level`; they take precedence over those of the entry.

    Returns:
        The report; one result for each check and tensor. A check that does not apply says why.

    Raises:
        ArgumentError: `checks` leaves none; an option makes no sense.
        SubjectError: the subject is in no form that is known, or raises.
    """
    names = checks_of(trial, checks)
    if not names:
        raise ArgumentError(f"checks={list(checks or ())} leaves nothing of {trial.name}; it should leave a check.")
    began, entry = time.monotonic(), trial.entry
    results: Sequence[CheckResult]
    with nullcontext() if trial.device == "cpu" else tensor_cores(tf32=trial.dtype == TF32):
        if isinstance(entry, OptimizerSpec):
            results = compare_trajectories(trial, entry, seed=seed, **options)
            form, where = "optimizer", {**machine(), "dtype": trial.dtype, "device": trial.device}
        elif trial.check in PARITY:
            options = {**entry.options, **options}
            subject, results = compare_with_reference(trial, entry, seed=seed, **options)
            form, where = subject.form, environment(subject)
        else:
            prepared = prepare(entry, trial.case, seed=seed, dtype=dtype_of(trial.dtype), device=trial.device)
            options = {**entry.options, **options, "checks": names, "seed": seed, "name": trial.subject}
            return check(*prepared.call(entry), keywords=prepared.options or None, **options)
    return Report(
        subject=trial.subject,
        form=form,
        results=tuple(results),
        environment=where,
        seed=seed,
        level=options.get("level", "quick"),
        fragile=options.get("fragile", "fail"),
        strict=options.get("strict", False),
        seconds=time.monotonic() - began,
    )
