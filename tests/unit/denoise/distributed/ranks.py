"""Ranks of data-parallel runs as forked processes, so that torch is loaded once: `python ranks.py FOLDER NAME...`.

Each scenario below is a number of ranks and what each does; all are run side by side, in `FOLDER/NAME`, where each
rank's standard error is `RANK.err`; `statuses.json` has the exit status of each.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from nn_from_scratch.cli import main as command_line
from nn_from_scratch.cli import replica, train_session  # noqa: F401  # loaded once, before the forks
from nn_from_scratch.denoise.data import PairSet
from nn_from_scratch.denoise.distributed.launch import find_launch
from nn_from_scratch.denoise.distributed.replicas import join
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.denoise.settings import TrainingSettings
from nn_from_scratch.denoise.training import make_optimizer, train
from nn_from_scratch.engine.module import Module

#: 20 pairs in batches of 6, 6, 6 and 2: no batch divides by 4 ranks, and the last leaves two of them without a pair.
SETTINGS = TrainingSettings(epochs=2, batch_size=6, lr=0.1, momentum=0.9, seed=5)
ENDLESS = ("--epochs", "100000", "--train-size", "32", "--validation-size", "2", "--lr", "0.1", "--out", "run")


@dataclass(frozen=True)
class Scenario:
    """What the ranks do, which of them gets a signal, and the seconds that they wait for one another."""

    size: int
    act: Callable[[], int]
    victim: int | None = None
    signal: int = signal.SIGKILL
    limit: float = 60.0


def tiny_pairs() -> PairSet:
    generator = torch.Generator().manual_seed(0)
    a, b, noisy, clean = (
        torch.randint(0, 256, (n, 3, 16, 16), dtype=torch.uint8, generator=generator) for n in (20, 20, 2, 2)
    )
    return PairSet(a, b, noisy, clean, source="random", noise="none")


def fresh_model() -> Module:
    return report_model(generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def cloned(model: Module) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous().clone() for name, tensor in model.state_dict().items()}


def train_together(kind: str = "cpu") -> int:
    launch = find_launch()
    assert launch is not None
    replicas = join(launch)
    device = torch.device(kind if kind == "cpu" else f"{kind}:{replicas.local_rank}")
    replicas.connect(device)
    assert replicas.broadcast(b"from the leader" if replicas.rank == 0 else None) == b"from the leader"
    assert replicas.any(replicas.rank == 1) and not replicas.any(False)
    model = fresh_model().to(device)
    optimizer = make_optimizer(model, SETTINGS)
    reached = train(model, optimizer, tiny_pairs(), settings=SETTINGS, validate=False, replicas=replicas)
    save_file(cloned(model), f"{replicas.rank}.safetensors")
    Path(f"{replicas.rank}.json").write_text(json.dumps([asdict(result) for result in reached.history]))
    replicas.close()
    return 0


def run_the_documentation() -> int:
    text = Path(__file__).parents[4].joinpath("docs", "distributed.md").read_text(encoding="utf-8")
    block = text.split("```python\n")[1].split("```")[0]
    namespace: dict[str, Any] = {"__name__": "documentation"}
    exec(compile(block, "docs/distributed.md", "exec"), namespace)
    save_file(cloned(namespace["model"]), f"{os.environ['RANK']}.safetensors")
    return 0


SCENARIOS = {
    "documented": Scenario(2, run_the_documentation),
    "two": Scenario(2, train_together),
    "four": Scenario(4, train_together),
    "gpus": Scenario(2, lambda: train_together("cuda")),
    "killed": Scenario(3, lambda: command_line(["train", *ENDLESS]), victim=1),
    "leader killed": Scenario(2, lambda: command_line(["train", *ENDLESS]), victim=0),
    "frozen": Scenario(3, lambda: command_line(["train", *ENDLESS]), victim=1, signal=signal.SIGSTOP, limit=5),
    "interrupted": Scenario(2, lambda: command_line(["train", *ENDLESS]), victim=1, signal=signal.SIGTERM),
    "refused": Scenario(2, lambda: command_line(["train", "--data", "nowhere"])),
    "misspelt": Scenario(2, lambda: command_line(["train", "--epochs", "many"])),
}


def start(scenario: Scenario, folder: Path) -> list[int]:
    folder.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(scenario.size):
        child = os.fork()
        if child == 0:
            os.chdir(folder)
            os.dup2(os.open(f"{rank}.out", os.O_WRONLY | os.O_CREAT), 1)
            os.dup2(os.open(f"{rank}.err", os.O_WRONLY | os.O_CREAT), 2)
            os.environ.update(RANK=str(rank), WORLD_SIZE=str(scenario.size), MASTER_ADDR="127.0.0.1")
            os.environ.update(MASTER_PORT=str(port), NNFS_RANK_SILENCE=str(scenario.limit))
            status = 99
            try:
                status = scenario.act()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        children.append(child)
    return children


def strike(scenario: Scenario, folder: Path, children: list[int]) -> None:
    """Send the victim its signal once an epoch is behind it."""
    if scenario.victim is not None:
        history = folder / "run" / "history.json"
        while not history.exists() or len(history.read_text()) < 10:
            time.sleep(0.05)
        os.kill(children[scenario.victim], scenario.signal)


def main() -> None:
    torch.set_num_threads(1)
    place, *names = sys.argv[1:]
    running = {name: start(SCENARIOS[name], Path(place, name)) for name in names}
    for name, children in running.items():
        strike(SCENARIOS[name], Path(place, name), children)
    for name, children in running.items():
        statuses = {}
        scenario = SCENARIOS[name]
        frozen = scenario.victim if scenario.signal == signal.SIGSTOP else None
        for rank in sorted(range(len(children)), key=lambda rank: rank == frozen):
            if rank == frozen:
                os.kill(children[rank], signal.SIGKILL)
            statuses[rank] = os.waitstatus_to_exitcode(os.waitpid(children[rank], 0)[1])
        Path(place, name, "statuses.json").write_text(json.dumps([statuses[rank] for rank in range(len(children))]))


if __name__ == "__main__":
    main()
