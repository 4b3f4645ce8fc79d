"""Every case of the catalogue through the verifier: gradients, complex step and contract checks."""

from __future__ import annotations

import pytest

from nn_from_scratch.pytest_plugin import Gradcheck
from nn_from_scratch.specs import CATALOGUE, Case, Spec, draw_inputs, repeatable

CASES = [pytest.param(spec, case, id=f"{spec.layer.__name__}-{case.name}") for spec in CATALOGUE for case in spec.cases]


@pytest.mark.parametrize(("spec", "case"), CASES)
def test_a_layer_is_proven_right(gradcheck: Gradcheck, spec: Spec, case: Case) -> None:
    gradcheck(repeatable(spec.build(case)), *draw_inputs(case))
