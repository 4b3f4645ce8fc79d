"""`train` in one of several processes that torchrun has started: rank 0 runs the session, the others follow it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from nn_from_scratch.cli.interrupts import stop_on_signals
from nn_from_scratch.denoise.data import load_pairs
from nn_from_scratch.denoise.data.fingerprint import fingerprint
from nn_from_scratch.denoise.distributed.launch import Launch
from nn_from_scratch.denoise.distributed.replicas import Replicas, join
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.denoise.progress import Progress
from nn_from_scratch.denoise.settings import RunSettings
from nn_from_scratch.denoise.training import check_device, make_optimizer, train
from nn_from_scratch.engine.convolutions import convolution_algorithm
from nn_from_scratch.engine.module import Module
from nn_from_scratch.engine.optimizers import Optimizer
from nn_from_scratch.errors import ArgumentError, DataError, NNFromScratchError

__all__ = ["run_replica", "send_settings", "send_state"]


def run_replica(launch: Launch, lead: Callable[[Replicas], int]) -> int:
    """Take part in a run.

    Args:
        launch: of this process.
        lead: what rank 0 does; it calls `send_settings` and `send_state` on its way.

    Returns:
        The exit status: as that of `train`, and 2 without a word where another rank says what has happened.

    Raises:
        NNFromScratchError: something is wrong, and it is this rank that tells.
    """
    replicas = join(launch)
    try:
        status = lead(replicas) if replicas.rank == 0 else _follow(replicas)
        replicas.close()
    except NNFromScratchError as error:
        if not replicas.fail():
            return 2
        if replicas.rank == 0:
            raise
        where = f"rank {replicas.rank} on {socket.gethostname()}"
        raise type(error)(f"{where}: {error}") from error
    except KeyboardInterrupt:
        replicas.fail()
        if replicas.rank == 0:
            raise
        return 130
    except BaseException:
        replicas.fail()
        raise
    return status


def send_settings(replicas: Replicas, settings: RunSettings) -> torch.device:
    """Tell the other ranks what the run is, connect with them, and give the device of this rank."""
    replicas.tell("settings", json.dumps(asdict(settings)))
    return _connect(replicas, settings)


def send_state(
    replicas: Replicas, model: Module, optimizer: Optimizer, progress: Progress, *, data_sha256: str
) -> None:
    """Tell the other ranks where the run is to be taken up."""
    replicas.tell("state", json.dumps({"progress": progress.to_json(), "data_sha256": data_sha256}))
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer.state_dict().items()}
    replicas.broadcast(save_tensors({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}))


def _follow(replicas: Replicas) -> int:
    settings = RunSettings(**json.loads(replicas.hear("settings")))
    torch.set_num_threads(settings.threads)
    device = _connect(replicas, settings)
    pairs = load_pairs(
        settings.data,
        noise=settings.noise,
        train_size=settings.train_size,
        validation_size=settings.validation_size,
        seed=settings.seed,
    )
    state: dict[str, Any] = json.loads(replicas.hear("state"))
    if fingerprint(pairs) != state["data_sha256"]:
        needed = "version of scikit-image" if settings.data is None else f"files at {settings.data!r}"
        raise DataError(
            f"the training data ({pairs.source}) is not that of rank 0: every machine needs the same {needed}"
        )
    model = report_model(dtype=torch.float32).to(device)
    optimizer = make_optimizer(model, settings)
    tensors = load_tensors(replicas.broadcast(None))
    model.load_state_dict(_part(tensors, "model."))
    optimizer.load_state_dict(_part(tensors, "optimizer."))
    with convolution_algorithm(settings.conv), stop_on_signals(replicas.hurry, say=False) as stop:
        reached = train(
            model,
            optimizer,
            pairs,
            settings=settings,
            progress=Progress.from_json(state["progress"]),
            validate=False,
            stop=replicas.agreed(stop),
            replicas=replicas,
        )
    return 0 if reached.epoch == settings.epochs else 130


def _connect(replicas: Replicas, settings: RunSettings) -> torch.device:
    name = settings.device
    if name.startswith("cuda:"):
        raise ArgumentError(f"device is {name!r}, but each rank takes the GPU of its own number: give --device cuda")
    device = check_device(f"cuda:{replicas.local_rank}" if name == "cuda" else name)
    replicas.connect(device)
    return device


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
