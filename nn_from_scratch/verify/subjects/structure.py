"""Tensors in nested tuples, lists and dictionaries, and what all forms do with them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.context import TimeLimitReached
from nn_from_scratch.verify.subjects import constants

#: The dtypes that can be calculated with; those of eight bits and the large unsigned ones
#: are little more than formats to store numbers in.
CALCULATED = frozenset(
    {
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.complex128, torch.complex64, torch.complex32),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    }
)


def leaves(tree: object, name: str) -> Iterator[tuple[str, object]]:
    """Everything in a tree but its tuples, lists and dictionaries, with dotted names that begin with `name`."""
    if isinstance(tree, Tensor):  # the commonest, and `Mapping` is slow to tell
        yield name, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, f"{name}.{key}")
    elif isinstance(tree, tuple | list):
        for place, value in enumerate(tree):
            yield from leaves(value, f"{name}.{place}")
    else:
        yield name, tree


def with_leaves(tree: object, name: str, replace: Callable[[str, object], object]) -> object:
    """The same tree with `replace(name, leaf)` in the place of each leaf; named tuples keep their type."""
    if isinstance(tree, Tensor):
        return replace(name, tree)
    if isinstance(tree, Mapping):
        return {key: with_leaves(value, f"{name}.{key}", replace) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        items = [with_leaves(value, f"{name}.{place}", replace) for place, value in enumerate(tree)]
        if isinstance(tree, list):
            return items
        maker: Any = type(tree)
        rebuilt: object = maker(*items) if hasattr(tree, "_fields") else tuple(items)
        return rebuilt
    return replace(name, tree)


def tensor_in(value: object) -> Tensor | None:
    """An output as a tensor on its own memory; None for what has no derivative (an int, a string)."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value) if value.dtype.kind in "fciub" else None
    if isinstance(value, np.generic | float) and not isinstance(value, np.str_ | np.bytes_):
        return torch.as_tensor(value)
    return None


def name_outputs(raw: object, subject: str) -> dict[str, Tensor]:
    """The tensors in what a forward returned, by name.

    `"y"` for a single one, `"y0"`, `"y1"`, ... for a tuple or list, the keys for a dictionary, with a dot
    before each further level. NumPy arrays become tensors that share their memory; floats become tensors;
    what is neither (None, an integer, a string) has no derivative and is left out.

    Raises:
        SubjectError: there is no tensor in it.
    """
    if isinstance(raw, Tensor):
        return {"y": dense(raw, "the output y", subject)}
    if isinstance(raw, Mapping):
        parts: Mapping[str, object] = {str(key): value for key, value in raw.items()}
    elif isinstance(raw, tuple | list):
        parts = {f"y{place}": value for place, value in enumerate(raw)}
    else:
        parts = {"y": raw}
    named: dict[str, Tensor] = {}
    for prefix, part in parts.items():
        for name, leaf in leaves(part, prefix):
            try:
                tensor = tensor_in(leaf)
            except (TypeError, ValueError) as error:  # negative strides, a byte order that torch does not have
                raise SubjectError(f"forward of {subject} returned an array that torch cannot view: {error}") from error
            if tensor is not None and not _only_stored(tensor):
                named[name] = dense(tensor, f"the output {name}", subject)
    if not named:
        raise SubjectError(
            f"forward of {subject} returned {describe(raw)}; a tensor, an array, or a tuple, list or dictionary of "
            "them is expected"
        )
    return named


def _only_stored(tensor: Tensor) -> bool:
    """Whether an output has no derivative, and a dtype in which it cannot even be compared (large unsigned numbers)."""
    return tensor.dtype not in CALCULATED and not tensor.dtype.is_floating_point and not tensor.dtype.is_complex


def add_gradients(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The sum of two gradients; None counts as zero."""
    return b if a is None else a if b is None else a + b


def describe(value: object) -> str:
    """A few words for messages: the type of a value, and its shape or length."""
    if isinstance(value, Tensor) and value.is_nested:
        return f"a nested {type(value).__name__}"
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list | Mapping):
        return f"a {type(value).__name__} of length {len(value)}"
    return f"a {type(value).__name__}" if value is not None else "None"


class wrap_errors:  # noqa: N801  (a context manager, used as a function)
    """Context manager that turns whatever a subject raises into a `SubjectError` that names it.

    Raises:
        SubjectError: the body raised whatever it may be, `SystemExit` included; what it raised becomes the cause.
    """

    __slots__ = ("_name", "_stage")

    def __init__(self, name: str, stage: str) -> None:
        self._name, self._stage = name, stage

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        # A subject may raise anything; sys.exit(0) must not end as a success.
        if error is None or isinstance(error, SubjectError | TimeLimitReached):
            return False
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            return False  # Ctrl-C, which never arrives in the other thread that a check with a time limit has
        text = " ".join(str(error).split())
        if len(text) > constants.QUOTED_CHARACTERS:  # torch lists all of its backends where one of them is missing
            text = f"{text[: constants.QUOTED_CHARACTERS].rstrip()} ..."
        said = f": {text}" if text else ""
        raise SubjectError(f"{self._stage} of {self._name} raised {type(error).__name__}{said}") from error


def memory_extent(tensor: Tensor) -> int:
    """How many entries of memory lie between a tensor's first and last one, both included."""
    if tensor.numel() == 0:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def snapshot(tensor: Tensor, *, offset: bool = True) -> Tensor:
    """A detached copy with the same shape, dtype, device and strides, in new memory.

    An expanded tensor stays expanded. With `offset` the copy begins as far into its memory as the original
    does, so that code which forgets the storage offset is still wrong on it.
    """
    tensor = tensor.detach()
    if tensor.is_conj() or tensor.is_neg():
        return tensor.resolve_conj().resolve_neg().clone()
    if tensor.is_contiguous() and (not tensor.storage_offset() or not tensor.numel()):
        return tensor.clone()  # the usual case, at a sixth of the price; without entries there is no memory to lie in
    start = tensor.storage_offset() if offset else 0
    lead = tensor.storage_offset() - start
    flat = tensor.as_strided((start + memory_extent(tensor),), (1,), lead).clone()
    return flat.as_strided(tensor.shape, tensor.stride(), start)


def unusual(tensor: Tensor) -> str | None:
    """What makes a tensor other than an ordinary dense one with numbers to calculate with; None for an ordinary one."""
    if tensor.is_nested:
        return "is nested"
    if tensor.layout != torch.strided:
        return f"has layout {tensor.layout}"
    if tensor.is_quantized:
        return "is quantized"
    if tensor.is_meta:
        return "is on the meta device, where no values are"
    if tensor.dtype not in CALCULATED:
        return f"has dtype {tensor.dtype}, in which nothing can be added"
    return None


def is_freed(tensor: Tensor) -> bool:
    """Whether the memory behind an ordinary tensor was given back, so that whoever reads it ends the process."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided and not tensor.is_meta
    return plain and tensor.numel() > 0 and tensor.untyped_storage().nbytes() == 0


def dense(tensor: Tensor, name: str, subject: str) -> Tensor:
    """The tensor itself, if it is an ordinary one.

    Raises:
        SubjectError: it is sparse, quantized, nested, without values, or of eight bits.
    """
    what = unusual(tensor)
    if what is not None:
        raise SubjectError(f"{name} of {subject} {what}; only dense strided tensors can be verified")
    return tensor
