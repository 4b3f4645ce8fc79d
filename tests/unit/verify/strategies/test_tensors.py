"""The strategy for tensors: layouts, special values, shrinking, code that builds the same tensor, misuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st
from torch import Tensor

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify.strategies import LAYOUTS, SPECIAL_VALUES, shapes, tensor_snippet, tensors
from tests.functions import draw

MANY = settings(max_examples=100, deadline=None, derandomize=True, database=None)
IMAGE = (2, 3, 4, 5)


def drawn(strategy: st.SearchStrategy[Tensor]) -> list[Tensor]:
    found: list[Tensor] = []

    @MANY
    @given(strategy)
    def collect(x: Tensor) -> None:
        found.append(x)

    collect()
    return found


def same(one: Tensor, other: Tensor) -> bool:
    """Equal entries, signs of zero and NaN included, in equal memory."""
    equal = torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(0.0), other.nan_to_num(0.0))
    if not one.is_complex():
        equal = equal and torch.equal(one.signbit() & ~one.isnan(), other.signbit() & ~other.isnan())
    form = (one.dtype, one.shape, one.stride(), one.storage_offset())
    return equal and form == (other.dtype, other.shape, other.stride(), other.storage_offset())


@pytest.mark.parametrize(
    ("layout", "holds"),
    [
        ("contiguous", lambda x: x.is_contiguous() and not x.storage_offset()),
        ("offset", lambda x: x.is_contiguous() and x.storage_offset() > 0),
        ("strided", lambda x: x.stride(-1) == 2),
        ("sliced", lambda x: x.stride(-1) == 1 and x.stride(-2) == x.shape[-1] + 2 and x.storage_offset() > 0),
        ("transposed", lambda x: x.stride(0) == 1 and not x.is_contiguous()),
        ("channels_last", lambda x: x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()),
        ("expanded", lambda x: 0 in x.stride()),
    ],
)
def test_each_layout_is_what_its_name_says(layout: str, holds: Callable[[Tensor], bool]) -> None:
    for x in drawn(tensors(IMAGE, layouts=[layout]))[:20]:
        assert x.shape == IMAGE and holds(x)


def test_the_layout_leaves_the_entries_as_they_are() -> None:
    for layout in set(LAYOUTS) - {"expanded"}:
        x = find(tensors(IMAGE, layouts=[layout]), lambda x: True, settings=settings(MANY, max_examples=5))
        assert torch.equal(x, draw(*IMAGE))


def test_all_layouts_are_drawn_where_the_shape_allows_them() -> None:
    strides = {(x.stride(), x.storage_offset()) for x in drawn(tensors(IMAGE))}
    assert len(strides) == len(LAYOUTS)
    assert all(x.is_contiguous() for x in drawn(tensors(())))


def test_gaps_hold_what_nobody_may_read() -> None:
    x = find(tensors((2, 3), layouts=["sliced"]), lambda x: True, settings=MANY)
    around = x.as_strided((4, 5), (5, 1), 0)
    assert x.isfinite().all() and int(around.isnan().sum()) == 20 - 6


@pytest.mark.parametrize(
    ("special", "holds"),
    [
        ("zero", lambda x: (x == 0) & ~x.signbit()),
        ("negative_zero", lambda x: (x == 0) & x.signbit()),
        ("infinity", torch.isinf),
        ("nan", torch.isnan),
        ("huge", lambda x: x.abs() == torch.finfo(x.dtype).max),
        ("tiny", lambda x: x.abs() == torch.finfo(x.dtype).tiny),
        ("subnormal", lambda x: (x != 0) & (x.abs() < torch.finfo(x.dtype).tiny)),
        ("tie", lambda x: (x[:, None] == x).sum(dim=1) > 1),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_each_special_value_is_drawn_and_only_some(
    special: str, holds: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    # An expanded tensor would repeat what it holds.
    found = drawn(tensors((6,), dtype=dtype, layouts=("contiguous",), special=[special]))
    counts = [int(holds(x).sum()) for x in found]
    assert sum(count > 0 for count in counts) > 25
    assert any(count == 0 for count in counts) and max(counts) <= (6 if special == "tie" else 4)


def test_without_special_values_there_are_none() -> None:
    x = torch.cat(drawn(tensors((40,), layouts=("contiguous",)))).unique()
    assert x.isfinite().all() and x.abs().min() > 1e-8 and x.abs().max() < 10


def test_a_failure_shrinks_to_the_smallest_plain_tensor() -> None:
    dtypes = [torch.float64, torch.float32]
    strategy = tensors(shapes(axes=(0, 4), sides=(0, 5)), dtype=dtypes, special=SPECIAL_VALUES)
    assert same(find(strategy, lambda x: True, settings=MANY), draw())
    assert same(find(strategy, lambda x: x.numel() >= 3, settings=MANY), draw(3))
    x = find(strategy, lambda x: x.dim() > 1 and bool(x.isinf().any()), settings=settings(MANY, max_examples=2000))
    assert x.shape == (1, 1) and x.item() == torch.inf and x.dtype == torch.float64 and x.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.complex64], ids=str)
def test_the_snippet_builds_the_same_tensor(dtype: torch.dtype) -> None:
    for x in drawn(tensors(shapes(sides=(0, 3)), dtype=dtype, special=SPECIAL_VALUES, name="given")):
        namespace: dict[str, Any] = {"torch": torch}
        exec(tensor_snippet(x, name="built"), namespace)
        assert same(namespace["built"], x)


def test_the_snippet_of_a_large_tensor_is_a_comment() -> None:
    text = tensor_snippet(torch.zeros(40, 26, dtype=torch.float32).T)
    assert text == "# x has shape (26, 40), strides (1, 26) and dtype torch.float32: too many entries to print"


def test_a_failing_test_prints_the_tensor() -> None:
    @MANY
    @given(x=tensors((2,), special=["nan"], name="weight"))
    def finite(x: Tensor) -> None:
        assert x.isfinite().all()

    with pytest.raises(AssertionError) as caught:
        finite()
    (line,) = [note for note in getattr(caught.value, "__notes__", []) if note.startswith("weight = ")]
    namespace: dict[str, Any] = {"torch": torch}
    exec(line, namespace)
    assert int(namespace["weight"].isnan().sum()) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tensors(dtype=torch.int64), "dtype is torch.int64, but floating-point or complex ones are expected"),
        (lambda: tensors(dtype="float"), "dtype is 'f', but floating-point or complex ones are expected"),  # type: ignore[arg-type]  # on purpose
        (lambda: tensors(dtype=[]), r"dtype is \[\] and layouts is .*, but at least one of each is expected"),
        (lambda: tensors(layouts=["blocked"]), "layouts has 'blocked', but the known ones are contiguous, offset, "),
        (lambda: tensors(special="inf"), "special has 'inf', but the known ones are zero, negative_zero, tie, "),
        (lambda: shapes(axes=(2, 1)), r"axes is \(2, 1\), but an integer of at least 0"),
        (
            lambda: find(tensors((3,), layouts=["channels_last"]), lambda x: True),
            r"layouts is \['channels_last'\], but a tensor of shape \(3,\) can have none of them",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()
