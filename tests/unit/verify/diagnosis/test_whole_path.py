"""From a planted fault through `check` to the name in the report."""

from __future__ import annotations

import pytest

from nn_from_scratch.verify import Verdict, check
from tests.unit.verify.planted import CATALOGUE, PlantedFault

# At a tie the numerical side is a matter of convention, so that not every entry has a value to compare.
_UNNAMED = {"max_pool2d: ties counted several times"}


@pytest.mark.parametrize("fault", CATALOGUE, ids=str)
def test_the_report_names_the_fault_of_the_right_tensor(fault: PlantedFault) -> None:
    inputs = tuple(value.requires_grad_(not fault.needs_pair) for value in fault.inputs(1))
    pair = (lambda *xs: (fault.reference(*xs), xs), lambda g, cache: fault.backward(g, *cache))
    report = check(pair if fault.needs_pair else fault.function(), *inputs, checks="gradient", names=fault.names)
    wrong = [result for result in report.results if result.verdict is Verdict.WRONG]
    assert [result.tensor for result in wrong] == [fault.target]
    kind = wrong[0].details.get("diagnosis_kind")
    if str(fault) in _UNNAMED and kind is None:
        return
    sentence = str(wrong[0].diagnosis)
    assert kind in (fault.kind, *fault.also), sentence
    assert (fault.mentions in sentence or kind != fault.kind) and sentence in str(report)
