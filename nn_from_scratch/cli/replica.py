"""`train` in one of several processes that torchrun has started: rank 0 runs the session, the others follow it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import asdict

import torch

from nn_from_scratch.cli.interrupts import stop_on_signals
from nn_from_scratch.denoise.checkpoints import read_checkpoint
from nn_from_scratch.denoise.data import fingerprint, load_pairs
from nn_from_scratch.denoise.distributed.launch import Launch
from nn_from_scratch.denoise.distributed.replicas import Replicas, join
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.denoise.settings import RunSettings
from nn_from_scratch.denoise.training import check_device, computing_as, make_optimizer, train
from nn_from_scratch.errors import ArgumentError, DataError, NNFromScratchError


def run_replica(launch: Launch, lead: Callable[[Replicas], int]) -> int:
    """Take part in a run.

    Args:
        lead: what rank 0 does; it calls `send_settings` on its way, and broadcasts the checkpoint to start from.

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
    """Tell the other ranks what the run is, and give the device of this rank."""
    replicas.broadcast(json.dumps(asdict(settings)).encode())
    return _connect(replicas, settings)


def _follow(replicas: Replicas) -> int:
    settings = RunSettings(**json.loads(replicas.broadcast(None)))
    device = _connect(replicas, settings)
    pairs = load_pairs(**settings.data_options)
    model = report_model(dtype=torch.float32).to(device)
    optimizer = make_optimizer(model, settings)
    checkpoint = read_checkpoint(replicas.broadcast(None), model, name="of rank 0")
    if fingerprint(pairs) != checkpoint.information["data_sha256"]:
        needed = "version of scikit-image" if settings.data is None else f"files at {settings.data!r}"
        raise DataError(
            f"the training data ({pairs.source}) is not that of rank 0: every machine needs the same {needed}"
        )
    checkpoint.restore(model, optimizer)
    with computing_as(settings), stop_on_signals(say=False) as stop:
        reached = train(
            model,
            optimizer,
            pairs,
            settings=settings,
            progress=checkpoint.progress,
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
