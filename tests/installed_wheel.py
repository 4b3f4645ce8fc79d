"""Does a wheel work by itself? Run by `tox -e wheel`, in an environment that has nothing but the wheel and pytest.

Not collected by pytest: it asks what a stranger would find, who has neither the clone nor its extras.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

FUNCTION = """\
import torch


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return {factor} * x * g
"""

TEST = """\
from right import Square


def test_square(gradcheck):
    gradcheck(Square.apply, (3, 4))
"""

COMMAND = [sys.executable, "-P", "-m", "nn_from_scratch"]


def expect(words: list[str], status: int, *texts: str) -> None:
    """Run a command; end with a sentence if its status is another one or a text is missing from what it says.

    Args:
        words: the command.
        status: the exit status that is right.
        texts: what must stand in its output or its errors.
    """
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    said = done.stdout + done.stderr
    missing = [text for text in texts if text not in said]
    if done.returncode != status or missing:
        sys.exit(f"{words} ended with {done.returncode} instead of {status}, without {missing}:\n{said}")


def main() -> None:
    """Verify a right and a wrong Function, use the plugin, and ask for what only an extra brings."""
    import nn_from_scratch

    clone = Path(__file__).resolve().parent.parent
    if clone in Path(nn_from_scratch.__file__).resolve().parents and "site-packages" not in nn_from_scratch.__file__:
        sys.exit(f"{nn_from_scratch.__file__} is the clone's, not the wheel's")
    os.environ.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory() as folder:  # below the clone pytest would take the clone's settings
        os.chdir(folder)
        _try_everything(nn_from_scratch.__version__)
        os.chdir(clone)
    sys.stdout.write("the wheel works by itself\n")


def _try_everything(version: str) -> None:
    Path("right.py").write_text(FUNCTION.format(factor=2), encoding="utf-8")
    Path("wrong.py").write_text(FUNCTION.format(factor=3), encoding="utf-8")
    Path("test_right.py").write_text(TEST, encoding="utf-8")
    expect([*COMMAND, "--version"], 0, f"nn-from-scratch {version}")
    expect([*COMMAND, "verify", "right.py:Square", "--input", "3,4", "--html", "page.html"], 0, "CORRECT")
    expect([*COMMAND, "verify", "wrong.py:Square", "--input", "3,4"], 1, "WRONG", "too large by a factor of 1.5")
    expect([sys.executable, "-m", "pytest", "-q", "test_right.py"], 0, "1 passed")
    engine = "import nn_from_scratch as nn, torch; nn.ReLU()(torch.ones(3, 2)), nn.Linear(2, 1)(torch.ones(3, 2))"
    expect([sys.executable, "-P", "-c", engine], 0)
    for command in (["train"], ["denoise", "photo.png"], ["reproduce"]):
        expect([*COMMAND, *command], 2, f"nn-from-scratch {command[0]} needs safetensors", "'.[denoise]'")
    expect([sys.executable, "-P", "-c", "import nn_from_scratch.verify.strategies"], 1, "'.[strategies]'")


if __name__ == "__main__":
    main()
