"""The trials of a catalogue: one for each case, dtype, device and check; each is one test."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify.catalogue.cases import (
    CHECKS,
    PARITY,
    TF32,
    VERIFICATION,
    Case,
    Entry,
    Exemption,
    OptimizerSpec,
    Spec,
)


@dataclass(frozen=True)
class Trial:
    """One check of one case: what one test runs.

    Attributes:
        entry, case: what is checked.
        check: one of `CHECKS`, or a single contract check that the entry is exempted from.
        dtype: "float64", "float32", or "tf32" for float32 with products in TF32.
        device: "cpu" or "cuda".
        variant: the name of one of the entry's variants, or empty.
        exemption: why it is expected to fail, if it is.
        without: the contract checks that have trials of their own.
    """

    entry: Entry
    case: Case
    check: str
    dtype: str
    device: str = "cpu"
    variant: str = ""
    exemption: Exemption | None = None
    without: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The id, such as `Conv2d-k4s2p1-float64-gradient`; "low_precision" has several dtypes and so names none."""
        device = "" if self.device == "cpu" else self.device
        dtype = "" if self.check == "low_precision" else self.dtype
        return "-".join(filter(None, (self.entry.name, self.case.name, self.variant, device, dtype, self.check)))

    @property
    def subject(self) -> str:
        """Its name in reports, such as `Conv2d-k4s2p1`."""
        return f"{self.entry.name}-{self.case.name}"

    def __repr__(self) -> str:
        return f"Trial({self.name})"


def trials_of(
    catalogue: Iterable[Entry], *, checks: Collection[str] | None = None, gpu: bool = True
) -> tuple[Trial, ...]:
    """Every trial of a catalogue.

    Args:
        catalogue: at least one entry.
        checks: some of `CHECKS`, as a collection or with commas between them; all of them by default.
        gpu: whether there are trials on a GPU too.

    Raises:
        ArgumentError: the catalogue is empty, holds something else or two entries of one name; a check is unknown, or
            the checks leave no trial; an exemption is for nothing that there is.
    """
    entries = tuple(catalogue)
    if not entries:
        raise ArgumentError("catalogue is empty, but a test over no entries would pass without checking anything")
    for entry in entries:
        if not isinstance(entry, Spec | OptimizerSpec):
            raise ArgumentError(f"catalogue holds {entry!r}, but each entry must be a Spec or an OptimizerSpec")
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ArgumentError(f"catalogue holds two entries of the name {twice[0]!r}; tell them apart with name=...")
    if isinstance(checks, str):
        checks = tuple(name.strip() for name in checks.split(","))
    unknown = sorted(set(checks or ()) - set(CHECKS))
    if unknown:
        raise ArgumentError(f"checks holds {unknown[0]!r}, but the known ones are {', '.join(CHECKS)}")
    found: list[Trial] = []
    for entry in entries:
        of_entry = [*_trials(entry, "cpu"), *(_trials(entry, "cuda") if gpu else ())]
        for exemption in entry.exemptions:
            _check_exemption(exemption, entry, of_entry)
        # A single contract check, which an exemption gives a trial of its own, is one of the contracts.
        kept = set(checks or CHECKS)
        found += [trial for trial in of_entry if (trial.check if trial.check in CHECKS else "contracts") in kept]
    if not found:
        raise ArgumentError(f"checks is {sorted(checks or ())}, but none of them is for an entry of this catalogue")
    return tuple(found)


def _check_exemption(exemption: Exemption, entry: Entry, trials: list[Trial]) -> None:
    if exemption.check not in CHECKS:  # an unknown name would fail as expected forever
        from nn_from_scratch.verify import check_names

        known = tuple(dict.fromkeys((*CHECKS, *check_names())))
        if exemption.check not in known:
            raise ArgumentError(
                f"an exemption of {entry.name} is from {exemption.check!r}, but the known checks are {', '.join(known)}"
            )
    if not any(trial.exemption is exemption for trial in trials):
        in_dtype = f" in {exemption.dtype}" if exemption.dtype else ""
        raise ArgumentError(
            f"an exemption of {entry.name} is from {exemption.check!r}{in_dtype}, but it has no such trial"
        )


def _trials(entry: Entry, device: str) -> Iterator[Trial]:
    for case in entry.cases:
        for check, dtype, variant in _combinations(entry, device):
            singles = [e for e in entry.exemptions if e.check not in CHECKS and e.covers(e.check, case.name, dtype)]
            exempted = next((e for e in entry.exemptions if e.covers(check, case.name, dtype)), None)
            without = tuple(e.check for e in singles) if check == "contracts" else ()
            yield Trial(entry, case, check, dtype, device, variant, exempted, without)
            if check == "contracts":
                for single in singles:
                    yield Trial(entry, case, single.check, dtype, device, variant, single)


def _combinations(entry: Entry, device: str) -> Iterator[tuple[str, str, str]]:
    """Check, dtype and variant of every trial of a case."""
    precise = entry.dtypes + ((TF32,) if device == "cuda" and "float32" in entry.dtypes else ())
    if isinstance(entry, OptimizerSpec):
        yield from (("trajectory", dtype, "") for dtype in entry.dtypes)
        return
    if entry.numpy and device == "cuda":
        return  # arrays of NumPy live on the CPU
    if entry.reference is not None or device == "cuda":
        # A class that lists its parameters says so where it has none; of others the first run tells.
        checks = PARITY[:2] if getattr(entry.subject, "parameter_names", None) == () else PARITY
        yield from (
            (check, dtype, variant) for variant in ("", *entry.variants) for dtype in precise for check in checks
        )
    yield from ((check, entry.dtypes[0], "") for check in VERIFICATION)
