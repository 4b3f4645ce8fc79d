"""Values on their way into and out of NumPy code."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.subjects.structure import describe, leaves, tensor_in, with_leaves, wrap_errors


@contextmanager
def numpy_call(name: str, stage: str) -> Iterator[None]:
    """Context manager as `wrap_errors`, without gradient recording and without NumPy's warnings."""
    with torch.no_grad(), np.errstate(all="ignore"), wrap_errors(name, stage):
        yield


def as_array(tensor: Tensor, name: str) -> np.ndarray:
    """An array on the tensor's own memory.

    Raises:
        SubjectError: NumPy has no such dtype (bfloat16), or the tensor is not on the CPU.
    """
    try:
        return tensor.detach().numpy()
    except TypeError as error:
        raise SubjectError(f"{name} cannot be handed over as a NumPy array: {error}") from error


def arrays_for(values: Mapping[str, Tensor], arrays: Collection[str]) -> dict[str, object]:
    """The values that a subject is called with: arrays for the names in `arrays`, tensors for the rest."""
    return {name: as_array(value, name) if name in arrays else value for name, value in values.items()}


def as_gradient(value: object, name: str, subject: str) -> Tensor | None:
    """A gradient that a subject returned, as a tensor on the same memory; None stays None.

    Raises:
        SubjectError: it is neither None, a tensor, an array, nor a number.
    """
    if value is None or isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        if any(stride < 0 for stride in value.strides):
            value = value.copy()  # torch has no negative strides
        try:
            return torch.from_numpy(value)
        except TypeError as error:
            raise SubjectError(f"the gradient of {name} that {subject} returned is unusable: {error}") from error
    if isinstance(value, np.generic | float | int) and not isinstance(value, np.str_ | np.bytes_ | bool):
        return torch.as_tensor(value)
    raise SubjectError(
        f"backward of {subject} returned {describe(value)} as the gradient of {name}; a tensor, an array or None is "
        "expected"
    )


def cotangent_tree(raw: object, named: Mapping[str, Tensor], cotangents: Mapping[str, Tensor]) -> object:
    """The cotangents in the structure and the type of what the forward returned (`raw`, its tensors `named`).

    Zeros where one is left out.
    """
    waiting = iter(named)

    def replace(_: str, leaf: object) -> object:
        if tensor_in(leaf) is None:
            return leaf
        name = next(waiting)
        cotangent = cotangents[name] if name in cotangents else torch.zeros_like(named[name])
        return cotangent if isinstance(leaf, Tensor) else as_array(cotangent, f"the cotangent of {name}")

    return with_leaves(raw, "y", replace)


def match_gradients(
    returned: object, inputs: Collection[str], differentiable: Collection[str], subject: str
) -> dict[str, Tensor | None]:
    """Which gradient belongs to which input.

    One gradient for each input, or one for each differentiable input, in their order; or a dictionary by
    name, in which `"dx"` and `"x"` both mean `x`.

    Raises:
        SubjectError: the count fits neither, or a name is unknown.
    """
    result: dict[str, Tensor | None] = dict.fromkeys(differentiable)
    if isinstance(returned, Mapping):
        known = set(inputs)
        for key, value in returned.items():
            label = str(key)
            label = label if label in known else label.removeprefix("d").removeprefix("_")
            if label not in known:
                raise SubjectError(
                    f"backward of {subject} returned a gradient called {key!r}; the inputs are {', '.join(inputs)}"
                )
            if label in result:
                result[label] = as_gradient(value, label, subject)
        return result
    parts = [part for _, part in leaves(returned, "")] if isinstance(returned, tuple | list) else [returned]
    for names in (inputs, differentiable):
        if len(parts) == len(names):
            for name, part in zip(names, parts, strict=True):
                if name in result:
                    result[name] = as_gradient(part, name, subject)
            return result
    fewer = f"; differentiable={[*differentiable][: len(parts)]} looks at those alone"
    more = "; hand over what the others belong to as an input"
    raise SubjectError(
        f"backward of {subject} returned {len(parts)} gradients ({describe(returned)}) for {len(inputs)} inputs "
        f"({', '.join(inputs)}), of which {len(differentiable)} are to be differentiated; one for each is expected "
        f"(None where there is none){fewer if len(parts) < len(differentiable) else more}"
    )
