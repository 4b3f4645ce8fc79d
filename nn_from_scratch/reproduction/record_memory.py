"""Section II.D: what it costs that the graph is not consumed, in bytes of tensors that are kept alive."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.engine.losses import MSE
from nn_from_scratch.engine.module import backward
from nn_from_scratch.engine.optimizers import SGD
from nn_from_scratch.parity.exchange import to_torch
from nn_from_scratch.reproduction.parts import OURS, THEIRS, Plan


def memory(plan: Plan) -> dict[str, Any]:
    """Count what is kept for the backward pass at each point of a step, in bytes, gradients left out.

    Ours are the tensors that Python sees; torch's are those and the ones that its graph has saved. Weights, input and
    target are not counted.

    Returns:
        "batch", and for each side "forward" (after it), "backward" (after it), "two" (after two forward passes and the
        backward pass of one), "cleared" (after the gradients are cleared).
    """
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(plan.memory_batch, 3, 32, 32, generator=generator).to(plan.device) for _ in range(2))
    return {"batch": plan.memory_batch, OURS: _ours(plan, x, y), THEIRS: _torchs(plan, x, y)}


def _ours(plan: Plan, x: Tensor, y: Tensor) -> dict[str, int]:
    model = report_model(generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(plan.device)
    criterion, optimizer = MSE(), SGD(model, lr=0.5, momentum=0.9)
    # The first step makes what stays for good: gradients, momentum, work space.
    criterion(model(x), y)
    criterion.backward()
    optimizer.step()
    optimizer.zero_grad()
    parameters = list(model.parameters().values())
    before = _storages()
    criterion(model(x), y)
    found = {"forward": _kept(before, parameters)}
    criterion.backward()
    found["backward"] = _kept(before, parameters)
    optimizer.zero_grad()
    first = criterion(model(x), y)
    criterion(model(x), y)
    backward(first)
    del first
    found["two"] = _kept(before, parameters)
    optimizer.zero_grad()
    found["cleared"] = _kept(before, parameters)
    return found


def _torchs(plan: Plan, x: Tensor, y: Tensor) -> dict[str, int]:
    model = to_torch(report_model(generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(plan.device))
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.5, momentum=0.9)

    def loss_of() -> Tensor:
        # What the graph saves becomes a tensor that Python sees, on the same memory.
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.detach(), lambda tensor: tensor):
            return torch.nn.functional.mse_loss(model(x), y)

    torch.autograd.backward(loss_of())
    optimizer.step()
    optimizer.zero_grad()
    known = [tensor.detach() for tensor in parameters]
    before = _storages()
    loss = loss_of()
    found = {"forward": _kept(before, parameters)}
    torch.autograd.backward(loss)
    del loss
    found["backward"] = _kept(before, parameters)
    optimizer.zero_grad()
    first, second = loss_of(), loss_of()
    torch.autograd.backward(first)
    del first
    found["two"] = _kept(before, parameters)
    del second, known
    optimizer.zero_grad()
    found["cleared"] = _kept(before, parameters)
    return found


def _kept(before: dict[int, int], parameters: Sequence[Tensor]) -> int:
    """Bytes that tensors hold now and did not before, the gradients of the parameters left out."""
    gradients = {_address(parameter.grad) for parameter in parameters if parameter.grad is not None}
    return sum(size for place, size in _storages().items() if place not in before and place not in gradients)


def _storages() -> dict[int, int]:
    """The memory of all tensors that Python sees, address to bytes: each piece once, however many tensors share it."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
    return {_address(tensor): tensor.untyped_storage().nbytes() for tensor in tensors if tensor.layout == torch.strided}


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
