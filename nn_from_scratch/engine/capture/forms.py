"""The forms of operators that write their result where they are told to."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from nn_from_scratch.engine.capture.recording import Call, Overload


class Form(NamedTuple):
    """How an operator writes where it is told to: to the argument `out`, or, without one, over its first argument."""

    function: Overload
    out: str = ""
    is_copy: bool = False  # takes where to write, and then what


@cache
def _forms(function: Overload, device: str) -> Form | None:
    """See `writing_form`."""
    if function is torch.ops.aten.clone.default:
        return Form(torch.ops.aten.copy_.default, is_copy=True)
    signature = [(a.name, str(a.type)) for a in function._schema.arguments]
    for name in function._overloadpacket.overloads():  # type: ignore[no-untyped-call]  # torch leaves it so
        form = getattr(function._overloadpacket, name)
        arguments = form._schema.arguments
        outs = [a for a in arguments if a.is_out]
        same = [(a.name, str(a.type)) for a in arguments if not a.is_out] == signature
        if len(outs) == 1 and same and torch._C._dispatch_has_kernel_for_dispatch_key(form.name(), device):
            return Form(form, out=str(outs[0].name))
    packet = getattr(torch.ops.aten, f"{function._overloadpacket.__name__}_", None)
    form = getattr(packet, function._overloadname, None)
    if form is not None and [(a.name, str(a.type)) for a in form._schema.arguments] == signature:
        return Form(form)
    return None


def writing_form(call: Call) -> Form | None:
    """The form of an operator that writes its result where it is told to, if it has one.

    Only where the device's own kernels have such a form: torch makes up the others, by a copy.
    """
    return _forms(call.function, call.result.device.type.upper()) if isinstance(call.result, Tensor) else None
