"""Benchmarks that can be believed: interleaved pairs, intervals, exact counts, and a gate made of them.

`compare(candidate, reference)` compares two functions of this process; the fixture `ab` of the pytest plugin is the
same in a test. `nn-from-scratch bench compare` compares two commits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nn_from_scratch.exports import lazy_exports

if TYPE_CHECKING:
    from nn_from_scratch.bench.intervals import Interval as Interval
    from nn_from_scratch.bench.paired import PairedComparison as PairedComparison
    from nn_from_scratch.bench.paired import compare as compare
    from nn_from_scratch.bench.verdicts import Rule as Rule
    from nn_from_scratch.bench.verdicts import SpeedJudgment as SpeedJudgment
    from nn_from_scratch.bench.verdicts import SpeedVerdict as SpeedVerdict
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        intervals="Interval",
        paired="PairedComparison compare",
        verdicts="Rule SpeedJudgment SpeedVerdict",
    )
