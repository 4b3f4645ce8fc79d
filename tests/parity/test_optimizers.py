"""Every option of every optimizer against torch.optim, over 100 steps."""

from __future__ import annotations

from nn_from_scratch.parity.specs import OPTIMIZERS
from nn_from_scratch.testing import Trial, pyramid
from nn_from_scratch.testing.plugin import Gradcheck


@pyramid(OPTIMIZERS)
def test_optimizers(gradcheck: Gradcheck, case: Trial) -> None:
    gradcheck(case)
