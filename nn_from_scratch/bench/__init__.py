"""Benchmarks that can be believed: interleaved pairs, intervals, exact counts, and a gate made of them.

`compare(candidate, reference)` holds two functions of this process against one another; the fixture `ab` of the pytest
plugin is the same in a test. `nn-from-scratch bench compare` holds two commits against one another. Names are loaded
when they are used, because the plugin lends its clock to everybody's benchmarks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nn_from_scratch.exports import lazy_exports

if TYPE_CHECKING:
    from nn_from_scratch.bench.intervals import Interval as Interval
    from nn_from_scratch.bench.pairs import Comparison as Comparison
    from nn_from_scratch.bench.pairs import compare as compare
    from nn_from_scratch.bench.verdicts import Judgement as Judgement
    from nn_from_scratch.bench.verdicts import Rule as Rule
    from nn_from_scratch.bench.verdicts import Verdict as Verdict
else:
    __getattr__, __dir__ = lazy_exports(
        __name__, intervals="Interval", pairs="Comparison compare", verdicts="Judgement Rule Verdict"
    )
