"""The environment variables in which torchrun describes a process; reading them loads no torch."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nn_from_scratch.errors import ArgumentError

#: Seconds that ranks wait for one another in an exchange, as torch's own limit on GPUs; rank 0 validates and draws
#: figures meanwhile. The environment variable NNFS_RANK_SILENCE gives another number.
LIMIT = 600.0
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One process of several that were launched together.

    Attributes:
        rank: its number, from 0.
        local_rank: its number on its machine, and there of its GPU.
        host, port: where the processes find each other.
        serves: whether this process offers that place (torchrun's own does it otherwise).
        attempt: how often torchrun has restarted them.
        limit: seconds that ranks wait for one another in an exchange.
    """

    rank: int
    size: int
    local_rank: int
    host: str
    port: int
    serves: bool
    attempt: int = 0
    limit: float = LIMIT


def find_launch(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """Read what a launcher has said about this process; None if it was started by itself, or alone.

    Args:
        environment: variables; RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT stand for a launch.

    Raises:
        ArgumentError: a variable has a value that makes no sense.
    """
    if any(name not in environment for name in _NEEDED):
        return None
    size = _number(environment, "WORLD_SIZE", least=1)
    if size == 1:
        return None
    rank = _number(environment, "RANK", below=size)
    return Launch(
        rank=rank,
        size=size,
        local_rank=_number(environment, "LOCAL_RANK", default=str(rank)),
        host=environment["MASTER_ADDR"],
        port=_number(environment, "MASTER_PORT", below=65536),
        serves=rank == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        attempt=_number(environment, "TORCHELASTIC_RESTART_COUNT", default="0"),
        limit=_seconds(environment, "NNFS_RANK_SILENCE", default=LIMIT),
    )


def is_follower(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a process of rank 0 was launched with this one, and says what there is to say."""
    try:
        launch = find_launch(environment)
    except ArgumentError:
        return False
    return launch is not None and launch.rank != 0


def tell_launcher(sentence: str, environment: Mapping[str, str] = os.environ) -> None:
    """Leave why this process ends where torchrun looks for it: its closing table then says it as the root cause."""
    file = environment.get("TORCHELASTIC_ERROR_FILE")
    if file:
        # The sentence stands on standard error as well, so nothing is lost.
        with contextlib.suppress(OSError):
            Path(file).write_text(json.dumps({"message": sentence, "timestamp": int(time.time())}), encoding="utf-8")


def _number(
    environment: Mapping[str, str], name: str, *, least: int = 0, below: int | None = None, default: str = ""
) -> int:
    text = environment.get(name, default)
    value = int(text) if text.isdecimal() else -1
    if value < least or (below is not None and value >= below):
        limit = "" if below is None else f" and below {below}"
        raise ArgumentError(
            f"the environment variable {name} is {text!r}, but an integer of at least {least}{limit} is expected: "
            "torchrun sets it"
        )
    return value


def _seconds(environment: Mapping[str, str], name: str, *, default: float) -> float:
    text = environment.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentError(
            f"the environment variable {name} is {text!r}, but a positive number of seconds is expected"
        )
    return value
