"""Units in the last place, and the table of errors from layer to layer."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import nn_from_scratch as nn
from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.parity.follow import follow, spacing, table, ulps


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_unit_in_the_last_place_is_the_distance_to_the_next_number(dtype: torch.dtype) -> None:
    eps, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).tiny
    x = torch.tensor([1.0, -1.0, 2.0, 3.0, 0.75, 0.0, tiny], dtype=dtype)
    expected = torch.tensor([eps, eps, 2 * eps, 2 * eps, eps / 2, tiny * eps, tiny * eps], dtype=dtype)
    assert torch.equal(spacing(x), expected)
    assert ulps(x + 3 * spacing(x), x).tolist() == [3.0] * 7


def model() -> nn.Sequential:
    shared = nn.Linear(3, 3)
    return nn.Sequential(nn.Sequential(nn.Linear(4, 3), nn.Tanh()), shared, nn.ReLU(), shared).to(dtype=torch.float64)


def test_the_followed_gradients_are_those_of_one_backward_pass_through_the_whole() -> None:
    ours = model()
    x, target = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    rows = {(row.layer, row.quantity): row for row in follow(ours, x, target)}
    assert [row for row in rows.values() if row.error > row.allowed] == []
    # Nested ones are laid flat, and parameters in two places stand at the first.
    assert [quantity for layer, quantity in rows if layer == "2 Linear"] == ["value", "weight", "bias", "propagated"]
    assert [quantity for layer, quantity in rows if layer == "4 Linear"] == ["value", "propagated"]
    loss = nn.MSE()
    loss(ours(x), target)
    loss.backward()
    for layer, name in (("0 Linear", "0.0"), ("2 Linear", "1")):
        for quantity in ("weight", "bias"):
            gradient = ours.parameters()[f"{name}.{quantity}"].grad
            assert gradient is not None
            assert rows[layer, quantity].largest == pytest.approx(float(gradient.abs().max()), rel=1e-12)


def test_the_model_stays_as_it_is_and_the_gradients_that_it_has_do_not_count() -> None:
    ours = model()
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    for parameter in ours.parameters().values():
        parameter.grad = torch.ones_like(parameter)
    rows = follow(ours, torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64))
    assert [row for row in rows if row.error > row.allowed] == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())
    for parameter in ours.parameters().values():
        assert parameter.grad is not None and bool((parameter.grad == 1).all())
    assert all(not module.xs for module in ours.all_modules() if isinstance(module, nn.Module))


def test_a_model_that_is_no_sequential_is_refused() -> None:
    x = torch.randn(2, 4)
    with pytest.raises(ArgumentError, match="model is a Linear, but a Sequential is expected"):
        follow(nn.Linear(4, 4), x, x)  # type: ignore[arg-type]


def test_the_columns_of_the_table_are_aligned() -> None:
    x = torch.randn(5, 4, dtype=torch.float64)
    text = table(follow(model(), x, torch.randn(5, 3, dtype=torch.float64)), "a title")
    title, blank, head, *lines = text.rstrip("\n").split("\n")
    assert (title, blank) == ("a title", "")
    assert head.split("  ")[0] == "layer" and head.endswith("allowed")
    assert {len(line) for line in lines} == {len(head)}
    assert lines[0].startswith("0 Linear  value ") and lines[-1].startswith("5 MSE     propagated ")


def test_the_command_prints_both_tables_of_the_reports_model() -> None:
    command = [sys.executable, "-m", "nn_from_scratch.parity", "--batch", "1"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert text.count("8 MSE") == 4
    assert "the report's model beside torch's, float64" in text and "the report's model beside torch's, float32" in text
