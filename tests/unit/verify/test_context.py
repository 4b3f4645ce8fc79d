import subprocess
import sys
import time

import pytest
import torch

from nn_from_scratch.verify.context import CheckContext, TimeLimitReached, stable_seed


def test_draws_depend_on_the_seed_and_the_names_alone() -> None:
    context = CheckContext(seed=3)
    first = context.signed((4,), "direction", "weight")
    context.signed((100,), "direction", "another")
    assert torch.equal(first, CheckContext(seed=3).signed((4,), "direction", "weight"))
    assert not torch.equal(first, CheckContext(seed=4).signed((4,), "direction", "weight"))
    assert not torch.equal(first, context.signed((4,), "direction", "bias"))


def test_a_seed_is_the_same_in_every_process() -> None:
    code = "from nn_from_scratch.verify.context import stable_seed; print(stable_seed(1, 'x', 2))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) == stable_seed(1, "x", 2)


def test_names_do_not_run_into_each_other() -> None:
    assert stable_seed(0, "ab", "c") != stable_seed(0, "a", "bc")


def test_draws_are_dense_and_signed() -> None:
    drawn = CheckContext().signed((10_000,), "x")
    assert float(drawn.abs().min()) >= 0.5
    assert float(drawn.abs().max()) <= 1.5
    assert 0.4 < float((drawn > 0).double().mean()) < 0.6


def test_cotangents_are_drawn_for_floating_point_outputs_only() -> None:
    outputs = {"y": torch.zeros(2, 3, dtype=torch.float32), "mask": torch.zeros(2, dtype=torch.bool)}
    cotangents = CheckContext().cotangents(outputs)
    assert set(cotangents) == {"y"}
    assert cotangents["y"].dtype == torch.float32


def test_a_complex_cotangent_has_both_parts() -> None:
    drawn = CheckContext().cotangents({"y": torch.zeros(3, dtype=torch.complex128)})["y"]
    assert bool((drawn.imag.abs() >= 0.5).all())


def test_a_deadline_that_has_passed_raises() -> None:
    context = CheckContext(deadline=time.monotonic() - 1)
    assert context.remaining < 0
    with pytest.raises(TimeLimitReached):
        context.require_time()
    CheckContext().require_time()
