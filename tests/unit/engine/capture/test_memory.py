from __future__ import annotations

import numpy as np
import pytest
import torch

from nn_from_scratch.engine.capture.memory import ALIGNMENT, Arena


def floats(count: int) -> torch.Tensor:
    return torch.empty(count)


def test_tensors_that_live_at_the_same_time_are_apart_and_others_share() -> None:
    arena = Arena({0: (floats(100), 0, 2), 1: (floats(100), 2, 4), 2: (floats(100), 3, 5), 3: (floats(10), 0, 5)})
    found = arena.place()
    spans = {key: (x.data_ptr(), x.data_ptr() + 4 * x.numel()) for key, x in found.items()}
    lives = {0: (0, 2), 1: (2, 4), 2: (3, 5), 3: (0, 5)}
    for one in spans:
        for other in spans:
            if one < other and lives[one][0] <= lives[other][1] and lives[other][0] <= lives[one][1]:
                assert spans[one][1] <= spans[other][0] or spans[other][1] <= spans[one][0]
    assert spans[2] == spans[0]
    assert arena.size == 2 * 448 + 64


@pytest.mark.parametrize(
    "requests",
    [
        [(48, 1, 2), (80, 3, 3), (64, 0, 1), (64, 3, 3), (80, 2, 3)],  # the largest first
        [(16, 1, 3), (32, 2, 2), (48, 0, 3), (48, 2, 2), (64, 3, 3)],  # as they are born
    ],
)
def test_the_order_that_needs_less_is_taken(requests: list[tuple[int, int, int]]) -> None:
    arena = Arena({key: (floats(count), first, last) for key, (count, first, last) in enumerate(requests)})
    assert arena.size == max(sum(4 * n for n, first, last in requests if first <= now <= last) for now in range(4))


def test_places_have_the_shape_strides_and_dtype_asked_for_and_are_aligned() -> None:
    asked = torch.empty(4, 3, 5, dtype=torch.bfloat16).contiguous().permute(0, 2, 1)
    (found,) = Arena({7: (asked, 0, 1)}).place().values()
    assert (found.shape, found.stride(), found.dtype) == (asked.shape, asked.stride(), asked.dtype)
    assert found.data_ptr() % ALIGNMENT == 0 and found.storage_offset() == 0


def test_a_tensor_without_entries_needs_no_place() -> None:
    (found,) = Arena({0: (torch.empty(0, 3), 0, 1)}).place().values()
    assert found.shape == (0, 3)


def test_memory_that_is_spare_is_used_if_it_is_large_enough() -> None:
    blocks = [np.empty(4 * 100 + ALIGNMENT - 1, dtype=np.uint8), np.empty(4 * 112 + ALIGNMENT, dtype=np.uint8)]
    arena = Arena({0: (floats(100), 0, 1)})
    (found,) = arena.place(blocks).values()
    start = blocks[1].ctypes.data
    assert start <= found.data_ptr() and found.data_ptr() + 400 <= start + len(blocks[1])
    assert arena.block is blocks[1] and arena.own_bytes == 0
    (found,) = arena.place(blocks[:1]).values()
    assert not any(arena.block is block for block in blocks) and arena.own_bytes == arena.size == 448


def test_what_comes_after_a_tensor_without_entries_has_a_place_too() -> None:
    found = Arena({0: (torch.empty(0, 3), 0, 1), 1: (floats(5), 0, 1)}).place()
    assert [x.numel() for x in found.values()] == [0, 5]


def test_without_requests_nothing_is_needed() -> None:
    assert Arena({}).size == 0


@pytest.mark.parametrize("shift", [0, 4, 16, 60])
def test_places_are_aligned_wherever_the_block_lies(shift: int) -> None:
    whole = np.empty(1024, dtype=np.uint8)
    start = -whole.ctypes.data % ALIGNMENT + shift
    block = whole[start : start + 4 * 100 + 2 * ALIGNMENT]
    (found,) = Arena({0: (floats(100), 0, 1)}).place([block]).values()
    assert found.data_ptr() % ALIGNMENT == 0
    assert block.ctypes.data <= found.data_ptr() <= block.ctypes.data + len(block) - 400
