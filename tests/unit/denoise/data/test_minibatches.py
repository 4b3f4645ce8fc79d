"""Mini-batches."""

from __future__ import annotations

import pytest
import torch

from nn_from_scratch.denoise.data import PairSet, batches
from nn_from_scratch.errors import ArgumentError, DtypeError


@pytest.fixture
def pairs() -> PairSet:
    """Ten pairs; each value of pair n is n in the one half and 100 + n in the other."""
    a = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 3, 4, 4)
    return PairSet(a, a + 100, a, a, source="a test", noise="none")


def order(pairs: PairSet, *, seed: int = 0, epoch: int = 0, batch_size: int = 3) -> list[int]:
    drawn = batches(pairs, batch_size=batch_size, seed=seed, epoch=epoch)
    return [round(value * 255) for x, _ in drawn for value in x[:, 0, 0, 0].tolist()]


def test_every_pair_comes_once_an_epoch(pairs: PairSet) -> None:
    assert sorted(order(pairs)) == list(range(10))


def test_the_last_batch_is_smaller(pairs: PairSet) -> None:
    assert [len(x) for x, _ in batches(pairs, batch_size=4, seed=0, epoch=0)] == [4, 4, 2]


def test_input_and_target_are_halves_of_one_pair_in_the_unit_interval(pairs: PairSet) -> None:
    for x, y in batches(pairs, batch_size=3, seed=0, epoch=0):
        assert x.dtype == y.dtype == torch.float32
        torch.testing.assert_close(y - x, torch.full_like(x, 100 / 255))


def test_seed_and_epoch_decide_the_order_and_nothing_else(pairs: PairSet) -> None:
    assert order(pairs, seed=1, epoch=2) == order(pairs, seed=1, epoch=2, batch_size=10)
    assert order(pairs, seed=1, epoch=2) != order(pairs, seed=1, epoch=3)
    assert order(pairs, seed=1, epoch=2) != order(pairs, seed=2, epoch=1)


def test_batches_come_in_the_dtype_and_on_the_device_asked_for(pairs: PairSet) -> None:
    x, y = next(iter(batches(pairs, batch_size=2, seed=0, epoch=0, device="meta", dtype=torch.float64)))
    assert x.dtype == y.dtype == torch.float64 and x.device.type == y.device.type == "meta"


def test_changing_a_batch_leaves_the_pairs_alone(pairs: PairSet) -> None:
    for x, _ in batches(pairs, batch_size=10, seed=0, epoch=0):
        x.zero_()
    assert sorted(order(pairs)) == list(range(10))


@pytest.mark.parametrize(("name", "value", "least"), [("batch_size", 0, 1), ("epoch", -1, 0), ("seed", -1, 0)])
def test_an_argument_that_makes_no_sense_is_refused_at_once(pairs: PairSet, name: str, value: int, least: int) -> None:
    arguments = {"batch_size": 1, "seed": 0, "epoch": 0, name: value}
    with pytest.raises(ArgumentError, match=f"{name} is {value}, but an integer of at least {least} is expected"):
        batches(pairs, **arguments)  # type: ignore[arg-type]


def test_a_dtype_that_is_not_floating_is_refused_at_once(pairs: PairSet) -> None:
    with pytest.raises(
        DtypeError, match=r"dtype is torch.int64, but a floating-point dtype is expected, for images in \[0, 1\]"
    ):
        batches(pairs, batch_size=1, seed=0, epoch=0, dtype=torch.int64)


@pytest.mark.parametrize(("parts", "sizes"), [(2, [[2, 2], [2, 2], [1, 1]]), (3, [[2, 1, 1], [2, 1, 1], [1, 1, 0]])])
def test_the_parts_of_a_batch_are_the_batch(pairs: PairSet, parts: int, sizes: list[list[int]]) -> None:
    whole = list(batches(pairs, batch_size=4, seed=1, epoch=1))
    cut = [list(batches(pairs, batch_size=4, seed=1, epoch=1, part=(part, parts))) for part in range(parts)]
    assert [[len(x) for x, _ in step] for step in zip(*cut, strict=True)] == sizes
    for (x, y), step in zip(whole, zip(*cut, strict=True), strict=True):
        assert torch.cat([a for a, _ in step]).equal(x) and torch.cat([b for _, b in step]).equal(y)


@pytest.mark.parametrize("part", [(2, 2), (-1, 2), (0, 0)])
def test_a_part_that_there_is_not_is_refused(pairs: PairSet, part: tuple[int, int]) -> None:
    with pytest.raises(ArgumentError, match=r"part is \(.*, but the number of a part, from 0, and the number of parts"):
        batches(pairs, batch_size=4, seed=0, epoch=0, part=part)
