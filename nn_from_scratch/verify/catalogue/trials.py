"""A catalogue turned into trials: one for each case, dtype, device and check, which is one test each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify.catalogue.entries import Case, Entry, Exemption, OptimizerSpec, Spec

if TYPE_CHECKING:
    from nn_from_scratch.verify import Report

__all__ = ["CHECKS", "PARITY", "VERIFICATION", "Trial", "trials_of"]

#: Against the reference, in each dtype.
PARITY = ("value", "input_gradient", "parameter_gradient")
#: Against the subject's own forward, starting from the first dtype.
VERIFICATION = ("gradient", "complex_step", "contracts", "low_precision")
#: What is checked, in the order in which the tests run; "trajectory" is for optimizers.
CHECKS = (*PARITY, *VERIFICATION, "trajectory")

# float32 in which products keep 10 bits of each factor, as GPUs compute them on demand.
TF32 = "tf32"


@dataclass(frozen=True)
class Trial:
    """One check of one case: what one test runs.

    Attributes:
        entry, case: what is checked.
        check: one of `CHECKS`, or a single contract check that the entry is exempted from.
        dtype: "float64", "float32", or "tf32" for float32 with products in TF32.
        device: "cpu" or "cuda".
        way: the name of one of the entry's ways, or empty.
        exemption: why it is expected to fail, if it is.
        without: the contract checks that have trials of their own.
    """

    entry: Entry
    case: Case
    check: str
    dtype: str
    device: str = "cpu"
    way: str = ""
    exemption: Exemption | None = None
    without: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The id, such as `Conv2d-k4s2p1-float64-gradient`; "low_precision" has several dtypes and so names none."""
        device = "" if self.device == "cpu" else self.device
        dtype = "" if self.check == "low_precision" else self.dtype
        return "-".join(filter(None, (self.entry.name, self.case.name, self.way, device, dtype, self.check)))

    @property
    def subject(self) -> str:
        """What reports call it: `Conv2d-k4s2p1`."""
        return f"{self.entry.name}-{self.case.name}"

    def names(self, checks: Collection[str] | None = None) -> tuple[str, ...]:
        """The names of the single checks that it consists of; of a choice, as in `run`, those that it leaves.

        Raises:
            ArgumentError: a name of the choice is unknown.
        """
        from nn_from_scratch.verify.catalogue.running import left_of

        return left_of(self, checks)

    def run(self, *, seed: int = 0, checks: Collection[str] | None = None, **options: Any) -> Report:
        """Run it.

        Args:
            seed: of everything that is drawn.
            checks: of the checks that belong to this trial, these alone; or, with minus signs, all but these.
            options: of `nn_from_scratch.verify.check`, such as `level`; they go before those of the entry.

        Returns:
            The report; one result for each check and tensor. A check that does not apply says why.

        Raises:
            ArgumentError: `checks` leaves none; an option makes no sense.
            SubjectError: the subject is in no form that is known, or raises.
        """
        from nn_from_scratch.verify.catalogue.running import run

        return run(self, seed=seed, checks=checks, **options)

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
        _check_exemptions(entry)
        of_entry = [*_trials(entry, "cpu"), *(_trials(entry, "cuda") if gpu else ())]
        for exemption in entry.exemptions:
            if not any(trial.exemption is exemption for trial in of_entry):
                raise ArgumentError(
                    f"an exemption of {entry.name} is from {exemption.check!r}"
                    f"{f' in {exemption.dtype}' if exemption.dtype else ''}, but no trial of it is of that kind"
                )
        found += [trial for trial in of_entry if checks is None or _kind(trial) in checks]
    if not found:
        raise ArgumentError(f"checks is {sorted(checks or ())}, but none of them is for an entry of this catalogue")
    return tuple(found)


def _check_exemptions(entry: Entry) -> None:
    """Refuse an unknown name, whose trial would fail as expected for ever."""
    if all(exemption.check in CHECKS for exemption in entry.exemptions):
        return
    from nn_from_scratch.verify import check_names

    for exemption in entry.exemptions:
        if exemption.check not in (*CHECKS, *check_names()):
            raise ArgumentError(
                f"an exemption of {entry.name} is from {exemption.check!r}, but the known checks are "
                f"{', '.join(dict.fromkeys((*CHECKS, *check_names())))}"
            )


def _kind(trial: Trial) -> str:
    return trial.check if trial.check in CHECKS else "contracts"


def _trials(entry: Entry, device: str) -> Iterator[Trial]:
    for case in entry.cases:
        for check, dtype, way in _kinds(entry, device):
            singles = [e for e in entry.exemptions if e.check not in CHECKS and e.covers(e.check, case.name, dtype)]
            exempted = next((e for e in entry.exemptions if e.covers(check, case.name, dtype)), None)
            without = tuple(e.check for e in singles) if check == "contracts" else ()
            yield Trial(entry, case, check, dtype, device, way, exempted, without)
            if check == "contracts":
                for single in singles:
                    yield Trial(entry, case, single.check, dtype, device, way, single)


def _kinds(entry: Entry, device: str) -> Iterator[tuple[str, str, str]]:
    """Check, dtype and way of every trial of a case."""
    precise = entry.dtypes + ((TF32,) if device == "cuda" and "float32" in entry.dtypes else ())
    if isinstance(entry, OptimizerSpec):
        yield from (("trajectory", dtype, "") for dtype in entry.dtypes)
        return
    if entry.numpy and device == "cuda":
        return  # arrays of NumPy live on the CPU
    if entry.reference is not None or device == "cuda":
        # A class that lists its parameters says so where it has none; of others the first run tells.
        checks = PARITY[:2] if getattr(entry.subject, "parameter_names", None) == () else PARITY
        yield from ((check, dtype, way) for way in ("", *entry.ways) for dtype in precise for check in checks)
    yield from ((check, entry.dtypes[0], "") for check in VERIFICATION)
