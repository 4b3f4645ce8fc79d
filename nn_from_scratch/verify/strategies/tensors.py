"""Tensors of every shape, dtype and memory layout, with special values where they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify.strategies import constants
from nn_from_scratch.verify.strategies.axes import Bounds, bounds, note_code


def _offset(x: Tensor) -> Tensor:
    return torch.cat([x.new_full((constants.OFFSET,), torch.nan), x.flatten()])[constants.OFFSET :].view(x.shape)


def _strided(x: Tensor) -> Tensor:
    larger = x.new_full((*x.shape[:-1], 2 * x.shape[-1] + 1), torch.nan)
    larger[..., 1::2] = x
    return larger[..., 1::2]


def _sliced(x: Tensor) -> Tensor:
    larger = x.new_full([n + 2 for n in x.shape], torch.nan)
    inner = larger[tuple(slice(1, n + 1) for n in x.shape)]
    return inner.copy_(x)


def _transposed(x: Tensor) -> Tensor:
    backwards = tuple(reversed(range(x.dim())))
    return x.permute(backwards).contiguous().permute(backwards)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)


def _expanded(x: Tensor) -> Tensor:
    axis = max(range(x.dim()), key=x.shape.__getitem__)
    return x.narrow(axis, 0, 1).clone().expand(x.shape)


# By name: how to make it, and the least and the most axes that it takes. Gaps hold NaN, which shows where one is read.
_LAYOUTS: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    "contiguous": (Tensor.contiguous, 0, torch.inf),
    "offset": (_offset, 0, torch.inf),
    "strided": (_strided, 1, torch.inf),
    "sliced": (_sliced, 1, torch.inf),
    "transposed": (_transposed, 2, torch.inf),
    "channels_last": (_channels_last, 4, 5),
    "expanded": (_expanded, 1, torch.inf),
}
# By name, from the numbers that the dtype has.
_SPECIAL: dict[str, Callable[[torch.finfo], tuple[float, ...]]] = {
    "zero": lambda numbers: (0.0,),
    "negative_zero": lambda numbers: (-0.0,),
    "tie": lambda numbers: (),
    "infinity": lambda numbers: (torch.inf, -torch.inf),
    "nan": lambda numbers: (torch.nan,),
    "huge": lambda numbers: (numbers.max, numbers.min),
    "tiny": lambda numbers: (numbers.tiny, -numbers.tiny),
    "subnormal": lambda numbers: (numbers.tiny * numbers.eps, -numbers.tiny * numbers.eps),
}

#: The names of the layouts and of the special values.
LAYOUTS = tuple(_LAYOUTS)
SPECIAL_VALUES = tuple(_SPECIAL)


def shapes(*, axes: Bounds = constants.AXES, sides: Bounds = constants.SIDES) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes, which shrink to the fewest axes and the shortest sides.

    Args:
        axes: How many axes: a number, or (least, most).
        sides: How long each is, likewise; with 0, empty tensors too.

    Raises:
        ArgumentError: One of them makes no sense.
    """
    count, lengths = bounds(axes, name="axes", least=0), bounds(sides, name="sides", least=0)
    side = st.integers(lengths[0], lengths[-1])
    return st.lists(side, min_size=count[0], max_size=count[-1]).map(tuple)


def tensors(
    shape: Sequence[int] | st.SearchStrategy[tuple[int, ...]] | None = None,
    *,
    dtype: torch.dtype | Sequence[torch.dtype] = torch.float64,
    layouts: Collection[str] = LAYOUTS,
    special: Collection[str] = (),
    name: str = "x",
    show: bool = True,
) -> st.SearchStrategy[Tensor]:
    """Tensors of normally distributed entries, some of them special, in some memory layout.

    The entries come from one seed, and a few special ones are put into drawn places, so that even large tensors
    shrink fast: to the smallest shape, the first dtype, the first layout, the seed 0 and no special entry. In an
    expanded tensor the entries along the longest axis are one and the same. Gaps in memory hold NaN. An empty tensor
    is always contiguous.

    Args:
        shape: A shape, or a strategy of shapes; `shapes()` by default.
        dtype: A floating-point or complex dtype, or several to choose from.
        layouts: Names out of `LAYOUTS`; those that the shape allows are drawn. `("contiguous",)` for that alone.
        special: Names out of `SPECIAL_VALUES`, at most four entries of them; a tie is the value of another entry.
        name: What the printed code calls the tensor.
        show: Whether a failing example prints `tensor_snippet`.

    Raises:
        ArgumentError: An argument makes no sense; when drawn, the shape allows none of the layouts.
    """
    dtypes = [dtype] if isinstance(dtype, torch.dtype) else list(dtype)
    for each in dtypes:
        if not isinstance(each, torch.dtype) or not (each.is_floating_point or each.is_complex):
            raise ArgumentError(f"dtype is {each!r}, but floating-point or complex ones are expected")
    for argument, names, known in (("layouts", layouts, LAYOUTS), ("special", special, SPECIAL_VALUES)):
        for each_name in [names] if isinstance(names, str) else names:
            if each_name not in known:
                raise ArgumentError(f"{argument} has {each_name!r}, but the known ones are {', '.join(known)}")
    if not dtypes or not layouts:
        raise ArgumentError(f"dtype is {dtype!r} and layouts is {layouts!r}, but at least one of each is expected")
    if shape is None:
        shape = shapes()
    elif not isinstance(shape, st.SearchStrategy):
        shape = st.just(tuple(shape))
    return _tensors(shape, dtypes, _in_order(layouts, LAYOUTS), _in_order(special, SPECIAL_VALUES), name, show)


def _in_order(names: Collection[str], known: Sequence[str]) -> list[str]:
    chosen = [names] if isinstance(names, str) else names
    return [name for name in known if name in chosen]


@st.composite
def _tensors(
    draw: st.DrawFn,
    shapes: st.SearchStrategy[tuple[int, ...]],
    dtypes: list[torch.dtype],
    layouts: list[str],
    special: list[str],
    name: str,
    show: bool,
) -> Tensor:
    shape = draw(shapes)
    dtype = draw(st.sampled_from(dtypes))
    possible = [layout for layout in layouts if _LAYOUTS[layout][1] <= len(shape) <= _LAYOUTS[layout][2]]
    if not possible:
        raise ArgumentError(f"layouts is {layouts}, but a tensor of shape {shape} can have none of them")
    layout = draw(st.sampled_from(possible))
    generator = torch.Generator().manual_seed(draw(st.integers(0, constants.SEEDS - 1)))
    drawn = torch.complex128 if dtype.is_complex else torch.float64
    x = torch.randn(shape, generator=generator, dtype=drawn).to(dtype)
    if x.numel():
        if special:
            _place_special(draw, x, special)
        x = _LAYOUTS[layout][0](x)
    note_code(lambda: tensor_snippet(x, name=name), show=show)
    return x


def _place_special(draw: st.DrawFn, x: Tensor, special: list[str]) -> None:
    place = st.integers(0, x.numel() - 1)
    entries = x.view(-1)
    for index, kind in draw(st.lists(st.tuples(place, st.sampled_from(special)), max_size=constants.MOST_SPECIAL)):
        numbers = _SPECIAL[kind](torch.finfo(x.dtype))
        entries[index] = draw(st.sampled_from(numbers)) if numbers else entries[draw(place)]


def tensor_snippet(x: Tensor, *, name: str = "x") -> str:
    """Python that builds a tensor of the same entries, dtype, strides and storage offset (but an empty one plainly).

    Args:
        x: A dense tensor on any device; the code builds it on the CPU.
        name: What it is called there.

    Returns:
        One line that needs nothing but `import torch`; a comment alone for a tensor of more than 1000 entries.
    """
    lead, shape, strides = x.storage_offset(), tuple(x.shape), x.stride()
    if not x.numel():
        return f"{name} = torch.empty({shape}, dtype={x.dtype})"
    span = 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if lead + span > constants.MOST_PRINTED:
        return f"# {name} has shape {shape}, strides {strides} and dtype {x.dtype}: too many entries to print"
    stored = x.detach().as_strided((lead + span,), (1,), 0).tolist()
    made = f"torch.tensor([{', '.join(map(_number, stored))}], dtype={x.dtype})"
    plain = x.is_contiguous() and not lead
    if plain and x.dim() == 1:
        return f"{name} = {made}"
    return f"{name} = {made}.{f'view({shape})' if plain else f'as_strided({shape}, {strides}, {lead})'}"


def _number(value: object) -> str:
    if isinstance(value, complex):
        return f"complex({_number(value.real)}, {_number(value.imag)})"
    text = repr(value)
    return f'float("{text}")' if text.lstrip("-") in ("inf", "nan") else text
