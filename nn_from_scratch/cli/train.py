"""`nn-from-scratch train`: train the report's network, and leave a run folder behind."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from nn_from_scratch.cli import expect_output_files
from nn_from_scratch.denoise.distributed.launch import find_launch
from nn_from_scratch.denoise.settings import (
    CONVOLUTIONS,
    DEFAULT_EPOCHS,
    OPTIMIZER_DEFAULTS,
    PRECISIONS,
    RunSettings,
    new_settings,
)
from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.storage import resolved

if TYPE_CHECKING:
    from nn_from_scratch.denoise.distributed.replicas import Replicas


EXTRA = "denoise"
HELP = "train the network and write a run folder"
DESCRIPTION = """\
Train the report's denoising network with the engine of this project, whose backward passes are written by hand.

It learns from pairs of noisy images alone (Noise2Noise): two independent corruptions of one picture. Clean images are
used for validation only. Without --data the pictures are photographs that come with scikit-image; nothing is
downloaded. The settings are the report's, on one processor thread. The default run takes at most three minutes on two
otherwise idle cores, and brings the validation images from 20.5 dB to about 28 dB."""

EPILOG = """\
what it writes into the run folder:
  checkpoint.safetensors   weights and state of the optimizer, replaced as a whole after every epoch
  history.json             loss, validation PSNR, seconds and samples/s of every epoch
  settings.json            all settings
  results.json             the final table
  training-curve.png       loss and PSNR over the epochs
  pictures.png             some validation images: noisy, denoised and clean

examples:
  nn-from-scratch train
  nn-from-scratch train --epochs 20 --out runs/long
  nn-from-scratch train --optimizer adam --noise poisson:peak=30
  nn-from-scratch train --data ~/Pictures --train-size 20000
  nn-from-scratch train --resume runs/long --epochs 40
  torchrun --nproc-per-node 4 -m nn_from_scratch train --device cuda      four GPUs, a part of each batch on each

Ctrl-C saves and stops; --resume goes on from there, or from the last completed epoch after a crash, and ends with the
same weights, bit for bit, as a run that was never interrupted. The settings of the run are then its own: only
--epochs and --capture may be given another value."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.argument_default = argparse.SUPPRESS
    sgd, adam = OPTIMIZER_DEFAULTS["sgd"], OPTIMIZER_DEFAULTS["adam"]

    training = parser.add_argument_group("training")
    training.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help=f"passes over the training pairs (default: {DEFAULT_EPOCHS}, as in the report)",
    )
    training.add_argument("--batch-size", type=int, metavar="N", help="pairs in a step (default: 16)")
    training.add_argument("--optimizer", choices=tuple(OPTIMIZER_DEFAULTS), help="default: sgd")
    training.add_argument(
        "--lr", type=float, metavar="X", help=f"learning rate (default: {sgd['lr']} for sgd, {adam['lr']} for adam)"
    )
    training.add_argument(
        "--momentum", type=float, metavar="X", help=f"of sgd, at least 0 and below 1 (default: {sgd['momentum']})"
    )
    training.add_argument(
        "--seed", type=int, metavar="N", help="of initial weights, data and order of the batches (default: 0)"
    )
    training.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:NUMBER (default: cpu)")
    training.add_argument(
        "--conv",
        choices=CONVOLUTIONS,
        help="how convolutions are computed: unfold, as in the report; native, by the vendor's kernels; or auto, the "
        "fastest of them for the device (default: auto)",
    )
    training.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="processor threads of torch's operators (default: 1; more help with large batches on idle cores alone)",
    )
    training.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="dtype of forward and backward; the parameters are kept in float32 (default: float32)",
    )
    training.add_argument(
        "--capture",
        action=argparse.BooleanOptionalAction,
        help="record a step once and replay it, without the Python around it; faster, with the same numbers "
        "(default: --capture)",
    )

    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        metavar="PATH",
        help="folder of pictures, at any depth; or the folder of the course's train_data.pkl and "
        "val_data.pkl (default: photographs of scikit-image)",
    )
    data.add_argument(
        "--noise",
        metavar="MODEL",
        help="gaussian:sigma=25, poisson:peak=30, impulse:p=0.1, or a mixture such as "
        "mixture:2*gaussian:sigma=25+impulse:p=0.1 (default: gaussian:sigma=25, on the scale 0 to 255)",
    )
    data.add_argument("--train-size", type=int, metavar="N", help="training pairs (default: 50000)")
    data.add_argument("--validation-size", type=int, metavar="N", help="validation images (default: 1000)")

    output = parser.add_argument_group("output")
    output.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="run folder, new or empty (default: a new one under runs/, named by date and time)",
    )
    output.add_argument(
        "--resume",
        nargs="?",
        type=Path,
        const=None,
        metavar="DIR",
        help="go on with the run in this folder (default: the one given with --out, else the newest under runs/)",
    )
    output.add_argument("--json", type=Path, metavar="PATH", help="write settings, history and results there as well")


def run(args: argparse.Namespace) -> int:
    """Train; give the exit status."""
    launch = find_launch()
    if launch is None:
        return _run(args, None)
    # When a rank dies, torch writes pages about its own sockets; what it is told here it reads when it is loaded.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from nn_from_scratch.cli.replica import run_replica

    return run_replica(launch, lambda replicas: _run(args, replicas))


def _run(args: argparse.Namespace, replicas: Replicas | None) -> int:
    given = vars(args)
    names = {field.name for field in fields(RunSettings)}
    explicit = {name: value for name, value in given.items() if name in names}
    if "data" in explicit:
        explicit["data"] = str(resolved(Path(explicit["data"]).expanduser()))
    out: Path | None = given.get("out")
    json_path: Path | None = given.get("json")
    expect_output_files(args)
    fresh = None
    if "resume" not in given:
        fresh = new_settings(explicit)
    elif out is not None and given["resume"] is not None and resolved(out) != resolved(given["resume"]):
        raise ArgumentError(
            f"out is {str(out)!r}, but --resume names the run {str(given['resume'])!r}, which is written there: "
            "leave --out out"
        )
    from nn_from_scratch.cli.train_session import resume_run, start_run

    if fresh is not None:
        return start_run(fresh, out=out, json_path=json_path, replicas=replicas)
    return resume_run(given["resume"] or out, explicit=explicit, json_path=json_path, replicas=replicas)
