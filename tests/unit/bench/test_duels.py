"""Layers and scaling: ours beside PyTorch, case by case."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nn_from_scratch.bench.duels import Duel, Duels, run_duels
from nn_from_scratch.bench.layers import layer_duels
from nn_from_scratch.bench.scaling import POINTS, scaling_duels
from nn_from_scratch.cli.bench_tables import show_duels
from nn_from_scratch.parity.specs import LAYERS

Command = Callable[..., tuple[int, str, str]]


class Clock:
    """Goes on by what each side takes."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def side(self, seconds: float, value: float = 1.0) -> Callable[[], Sequence[Tensor]]:
        def run() -> Sequence[Tensor]:
            self.now += seconds
            return (torch.tensor(value),)

        return run


def simulated(value: float = 1.0) -> Duels:
    clock = Clock()
    return run_duels(
        "layers", "Simulated", [Duel("one", lambda: (clock.side(3.0, value), clock.side(2.0)))], clock=clock
    )


def test_a_ratio_is_of_ours_to_pytorch() -> None:
    (row,) = simulated().rows
    assert row.seconds == pytest.approx((3.0, 2.0))
    assert row.ratio is not None and row.ratio.ratio == pytest.approx(1.5)
    assert row.control is not None and row.control.ratio == pytest.approx(1.0)
    assert row.to_json()["ratio"] == pytest.approx([1.5, 1.5, 1.5])


def test_a_case_with_other_values_is_void() -> None:
    found = simulated(value=1.5)
    assert "other values than PyTorch" in found.rows[0].void
    assert found.rows[0].ratio is None
    assert "void: one: other values" in show_duels(found)


def test_every_layer_that_draws_nothing_is_measured() -> None:
    names = {duel.name.split(",")[0] for duel in layer_duels(quick=True)}
    assert names == {spec.name for spec in LAYERS if spec.reference is not None} - {"Dropout"}
    assert len(layer_duels()) > len(layer_duels(quick=True))


@pytest.mark.parametrize("duel", layer_duels(quick=True), ids=lambda duel: duel.name)
def test_both_sides_of_a_layer_compute_the_same(duel: Duel) -> None:
    ours, theirs = duel.make()
    for _ in range(2):
        compared = 0
        for mine, other in zip(ours(), theirs(), strict=True):
            if mine is not None and other is not None:
                torch.testing.assert_close(mine.detach(), other.detach(), rtol=1e-4, atol=1e-5)
                compared += 1
        assert compared >= 1  # the output, or at least one gradient


def test_forward_and_backward_are_timed_apart() -> None:
    spec = next(spec for spec in LAYERS if spec.name == "Linear")
    forward, backward = layer_duels(quick=True, specs=[spec])
    assert (forward.name, backward.name) == ("Linear, batch, forward", "Linear, batch, backward")
    assert [y is not None and tuple(y.shape) for y in forward.make()[0]()] == [(4, 5)]
    shapes = [gradient is not None and tuple(gradient.shape) for gradient in backward.make()[0]()]
    assert shapes == [(4, 3), (5, 3), (5,)]  # of input, weight and bias, and no output


def test_a_layer_that_computes_something_else_is_void() -> None:
    spec = next(spec for spec in LAYERS if spec.name == "ReLU")
    wrong = replace(spec, reference=lambda layer, parameters, x: 2 * x.relu())
    found = run_duels("layers", "Wrong", layer_duels(quick=True, specs=[wrong]))
    assert "other values" in found.rows[0].void


def test_a_point_of_scaling_is_of_the_same_step_on_both_sides() -> None:
    duels = scaling_duels()
    assert len(duels) == sum(map(len, POINTS.values()))
    assert len(scaling_duels(quick=True)) == 2 * len(POINTS)
    ours, theirs = next(duel for duel in duels if duel.name == "image 64").make()
    for _ in range(3):
        torch.testing.assert_close(ours()[0], theirs()[0], rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("what", ["layers", "scaling"])
def test_the_command_prints_and_stores_them(
    what: str, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = Clock()
    duel = Duel("one", lambda: (clock.side(1.0), clock.side(2.0)))
    name = {"layers": "layers.layer_duels", "scaling": "scaling.scaling_duels"}[what]
    monkeypatch.setattr(f"nn_from_scratch.bench.{name}", lambda *, quick, device: [duel] if quick else [])
    path = tmp_path / "found.json"
    status, out, _ = command("bench", "run", what, "--quick", "--json", str(path))
    assert status == 0
    assert "1 of 1: one" in out
    assert "QUICK" in out
    assert json.loads(path.read_text())["results"]["rows"][0]["name"] == "one"


def test_a_void_case_is_no_success(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    duel = Duel("one", lambda: (clock.side(1.0), clock.side(1.0, value=2.0)))
    monkeypatch.setattr("nn_from_scratch.bench.layers.layer_duels", lambda *, quick, device: [duel])
    assert command("bench", "run", "layers")[0] == 3
