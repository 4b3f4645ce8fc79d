"""A training step: forward, loss, backward, update, as it is or from a graph of its operators.

A step whose Python code decides nothing by the values of tensors asks for the same operators whenever it is given
tensors of the same shapes. `torch.fx` records them once, and its graph is run again without the Python around them; on
CUDA one launch runs them all (`torch.cuda.CUDAGraph`). The update is made by the optimizer itself, so its options and
learning rates may change at any time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from nn_from_scratch.engine.convolutions import surrounding_algorithm
from nn_from_scratch.engine.graph import release_records
from nn_from_scratch.engine.losses import Loss
from nn_from_scratch.engine.module import Module
from nn_from_scratch.engine.optimizers import Optimizer
from nn_from_scratch.errors import CaptureError

#: Signatures of batches whose graphs are kept: an epoch has two, and more of them would only fill memory.
KEPT_GRAPHS = 8

#: From input and target to the loss and the gradients of some parameters.
Gradients = Callable[[Tensor, Tensor], Sequence[Tensor]]

_REMEDY = "leave the step uncaptured (capture=False)"


class TrainingStep:
    """Forward, loss, backward and update in one call, recorded once for each signature of a batch and then run again.

    The first batch of a signature (shape, strides, dtype, device) makes an ordinary step; the second is recorded;
    further ones run the graph, with the same results to the last bit on a CPU. Where an option of a module, a mode or
    a parameter was exchanged, steps are recorded anew.

    Args:
        model: whose parameters are updated.
        criterion: called with prediction and target; its value has shape ().
        optimizer: of the model.
        capture: False for ordinary steps only.
    """

    def __init__(self, model: Module, criterion: Loss, optimizer: Optimizer, *, capture: bool = True) -> None:
        self.model = model
        self.criterion = criterion
        self.optimizer = optimizer
        self.capture = capture
        self._watched = _Watched(model, criterion)
        self._graphs: OrderedDict[Any, _Graph | None] = OrderedDict()

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        """Make one step.

        Gradients and records of earlier passes are dropped, and none are left behind.

        Args:
            x: input, of a shape that the model takes.
            target: of the shape that the criterion expects beside the prediction.

        Returns:
            The loss before the update, shape (), on the device of the model.

        Raises:
            CaptureError: the step looks at the value of a tensor, or keeps a tensor that it made for the next one, and
                so cannot be recorded.
            ShapeError, DtypeError, DeviceError: input and target do not fit.
        """
        if not self.capture:
            return self._ordinary(x, target)
        if not self._watched.same():
            self._graphs.clear()
            self._watched = _Watched(self.model, self.criterion)
        key = (_signature(x), _signature(target), surrounding_algorithm())
        if key not in self._graphs:
            while len(self._graphs) >= KEPT_GRAPHS:
                self._graphs.popitem(last=False)
            loss = _warmed_up(lambda: self._ordinary(x, target)) if x.is_cuda else self._ordinary(x, target)
            self._graphs[key] = None
            self._watched = _Watched(self.model, self.criterion)
            return loss
        if self._watched.is_dirty():
            self.optimizer.zero_grad()
        graph = self._graphs[key]
        if graph is None:
            graph = self._graphs[key] = _Graph(self.model, self.criterion)
        loss, *gradients = graph(x.detach(), target.detach())
        self.optimizer.step_with(graph.parameters, dict(zip(graph.names, gradients, strict=True)))
        return loss.clone()

    def _ordinary(self, x: Tensor, target: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        with release_records():
            loss = self.criterion(self.model(x), target)
            self.criterion.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


class _Graph:
    """The loss and the gradients for batches of one signature; recorded by the first call, which computes them too.

    Attributes:
        names: of the parameters that have a gradient.
    """

    def __init__(self, model: Module, criterion: Loss) -> None:
        self.model, self.criterion = model, criterion
        self.parameters = model.parameters()
        self.names: list[str] = []
        self.run: Gradients | None = None

    def __call__(self, x: Tensor, target: Tensor) -> Sequence[Tensor]:
        if self.run is None:
            if x.is_cuda:
                self.run = _launched(self._compute, x, target)
            else:
                self.run, results = self._recorded(x, target)
                return results
        # No operator need look whether autograd follows it; only the update leaves anything behind.
        with torch.inference_mode():
            return self.run(x, target)

    def _compute(self, x: Tensor, target: Tensor) -> Sequence[Tensor]:
        buffers = self.model.buffers()
        with release_records():
            loss = self.criterion(self.model(x), target)
            self.criterion.backward()
        for name, buffer in self.model.buffers().items():
            if buffer is not buffers[name]:
                raise CaptureError(
                    f"{name!r} was replaced by another tensor during the step, but a captured step can only write to "
                    f"the one that was there; change it in place, or {_REMEDY}"
                )
        found = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        for parameter in self.parameters.values():
            parameter.grad = None
        self.model.clear_saved_tensors()
        self.names = list(found)
        return [loss.detach(), *found.values()]

    def _recorded(self, x: Tensor, target: Tensor) -> tuple[Gradients, Sequence[Tensor]]:
        # Tensors that are not arguments would become constants of the graph.
        held = [*self.parameters.values(), *self.model.buffers().values(), *self.criterion.buffers().values()]
        results: Sequence[Tensor] = ()

        def compute(x: Tensor, target: Tensor, *held: Tensor) -> Sequence[Tensor]:
            nonlocal results
            results = self._compute(x, target)
            return results

        try:
            with torch.no_grad():
                recorded = make_fx(compute)(x, target, *held)
        except (RuntimeError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CaptureError(f"the step cannot be recorded ({reason}); {_REMEDY}") from error
        for node in recorded.graph.nodes:
            tags = getattr(node.target, "tags", ())
            if torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags:
                raise CaptureError(
                    f"the step asks for {node.target}, whose result decides what Python code or which shapes come "
                    f"next, so the next step may be another one; {_REMEDY}"
                )
            if node.target is torch.ops.aten.detach.default:  # of which only Python's objects know
                node.replace_all_uses_with(node.args[0])
                recorded.graph.erase_node(node)
        recorded.recompile()
        run = recorded.forward
        return lambda x, target: run(x, target, *held), results


def _launched(computation: Gradients, *inputs: Tensor) -> Gradients:
    """The computation as a graph of kernels that one launch runs; nothing is computed meanwhile.

    Its results lie in memory of the graph, and last until the next run.
    """
    held = [x.clone() for x in inputs]
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.no_grad(), torch.cuda.graph(graph):
            results = computation(*held)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise CaptureError(f"the step cannot be captured into a CUDA graph ({reason}); {_REMEDY}") from error

    def run(*new: Tensor) -> Sequence[Tensor]:
        for place, x in zip(held, new, strict=True):
            place.copy_(x, non_blocking=True)
        graph.replay()
        return results

    return run


def _warmed_up(computation: Callable[[], Tensor]) -> Tensor:
    """Run on a stream of its own, as a graph is captured: what libraries set up for that is then there."""
    current = torch.cuda.current_stream()
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it so
    aside.wait_stream(current)
    with torch.cuda.stream(aside):
        result = computation()
    current.wait_stream(aside)
    result.record_stream(current)
    return result


class _Watched:
    """The attributes that decide what a step does: by identity, which costs little to compare."""

    #: What changes in each step without changing what a step does.
    PASSING = ("_records", "_next_index")

    def __init__(self, model: Module, criterion: Loss) -> None:
        self._owners = [owner for owner in (*model.all_modules(), criterion) if isinstance(owner, Module)]
        self._held: list[tuple[dict[str, Any], int, list[str], list[Any]]] = []
        for held in map(vars, self._owners):
            names = [name for name in held if name not in self.PASSING]
            self._held.append((held, len(held), names, [held[name] for name in names]))
        self._parameters = list(model.parameters().values())

    def same(self) -> bool:
        """Whether nothing was exchanged."""
        for held, count, names, values in self._held:
            if len(held) != count or not all(map(is_, map(held.get, names), values)):
                return False
        return True

    def is_dirty(self) -> bool:
        """Whether gradients or records of another pass are left, of which a graph does not know."""
        return any(p.grad is not None for p in self._parameters) or any(owner.pending for owner in self._owners)


def _signature(x: Tensor) -> tuple[Any, ...]:
    return (x.shape, x.stride(), x.dtype, x.device)
