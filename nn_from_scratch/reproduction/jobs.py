"""Each job of a reproduction, and doing all of them once: what a killed process has finished is found again."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nn_from_scratch import __version__
from nn_from_scratch.errors import ArgumentError, NNFromScratchError
from nn_from_scratch.report.results_file import envelope, publish
from nn_from_scratch.reproduction.parts import KINDS, Job, Plan
from nn_from_scratch.storage import remove_partial_files, write_json

_PARITY_BATCH = 4
_PLAN = "plan.json"
Say = Callable[[str], None]


def reproduce(
    plan: Plan, out: Path, *, workers: int = 2, say: Say = lambda words: None, only: Sequence[str] = ()
) -> dict[str, Any]:
    """Do the plan, and once all of it is done write results.json, report.md and report.html into the folder.

    Args:
        out: a new or empty folder, or one in which this plan was begun.
        workers: processes with one thread each; 0 to do everything in this one.
        say: called with a line for each job that is done.
        only: the kinds of jobs that are done, of `nn_from_scratch.reproduction.parts.KINDS`; all if it is empty.

    Returns:
        The results file's content; where parts are missing, with the claims that the others decide.

    Raises:
        ArgumentError: the folder holds something else, or another plan; there is no such kind.
        NNFromScratchError: a job failed; what the others have done is kept.
    """
    from nn_from_scratch.denoise.training import check_device
    from nn_from_scratch.reproduction.claims import claims_of
    from nn_from_scratch.reproduction.page import page

    check_device(plan.device)
    for kind in only:
        if kind not in KINDS:
            raise ArgumentError(f"only names {kind!r}, but the parts are {', '.join(KINDS)}")
    parts = _open(plan, out)
    files = {job.name: parts / f"{job.name}.json" for job in plan.jobs}
    done = {name: json.loads(file.read_bytes()) for name, file in files.items() if file.exists()}
    chosen = [job for job in plan.jobs if not only or job.kind in only]
    if done:
        say(f"{len(done)} of {len(plan.jobs)} parts are there already, in {out}")
    pending = [job for job in chosen if job.name not in done]
    started, reached = time.monotonic(), 0

    def keep(job: Job, content: dict[str, Any]) -> None:
        nonlocal reached
        write_json(files[job.name], content)
        done[job.name] = json.loads(files[job.name].read_bytes())
        reached += 1
        seconds = time.monotonic() - started
        left = seconds / reached * (len(pending) - reached)
        number = len(chosen) - len(pending) + reached
        say(f"[{number}/{len(chosen)}] {job.title}: done after {_clock(seconds)}, about {_clock(left)} left")

    # Table I measures time, so nothing else runs meanwhile.
    _run([job for job in pending if job.kind != "table1"], plan, out, workers, keep)
    for job in pending:
        if job.kind == "table1":
            say(f"{job.title} ...")
            keep(job, run_job(plan, job, out))
    claims = [asdict(claim) for claim in claims_of(plan, done)]
    results: dict[str, Any] = {"plan": asdict(plan), "claims": claims, "parts": done}
    commands = [line for line in [plan.command(out=out)] if line]
    content = envelope("reproduction", results, commands=commands)
    if missing := len(plan.jobs) - len(done):
        say(f"the report is written once all parts are done; {missing} are missing in {out}")
        return content
    results["data"] = {**done["final"]["data"], "noisy_psnr": done["final"]["noisy_psnr"]}
    content["results"] = results
    write_json(out / "results.json", content)
    publish(page(plan, results, commands=commands), markdown=out / "report.md", html=out / "report.html")
    say(f"written: {out / 'results.json'}, {out / 'report.md'} and {out / 'report.html'}")
    return content


def run_job(plan: Plan, job: Job, folder: Path) -> dict[str, Any]:
    """Do one job, and give its results as JSON values; the folder keeps what is to be found again after a kill."""
    from nn_from_scratch.reproduction.final import final
    from nn_from_scratch.reproduction.record_memory import memory
    from nn_from_scratch.reproduction.training_curves import curve, rounding

    kinds: dict[str, Callable[[], dict[str, Any]]] = {
        "curve": lambda: curve(plan, **job.options),
        "final": lambda: final(plan, folder / "final"),
        "parity": lambda: _parity(plan),
        "table1": lambda: _table(plan),
        "memory": lambda: memory(plan),
        "rounding": lambda: rounding(plan),
    }
    return kinds[job.kind]()


def _parity(plan: Plan) -> dict[str, Any]:
    import torch

    from nn_from_scratch.denoise.model import report_model
    from nn_from_scratch.parity.follow import follow

    found = {}
    for dtype in (torch.float64, torch.float32):
        generator = torch.Generator().manual_seed(0)
        model = report_model(generator=generator, dtype=dtype)
        x, target = (torch.rand(_PARITY_BATCH, 3, 32, 32, dtype=dtype, generator=generator) for _ in range(2))
        rows = follow(model, x, target, device=plan.device)
        found[str(dtype).removeprefix("torch.")] = [asdict(row) for row in rows]
    return found


def _table(plan: Plan) -> dict[str, Any]:
    import torch

    from nn_from_scratch.bench.table1 import Settings, run_table

    chosen = Settings.chosen(quick=plan.quick, device=plan.device, epochs=plan.table_epochs)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as `train` computes by default, and `bench run table1` measures
    try:
        return run_table(replace(chosen, samples=plan.table_samples)).to_json()
    finally:
        torch.set_num_threads(before)


def _open(plan: Plan, out: Path) -> Path:
    """The folder of the parts, if this plan may use the folder."""
    wanted = {"version": __version__, **asdict(plan)}
    parts = out / "parts"
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"out is {str(out)!r}, but a new or an empty folder is expected")
    if (out / _PLAN).exists():
        # Where nothing was done yet, perhaps because the data were not found, no plan is lost.
        if _read_plan(out) != wanted and (any(parts.glob("*.json")) or (out / "final").exists()):
            raise ArgumentError(
                f"out is {str(out)!r}, where another reproduction was begun (other options or another version): "
                "give a new folder, or the same options"
            )
    elif out.is_dir() and any(out.iterdir()):
        raise ArgumentError(
            f"out is {str(out)!r}, which holds something else, but a new or an empty folder is expected"
        )
    try:
        parts.mkdir(parents=True, exist_ok=True)
        if not (out / _PLAN).exists() or _read_plan(out) != wanted:
            write_json(out / _PLAN, wanted)
    except OSError as error:
        raise ArgumentError(f"out is {str(out)!r}, which cannot be written: {error.strerror}") from None
    remove_partial_files(parts)
    remove_partial_files(out)
    return parts


def _read_plan(out: Path) -> Any:
    try:
        return json.loads((out / _PLAN).read_bytes())
    except ValueError:
        return None


def _run(jobs: Sequence[Job], plan: Plan, out: Path, workers: int, keep: Callable[[Job, dict[str, Any]], None]) -> None:
    if workers == 0 or not jobs:
        for job in jobs:
            keep(job, run_job(plan, job, out))
        return
    with _pool(workers) as pool:
        pending = {pool.submit(run_job, plan, job, out): job for job in jobs}
        try:
            for future in as_completed(pending):
                keep(pending[future], future.result())
        except BrokenProcessPool:
            raise NNFromScratchError(
                "a worker process died, perhaps of too little memory; the finished parts are kept: run the same again"
            ) from None


@contextlib.contextmanager
def _pool(number: int) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(number, mp_context=context, initializer=_begin)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        # The result of a training that may take a minute more would not be read.
        workers = set(multiprocessing.active_children()) - others
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
        raise
    finally:
        pool.shutdown()


def _begin() -> None:
    """Begin a worker: one thread; interrupts are the parent's, and without the parent there is nothing to do."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _clock(seconds: float) -> str:
    return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"
