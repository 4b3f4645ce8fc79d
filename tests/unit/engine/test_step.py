"""Captured steps: the same numbers as ordinary ones, whatever changes between them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.bench.counts import count
from nn_from_scratch.bench.rows import our_step, torch_step
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.engine.optimizers import Optimizer
from nn_from_scratch.engine.step import KEPT_GRAPHS, TrainingStep
from nn_from_scratch.errors import CaptureError, ShapeError

OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "sgd": lambda model: nn.SGD(model, lr=0.5),
    "momentum": lambda model: nn.SGD(model, lr=0.5, momentum=0.9),
    "nesterov": lambda model: nn.SGD(model, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda model: nn.Adam(model, lr=0.01),
    "adamw": lambda model: nn.AdamW(model, lr=0.01),
    "rmsprop": lambda model: nn.RMSprop(model, lr=0.001, momentum=0.5, centered=True),
}


def batches(*sizes: int, dtype: torch.dtype = torch.float32) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.rand(size, 3, 8, 8, generator=generator, dtype=dtype),
            torch.rand(size, 3, 8, 8, generator=generator, dtype=dtype),
        )
        for size in sizes
    ]


def model(dtype: torch.dtype = torch.float32) -> nn.Module:
    return report_model(generator=torch.Generator().manual_seed(0), dtype=dtype)


def run(
    own: nn.Module, optimizer: Optimizer, data: list[tuple[Tensor, Tensor]], *, capture: bool, schedule: bool = True
) -> list[float]:
    step = TrainingStep(own, nn.MSE(), optimizer, capture=capture)
    rates = nn.StepLR(optimizer, 2, gamma=0.5) if schedule else None
    losses = []
    for x, y in data:
        losses.append(float(step(x, y)))
        if rates is not None:
            rates.step()
    return losses


@pytest.mark.parametrize(
    ("name", "dtype", "algorithm"),
    [
        *((name, torch.float32, "native") for name in OPTIMIZERS),
        ("momentum", torch.float32, "unfold"),
        ("adam", torch.float64, "unfold"),
    ],
)
def test_smaller_batches_and_other_rates_give_the_bits_of_ordinary_steps(
    name: str, dtype: torch.dtype, algorithm: str
) -> None:
    data = batches(4, 4, 4, 3, 4, 3, 3, 4, dtype=dtype)
    results = []
    for capture in (False, True):
        own = model(dtype)
        optimizer = OPTIMIZERS[name](own)
        with nn.convolution_algorithm(algorithm):
            losses = run(own, optimizer, data, capture=capture)
        results.append((losses, own.state_dict(), optimizer.state_dict()))
    (losses, weights, state), (other_losses, other_weights, other_state) = results
    assert losses == other_losses
    for one, other in ((weights, other_weights), (state, other_state)):
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_batch_normalization_keeps_its_running_statistics() -> None:
    results = []
    for capture in (False, True):
        own = nn.Sequential(
            nn.Conv2d(3, 3, 3, padding=1, generator=torch.Generator().manual_seed(0)), nn.BatchNorm2d(3)
        )
        run(own, nn.SGD(own, lr=0.1), batches(4, 4, 4, 4), capture=capture)
        results.append(own.state_dict())
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])
    assert int(results[1]["1.num_batches_tracked"]) == 4


def captured_step() -> tuple[nn.Module, Optimizer, TrainingStep, tuple[Tensor, Tensor]]:
    own = model()
    optimizer = nn.SGD(own, lr=0.1, momentum=0.9)
    step = TrainingStep(own, nn.MSE(), optimizer)
    (batch,) = batches(4)
    for _ in range(3):
        step(*batch)
    return own, optimizer, step, batch


def calls_of_forward(own: nn.Module, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    seen: list[None] = []
    forward = type(own).forward

    def counted(self: nn.Module, *inputs: Tensor) -> object:
        seen.append(None)
        return forward(self, *inputs)

    monkeypatch.setattr(type(own), "forward", counted)
    return seen


def test_a_recorded_step_runs_no_python_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    own, _, step, batch = captured_step()
    seen = calls_of_forward(own, monkeypatch)
    step(*batch)
    assert not seen


@pytest.mark.parametrize(
    "change",
    [lambda own: own.eval(), lambda own: setattr(own[0], "weight", own[0].weight.clone())],
    ids=["mode", "parameter"],
)
def test_a_step_is_recorded_anew_when_something_was_exchanged(
    change: Callable[[nn.Module], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, _, step, batch = captured_step()
    change(own)
    seen = calls_of_forward(own, monkeypatch)
    step(*batch)
    assert seen


@pytest.mark.parametrize(
    "change",
    [
        lambda optimizer: setattr(optimizer, "momentum", 0.5),
        lambda optimizer: optimizer.load_state_dict(optimizer.state_dict()),
    ],
    ids=["option", "state"],
)
def test_what_is_exchanged_in_the_optimizer_counts_from_the_next_step(change: Callable[[Optimizer], object]) -> None:
    found = []
    for capture in (True, False):
        own = model()
        optimizer = nn.SGD(own, lr=0.1, momentum=0.9)
        step, (batch,) = TrainingStep(own, nn.MSE(), optimizer, capture=capture), batches(4)
        for number in range(6):
            if number == 4:
                change(optimizer)
            step(*batch)
        found.append(torch.cat([p.flatten() for p in own.parameters().values()]))
    assert torch.equal(*found)


def test_an_optimizer_with_a_step_of_its_own_makes_it() -> None:
    class Halving(nn.SGD):
        def step(self) -> None:
            for parameter in self.model.parameters().values():
                assert parameter.grad is not None
                parameter.mul_(0.5)

    own = model()
    step, (batch,) = TrainingStep(own, nn.MSE(), Halving(own, lr=0.1)), batches(4)
    before = own.parameters()["0.weight"].clone()
    for _ in range(4):
        step(*batch)
        assert all(p.grad is None for p in own.parameters().values())
    assert torch.equal(own.parameters()["0.weight"], before / 16)


def test_loaded_weights_are_taken_up() -> None:
    own, _, step, batch = captured_step()
    fresh = model()
    own.load_state_dict(fresh.state_dict())
    assert float(step(*batch)) == float(nn.MSE()(fresh(batch[0]), batch[1]))


def test_no_record_and_no_gradient_is_left_behind_or_taken_along() -> None:
    own, _, step, batch = captured_step()
    nn.backward(own(batch[0]))
    before = {name: p.clone() for name, p in own.parameters().items()}
    step(*batch)
    assert all(p.grad is None for p in own.parameters().values()) and not own.xs
    twin = model()
    optimizer = nn.SGD(twin, lr=0.1, momentum=0.9)
    reference = TrainingStep(twin, nn.MSE(), optimizer, capture=False)
    for _ in range(4):
        reference(*batch)
    assert all(torch.equal(p, twin.parameters()[name]) for name, p in own.parameters().items())
    assert any(not torch.equal(p, before[name]) for name, p in own.parameters().items())


def test_the_graphs_of_only_so_many_batch_shapes_are_kept() -> None:
    own = nn.Sequential(nn.Linear(2, 2))
    step = TrainingStep(own, nn.MSE(), nn.SGD(own, lr=0.1))
    for size in range(1, KEPT_GRAPHS + 4):
        x = torch.ones(size, 2)
        step(x, x)
    assert len(step._graphs) == KEPT_GRAPHS
    assert [shape[0] for ((shape, *_), *_) in step._graphs] == list(range(4, KEPT_GRAPHS + 4))  # the last ones


def test_inputs_may_require_a_gradient_and_are_not_modified() -> None:
    _, _, step, (x, y) = captured_step()
    before = x.clone()
    loss = step(x.requires_grad_(), y)
    assert loss.grad_fn is None and torch.equal(x, before)


def test_a_module_that_replaces_its_buffer_is_refused() -> None:
    class Counting(nn.ReLU):
        buffer_names = ("count",)

        def __init__(self) -> None:
            super().__init__()
            self.count = torch.zeros(())

        def forward(self, x: Tensor) -> object:  # type: ignore[override]  # as in the base
            self.count = self.count + 1
            return super().forward(x)

    own = nn.Sequential(nn.Linear(2, 2), Counting())
    step = TrainingStep(own, nn.MSE(), nn.SGD(own, lr=0.1))
    x = torch.ones(3, 2)
    step(x, x)  # notices the new count, and begins again
    step._watched = type(step._watched)(own, step.criterion)
    with pytest.raises(CaptureError, match="'1.count' was replaced by another tensor during the step"):
        step(x, x)


def test_a_step_that_looks_at_a_value_is_refused() -> None:
    own = nn.Sequential(nn.BatchNorm2d(3, momentum=None))
    step = TrainingStep(own, nn.MSE(), nn.SGD(own, lr=0.1))
    (batch,) = batches(4)
    step(*batch)
    with pytest.raises(CaptureError, match=r"leave the step uncaptured \(capture=False\)"):
        step(*batch)


def test_an_input_that_does_not_fit_is_refused_as_ever() -> None:
    _, _, step, (x, y) = captured_step()
    with pytest.raises(ShapeError, match="2 channels, but 3 are expected"):
        step(x[:, :2], y)


@pytest.mark.gpu
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_graph_on_cuda_gives_the_losses_of_ordinary_steps(name: str) -> None:
    data = [(x.cuda(), y.cuda()) for x, y in batches(4, 4, 4, 3, 4, 3, 3, 4, dtype=torch.float64)]
    found = []
    for capture in (False, True):
        own = model(torch.float64).cuda()
        found.append(run(own, OPTIMIZERS[name](own), data, capture=capture))
    torch.testing.assert_close(torch.tensor(found[1]), torch.tensor(found[0]), rtol=1e-12, atol=0.0)


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="nobody has looked at other processors"
)
@pytest.mark.parametrize("capture", [True, False], ids=["captured", "ordinary"])
@pytest.mark.parametrize("batch", [16, 128])
def test_a_step_takes_no_more_memory_than_pytorchs(batch: int, capture: bool) -> None:
    x, y = torch.rand(batch, 3, 32, 32), torch.rand(batch, 3, 32, 32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ours, theirs = our_step(x, "Adam", capture=capture), torch_step(x, "Adam")
        last = [z.contiguous(memory_format=torch.channels_last) for z in (x, y)]
        assert count(lambda: ours(*last)).peak_bytes <= count(lambda: theirs(x, y)).peak_bytes
    finally:
        torch.set_num_threads(threads)


def test_no_step_leaves_gradients_or_records_behind() -> None:
    own, criterion = model(), nn.MSE()
    step = TrainingStep(own, criterion, nn.SGD(own, lr=0.1))
    for x, y in batches(4, 4, 4, 4):
        step(x, y)
        assert all(p.grad is None for p in own.parameters().values())
        assert not any(module.xs for module in (*own.all_modules(), criterion) if isinstance(module, nn.Module))


def test_a_rate_that_comes_back_is_the_rate_again() -> None:
    found = []
    for capture in (True, False):
        own = model()
        optimizer = nn.SGD(own, lr=0.1)
        step, losses = TrainingStep(own, nn.MSE(), optimizer, capture=capture), []
        for rate, (x, y) in zip((0.1, 0.1, 0.1, 0.5, 0.1, 0.1), batches(*[4] * 6), strict=True):
            optimizer.lr = rate
            losses.append(float(step(x, y)))
        found.append(losses)
    assert found[0] == found[1]


@pytest.mark.parametrize("capture", [True, False])
def test_gradients_that_were_left_are_dropped(capture: bool) -> None:
    found = []
    for left in (False, True):
        own = model()
        step = TrainingStep(own, nn.MSE(), nn.SGD(own, lr=0.1), capture=capture)
        for x, y in batches(4, 4, 4, 4):
            if left:
                for parameter in own.parameters().values():
                    parameter.grad = torch.ones_like(parameter)
            step(x, y)
        found.append(torch.cat([p.flatten() for p in own.parameters().values()]))
    assert torch.equal(*found)


def test_after_a_change_steps_are_recorded_again_once() -> None:
    own = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    step, x, kept = TrainingStep(own, nn.MSE(), nn.SGD(own, lr=0.1)), torch.ones(3, 2), []
    for training in (True, True, True, False, False, False, False):
        own.train(training)
        step(x, x)
        (found,) = step._graphs.values()
        kept.append(found)
    assert kept[0] is None is kept[3]
    assert kept[1] is kept[2] is not None and kept[4] is kept[5] is kept[6] is not None


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_a_step_of_the_reports_model_asks_for_few_operators(name: str) -> None:
    own = model()
    step, (batch,) = TrainingStep(own, nn.MSE(), OPTIMIZERS[name](own), capture=False), batches(4)
    assert 30 <= (count(lambda: step(*batch)).operators or 0) <= 60
