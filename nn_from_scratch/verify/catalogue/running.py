"""A trial, run: through the verifier, or against a reference."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from typing import Any

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify import Report, check, check_names
from nn_from_scratch.verify.catalogue.building import prepare
from nn_from_scratch.verify.catalogue.entries import OptimizerSpec, Spec
from nn_from_scratch.verify.catalogue.precision import dtype_of, tensor_cores
from nn_from_scratch.verify.catalogue.references import compare_with_reference
from nn_from_scratch.verify.catalogue.trajectories import compare_trajectories
from nn_from_scratch.verify.catalogue.trials import PARITY, TF32, VERIFICATION, Trial

__all__ = ["left_of", "run"]

# Of the verifier's own checks, those with trials of their own: the value is held against the reference in parity.
_ELSEWHERE = ("reference_value", *VERIFICATION)


def left_of(trial: Trial, checks: Collection[str] | None) -> tuple[str, ...]:
    """The names of the checks that a trial runs, those that a choice such as `--nnfs-checks` leaves of them.

    Raises:
        ArgumentError: a name is unknown.
    """
    own = tuple(name for name in check_names() if name not in (*_ELSEWHERE, *trial.without))
    if trial.check != "contracts":
        own = (trial.check,)
    if checks is None:
        return own
    known = (*PARITY, "trajectory", *check_names())
    for name in checks:
        if name.removeprefix("-") not in known:
            raise ArgumentError(f"checks={name!r} should be among {', '.join(known)}, or one of them after a minus.")
    wanted = {name for name in checks if not name.startswith("-")}
    return tuple(name for name in own if (not wanted or name in wanted) and f"-{name}" not in checks)


def run(trial: Trial, *, seed: int, checks: Collection[str] | None = None, **options: Any) -> Report:
    """See `Trial.run`."""
    names = left_of(trial, checks)
    if not names:
        raise ArgumentError(f"checks={list(checks or ())} leaves nothing of {trial.name}; it should leave a check.")
    with nullcontext() if trial.device == "cpu" else tensor_cores(tf32=trial.dtype == TF32):
        if isinstance(trial.entry, OptimizerSpec):
            return compare_trajectories(trial, trial.entry, seed=seed, **options)
        if trial.check in PARITY:
            return compare_with_reference(trial, trial.entry, seed=seed, **{**trial.entry.options, **options})
        return _verify(trial, trial.entry, names, seed=seed, **{**trial.entry.options, **options})


def _verify(trial: Trial, spec: Spec, names: tuple[str, ...], *, seed: int, **options: Any) -> Report:
    prepared = prepare(spec, trial.case, seed=seed, dtype=dtype_of(trial.dtype), device=trial.device)
    subject = prepared.subject if spec.repeatable is None else spec.repeatable(prepared.subject)
    return check(
        subject,
        *(x.numpy() if spec.numpy else x for x in prepared.inputs),
        *prepared.arguments,
        keywords=prepared.options or None,
        checks=names,
        seed=seed,
        name=trial.subject,
        **options,
    )
