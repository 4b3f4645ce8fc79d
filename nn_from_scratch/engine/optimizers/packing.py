"""Many small parameters as one long one: an optimizer's arithmetic takes a call for each, and hardly any time in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

#: Entries of a parameter up to which a call costs more than what it does.
SMALL = 1 << 14

#: By parameter, its tensors by kind.
State = Mapping[str, Mapping[str, Tensor]]


def packable(named: Mapping[str, Tensor], state: State) -> dict[str, Tensor]:
    """The small parameters that can be one tensor: on a CPU, of one dtype, with the same kinds of state.

    Elsewhere a list costs one call anyway. None, where there are not several.
    """
    found: dict[str, Tensor] = {}
    for name, parameter in named.items():
        if parameter.device.type != "cpu" or parameter.numel() > SMALL:
            continue
        first = next(iter(found), name)
        if parameter.dtype == named[first].dtype and state.get(name, {}).keys() == state.get(first, {}).keys():
            found[name] = parameter
    return found if len(found) > 1 else {}


def adjacent(tensors: Sequence[Tensor]) -> Tensor | None:
    """A view of all of them as one, with one axis, if they lie in memory one after the other."""
    first, place = tensors[0], tensors[0].storage_offset()
    for x in tensors:
        if (
            not x.is_contiguous()
            or x.storage_offset() != place
            or x.untyped_storage().data_ptr() != first.untyped_storage().data_ptr()
        ):
            return None
        place += x.numel()
    return first.as_strided((place - first.storage_offset(),), (1,))


def joined(tensors: Iterable[Tensor]) -> Tensor:
    """The entries of all of them, one tensor after another: new, with one axis."""
    return torch.cat([x.reshape(-1) for x in tensors])


def parted(flat: Tensor, like: Iterable[Tensor]) -> list[Tensor]:
    """What was joined, as views of the shapes of these."""
    like = list(like)
    parts = torch.split(flat, [x.numel() for x in like])
    return [part.view(x.shape) for part, x in zip(parts, like, strict=True)]


class Pack:
    """The state of several parameters in one tensor of each kind, of which the parameters' own are views.

    Args:
        parameters: by name.
        state: of the optimizer, with the same kinds for each of them; it is copied.

    Attributes:
        name: that no parameter has.
        state: by kind, of all parameters together; empty before the first step.
    """

    def __init__(self, parameters: Mapping[str, Tensor], state: State) -> None:
        held = [state.get(name, {}) for name in parameters]
        self.name = "\n".join(parameters)
        self.state = {kind: joined(kept[kind] for kept in held) for kind in held[0]}
        self._shared: dict[str, Tensor] = {}
        self._views: dict[str, dict[str, Tensor]] = {}

    def is_shared(self, state: State) -> bool:
        """Whether the optimizer still holds the views that it was given."""
        return all(state.get(name) is views for name, views in self._views.items())

    def share(self, parameters: Mapping[str, Tensor], state: dict[str, dict[str, Tensor]]) -> None:
        """Let the optimizer's state of the parameters be views of this one, if they are not already."""
        if self._shared.keys() == self.state.keys() and all(x is self._shared[k] for k, x in self.state.items()):
            return
        self._shared = dict(self.state)
        parts = {kind: parted(flat, parameters.values()) for kind, flat in self.state.items()}
        self._views = {name: {kind: views[i] for kind, views in parts.items()} for i, name in enumerate(parameters)}
        state.update(self._views)
