"""Every case of the catalogue against torch.autograd: value, input gradient and parameter gradients.

In float64 and float32, by every algorithm for convolutions; on a GPU also with products in TF32.
"""

from __future__ import annotations

from nn_from_scratch.parity.specs import LAYERS
from nn_from_scratch.testing import Trial, pyramid
from nn_from_scratch.testing.plugin import Gradcheck


@pyramid(LAYERS, checks=("value", "input_gradient", "parameter_gradient"))
def test_layers(gradcheck: Gradcheck, case: Trial) -> None:
    gradcheck(case)
