"""Every case of the catalogue through the verifier: gradients, complex step, contract checks and low precision."""

from __future__ import annotations

from nn_from_scratch.parity.specs import LAYERS
from nn_from_scratch.testing import Trial, pyramid
from nn_from_scratch.testing.plugin import Gradcheck


@pyramid(LAYERS, checks=("gradient", "complex_step", "contracts", "low_precision"))
def test_layers(gradcheck: Gradcheck, case: Trial) -> None:
    gradcheck(case)
