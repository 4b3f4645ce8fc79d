import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative.entries import batched, entry_gradient, locate
from nn_from_scratch.verify.derivative.linearization import point_at, working_values
from nn_from_scratch.verify.derivative.probes import VariedOperand
from nn_from_scratch.verify.subjects import as_subject
from tests.functions import draw


def first_of(function: object, *inputs: Tensor) -> VariedOperand:
    subject = as_subject(function, *inputs)
    values, _ = working_values(subject)
    context = CheckContext()
    return VariedOperand.at(point_at(subject, values, context), subject.operands[0].name, context)


SAMPLES = {
    "softmax": (lambda x: F.softmax(x, -1), (draw(4, 8),)),
    "conv2d": (lambda x: F.conv2d(x, draw(2, 3, 3, 3, seed=1)), (draw(2, 3, 5, 5),)),
    "two batched inputs": (lambda x, y: x * y.sin(), (draw(4, 5), draw(4, 5, seed=2))),
    "batch norm": (lambda x: F.batch_norm(x, None, None, training=True), (draw(6, 4),)),
    "loss": (lambda x: (x**3).sum(), (draw(5, 4),)),
    "kinks": (torch.relu, (draw(40, 5),)),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_whole_numerical_gradient_is_within_its_error_estimate(name: str) -> None:
    function, inputs = SAMPLES[name]
    varied = first_of(function, *inputs)
    found = entry_gradient(varied, start=0.1)
    truth = varied.gradient
    assert found is not None and truth is not None
    assert bool(((found.value - truth).abs() <= 10 * found.error).all())
    assert float(found.error.max()) < 1e-8 * float(truth.abs().max())


@pytest.mark.parametrize(
    ("name", "possible"),
    [("softmax", True), ("conv2d", True), ("two batched inputs", True), ("batch norm", False), ("loss", False)],
)
def test_whether_samples_see_each_other_is_found_out(name: str, possible: bool) -> None:
    function, inputs = SAMPLES[name]
    varied = first_of(function, *inputs)
    assert (batched(varied) is not None) is possible


def test_a_batch_takes_few_passes() -> None:
    calls = []

    def forward(x: Tensor) -> Tensor:
        calls.append(x.shape)
        return x.tanh()

    varied = first_of(forward, draw(8, 100))
    calls.clear()
    assert entry_gradient(varied, start=0.1) is not None
    assert len(calls) < 40


def test_a_gradient_that_would_take_too_long_is_not_begun() -> None:
    varied = first_of(lambda x: (x**2).sum(), draw(3000))
    assert entry_gradient(varied, start=0.1, seconds=0.0) is None


@pytest.mark.parametrize("wrong", [[5], [0, 29_999], list(range(40, 60))])
def test_wrong_entries_are_found_by_halving_where_the_whole_gradient_is_too_much(wrong: list[int]) -> None:
    varied = first_of(lambda x: (x**3).sum(), draw(30_000))
    assert varied.gradient is not None
    gradient = varied.gradient.clone()
    gradient[wrong] *= 1.5
    found = locate(varied, gradient, start=0.1, seconds=5.0).mismatch
    assert found is not None and found.index is not None and found.index[0] in wrong


def test_a_share_is_estimated_from_a_sample() -> None:
    varied = first_of(lambda x: (x**3).sum(), draw(20_000))
    assert varied.gradient is not None
    found = locate(varied, 1.01 * varied.gradient, start=0.1, seconds=1.0).mismatch
    assert found is not None and found.counted == "sampled"
    assert found.share is not None and found.share > 0.9
