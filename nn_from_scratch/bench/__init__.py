"""Benchmarks that can be believed: interleaved pairs, intervals, exact counts, and a gate made of them.

`compare(candidate, reference)` holds two functions of this process against one another; the fixture `ab` of the pytest
plugin is the same in a test. `nn-from-scratch bench compare` holds two commits against one another. Names are loaded
when they are used, because the plugin lends its clock to everybody's benchmarks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nn_from_scratch.bench.intervals import Interval
    from nn_from_scratch.bench.pairs import Comparison, compare
    from nn_from_scratch.bench.verdicts import Judgement, Rule, Verdict

__all__ = ["Comparison", "Interval", "Judgement", "Rule", "Verdict", "compare"]

_FILE_OF = {
    "Comparison": "pairs",
    "Interval": "intervals",
    "Judgement": "verdicts",
    "Rule": "verdicts",
    "Verdict": "verdicts",
    "compare": "pairs",
}


def __getattr__(name: str) -> object:
    if name not in _FILE_OF:
        raise AttributeError(f"module 'nn_from_scratch.bench' has no attribute {name!r}")
    return getattr(import_module(f"nn_from_scratch.bench.{_FILE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
