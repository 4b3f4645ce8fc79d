"""All tests without a mutant: which lines of which function does each reach, how long does it take, does it pass?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.mutation.mutant import Mutant, MutantResult
from nn_from_scratch.mutation.result_faults import Observation, keep_larger
from nn_from_scratch.storage import write_json


@dataclass(frozen=True)
class TestRun:
    """One test, run without a mutant.

    Attributes:
        functions: by name of each function that it reaches, the lines, as `text_of_lines` writes them, counted from
            the function's first one as 0; "" where they are not known.
        file: digest of the file that it stands in.
        round: in which it was run: 0 in the first, and one more in each that met new tests.
    """

    __test__ = False  # for pytest, which would collect it by its name

    group: str
    seconds: float
    functions: Mapping[str, str]
    file: str
    round: int = 0

    def reaches(self, mutant: Mutant) -> bool:
        """Whether it runs the statement that the mutant edits, or for a fault in the result the function."""
        text = self.functions.get(mutant.function)
        if text is None:
            return False
        first, last = mutant.statement
        return not text or mutant.kind == "result" or any(first <= line <= last for line in lines_in(text))


@dataclass
class Observations:
    """Observations of some tests, and of the functions that they call, without a mutant.

    Attributes:
        tests: by id.
        failures: by id of each test that failed, what it failed with.
        seen: shapes of each function's results: by its name, and by place.
        cotangents: functions that take a cotangent.
    """

    tests: dict[str, TestRun] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    seen: dict[str, dict[str, Observation]] = field(default_factory=dict)
    cotangents: set[str] = field(default_factory=set)


@dataclass
class SuiteBaseline:
    """All that is known of the tests of a campaign; it is kept in its folder.

    Attributes:
        settings: digest of what decides the meaning of a result.
        sources: digest of each function's source, by name.
        tests, seen, cotangents: as of `Observations`, of all tests.
        round: the number of times that new tests came, so far.
    """

    settings: str
    sources: dict[str, str]
    tests: dict[str, TestRun] = field(default_factory=dict)
    seen: dict[str, dict[str, Observation]] = field(default_factory=dict)
    cotangents: set[str] = field(default_factory=set)
    round: int = 0

    @classmethod
    def load(cls, folder: Path, *, like: SuiteBaseline) -> SuiteBaseline:
        """The baseline that is kept in this folder.

        Raises:
            ArgumentError: there is none, or it is about other sources or settings than these.
        """
        path = folder / "baseline.json"
        if not path.is_file():
            raise ArgumentError(f"{str(folder)!r} holds no run to resume; leave out --resume to start one")
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.get("settings") != like.settings or not like.sources.items() <= values["sources"].items():
            raise ArgumentError(
                f"{str(folder)!r} holds a run over other sources, targets or tests; leave out --resume to start anew"
            )
        tests = {name: TestRun(**run) for name, run in values["tests"].items()}
        seen = {
            name: {place: Observation(tuple(o["shape"]), o["floating"]) for place, o in places.items()}
            for name, places in values["seen"].items()
        }
        return cls(values["settings"], values["sources"], tests, seen, set(values["cotangents"]), values["round"])

    def save(self, folder: Path) -> None:
        """Write the baseline to the folder, atomically."""
        write_json(folder / "baseline.json", asdict(self) | {"cotangents": sorted(self.cotangents)})

    def new_among(self, collected: Mapping[str, str]) -> list[str]:
        """The tests that are not known yet, or whose file has changed; those that are gone are forgotten.

        Args:
            collected: by id of each test that there is, the digest of its file.
        """
        self.tests = {name: run for name, run in self.tests.items() if name in collected}
        return [name for name, file in collected.items() if name not in self.tests or self.tests[name].file != file]

    def begin_round(self) -> None:
        """Count a further round: results so far know nothing of the tests that are run from here on."""
        self.round += bool(self.tests)

    def add(self, found: Observations) -> None:
        """Take in what a worker says of some tests.

        Raises:
            SubjectError: a test fails.
        """
        if found.failures:
            test, message = next(iter(found.failures.items()))
            raise SubjectError(f"{len(found.failures)} tests fail without any mutant, the first is {test}: {message}")
        self.tests |= {name: replace(run, round=self.round) for name, run in found.tests.items()}
        self.cotangents |= found.cotangents
        for name, places in found.seen.items():
            keep_larger(self.seen.setdefault(name, {}), places)

    def tests_of(self, mutant: Mutant, group: str, *, since: int = 0) -> list[str]:
        """The tests of a group that reach a mutant, of this round or later ones; quick ones first."""
        reaching = [
            (run.seconds, name)
            for name, run in self.tests.items()
            if run.group == group and run.round >= since and run.reaches(mutant)
        ]
        return [name for _, name in sorted(reaching)]

    def holds(self, result: MutantResult) -> bool:
        """Whether a result is still true: the test that failed is as it was, or it is not known which one it was."""
        if not result.outcome.killed or not result.test:
            return True
        run = self.tests.get(result.test)
        return run is not None and run.round <= result.round


def digest(content: bytes) -> str:
    """A short hash of some bytes."""
    return hashlib.sha256(content).hexdigest()[:16]


def text_of_lines(lines: Iterable[int]) -> str:
    """Line numbers as ranges, such as "3-5,8"."""
    parts: list[list[int]] = []
    for line in sorted(lines):
        if parts and line == parts[-1][1] + 1:
            parts[-1][1] = line
        else:
            parts.append([line, line])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def lines_in(text: str) -> set[int]:
    """The line numbers that `text_of_lines` wrote."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
