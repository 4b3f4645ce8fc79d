"""One gradient out of those of several ranks, here played one after the other in one process."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nn_from_scratch import MSE, BatchNorm2d, Conv2d, Linear, Sequential
from nn_from_scratch.denoise.distributed.averaging import average_gradients
from nn_from_scratch.engine.module import Module


class _WaitError(Exception):
    """Thrown where a rank would wait for the others."""


def play(ranks: list[tuple[Module, Tensor | None, int]]) -> tuple[list[Tensor], Tensor]:
    """Let each rank exchange; gives the loss sums that they see, and the tensor that travelled."""
    travelled = []

    def note(tensor: Tensor) -> None:
        travelled.append(tensor.clone())
        raise _WaitError

    for model, loss, count in ranks:
        with pytest.raises(_WaitError):
            average_gradients(model, loss, count=count, add_up=note)
    total = torch.stack(travelled).sum(0)
    return [average_gradients(m, loss, count=n, add_up=lambda t: t.copy_(total)) for m, loss, n in ranks], total


def model_of(dtype: torch.dtype = torch.float64) -> Sequential:
    generator = torch.Generator().manual_seed(1)
    return Sequential(Linear(3, 4, generator=generator, dtype=dtype), Linear(4, 2, generator=generator, dtype=dtype))


def after_backward(model: Module, x: Tensor, y: Tensor) -> tuple[Module, Tensor | None, int]:
    if not len(x):
        return model, None, 0
    criterion = MSE()
    loss = criterion(model(x), y)
    criterion.backward()
    return model, loss, len(x)


@pytest.mark.parametrize("sizes", [(3, 3), (4, 1), (2, 2, 1), (1, 0), (0, 3, 0)])
def test_gradients_are_those_of_the_whole_batch(sizes: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(sum(sizes), 3, generator=generator, dtype=torch.float64)
    y = torch.randn(sum(sizes), 2, generator=generator, dtype=torch.float64)
    whole, loss, _ = after_backward(model_of(), x, y)
    assert loss is not None
    ranks = [after_backward(model_of(), a, b) for a, b in zip(x.split(sizes), y.split(sizes), strict=True)]
    sums, _ = play(ranks)
    for (model, _, _), loss_sum in zip(ranks, sums, strict=True):
        assert float(loss_sum) == pytest.approx(float(loss) * len(x), rel=1e-14)
        for p, q in zip(model.parameters().values(), whole.parameters().values(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-13, atol=1e-15)


def test_what_no_rank_has_a_gradient_of_has_none_afterwards() -> None:
    x, y = torch.ones(2, 3, dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64)
    ranks = [after_backward(model_of(), x, y), (model_of(), None, 0)]
    ranks[0][0].parameters()["0.weight"].grad = None
    play(ranks)
    for model, _, _ in ranks:
        assert [p.grad is None for p in model.parameters().values()] == [True, False, False, False]


def test_a_gradient_that_one_rank_alone_has_counts_as_zero_elsewhere() -> None:
    x, y = torch.ones(2, 3, dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64)
    ranks = [after_backward(model_of(), x, y) for _ in range(2)]
    grad = ranks[0][0].parameters()["0.weight"].grad
    assert grad is not None
    expected = grad / 2
    ranks[1][0].parameters()["0.weight"].grad = None
    play(ranks)
    for model, _, _ in ranks:
        torch.testing.assert_close(model.parameters()["0.weight"].grad, expected)


def test_running_statistics_are_averaged_and_counters_agree() -> None:
    def make() -> Sequential:
        return Sequential(Conv2d(1, 2, 1, generator=torch.Generator().manual_seed(0)), BatchNorm2d(2)).to(
            dtype=torch.float64
        )

    x = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    whole = make()
    whole(x)
    ranks = [after_backward(make(), part, torch.zeros(len(part), 2, 4, 4).double()) for part in x.split((3, 2, 0))]
    means = [model.buffers()["1.running_mean"].clone() for model, _, _ in ranks[:2]]
    assert not means[0].allclose(means[1])
    play(ranks)
    for model, _, _ in ranks:
        buffers = model.buffers()
        torch.testing.assert_close(buffers["1.running_mean"], whole.buffers()["1.running_mean"])
        assert buffers["1.running_var"].equal(ranks[0][0].buffers()["1.running_var"])
        assert int(buffers["1.num_batches_tracked"]) == 1


def test_half_precision_travels_in_float32() -> None:
    model = model_of(torch.bfloat16)
    rank = after_backward(model, torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(2, 2, dtype=torch.bfloat16))
    _, travelled = play([rank])
    assert travelled.dtype == torch.float32
    assert all(p.grad is not None and p.grad.dtype == torch.bfloat16 for p in model.parameters().values())


@pytest.mark.gpu
def test_gradients_on_a_gpu_are_those_of_the_whole_batch() -> None:
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    whole, _, _ = after_backward(model_of(), x, y)
    ranks = [after_backward(model_of().cuda(), x[rows].cuda(), y[rows].cuda()) for rows in (slice(3), slice(3, 5))]
    play(ranks)
    for p, q in zip(ranks[1][0].parameters().values(), whole.parameters().values(), strict=True):
        assert p.grad is not None and p.grad.is_cuda
        torch.testing.assert_close(p.grad.cpu(), q.grad)
