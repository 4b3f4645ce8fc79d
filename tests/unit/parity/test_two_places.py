"""A layer and an optimizer, each added to a copy of the project in two places, go through the whole pyramid."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nn_from_scratch

ROOT = Path(nn_from_scratch.__file__).parents[1]

SOFTSIGN = '''

class Softsign(Layer):
    """y = x / (1 + |x|);   dl/dx = g / (1 + |x|)^2."""

    complex_inputs = False

    def forward(self, x: Tensor) -> Tensor:
        return x / (1 + x.abs())

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        return g / (1 + record.x.abs()).square()
'''
SOFTSIGN_ENTRY = "Spec(layers.Softsign, ELEMENTWISE_CASES, F.softsign, twin=torch.nn.Softsign)"

DESCENT = '''

class Descent(Optimizer):
    """theta <- theta - lr grad."""

    def __init__(self, model: Module, *, lr: float = 1e-3) -> None:
        super().__init__(model, lr=lr)

    def update(self, names: list[str], parameters: list[Tensor], gradients: list[Tensor], t: int) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= self.lr * gradient
'''
DESCENT_ENTRY = 'OptimizerSpec(optimizers.Descent, (Case("lr", options={"lr": 0.1}),), torch.optim.SGD, Held)'

EXPORTS = """
import nn_from_scratch as nn

def test_Softsign_and_Descent_are_exported():
    assert {"Softsign", "Descent"} <= {*dir(nn), *dir(nn.engine)} and nn.Softsign and nn.Descent
"""

# One test of each file and check that follows from an entry.
PASSED = {
    "tests/gradcheck/test_layers.py::test_layers[Softsign-image-float64-gradient]",
    "tests/gradcheck/test_layers.py::test_layers[Softsign-image-float64-contracts]",
    "tests/gradcheck/test_layers.py::test_layers[Softsign-image-low_precision]",
    "tests/gradcheck/test_layer_properties.py::test_elementwise_layers[Softsign()]",
    "tests/parity/test_layers.py::test_layers[Softsign-vector-float32-input_gradient]",
    "tests/parity/test_optimizers.py::test_optimizers[Descent-lr-float64-trajectory]",
    "tests/parity/test_stacks.py::test_every_layer_that_torch_has_too_can_be_drawn[Softsign]",
    "tests/unit/parity/test_exchange.py::test_a_layer_goes_over_and_comes_back[Softsign-image]",
    "tests/unit/test_formalities.py::test_every_public_layer_loss_and_optimizer_has_an_entry[Softsign]",
    "tests/unit/test_formalities.py::test_every_public_layer_loss_and_optimizer_has_an_entry[Descent]",
    "tests/bench/test_catalogue.py::test_forward_and_backward[Softsign-scalar]",
    "tests/bench/test_catalogue.py::test_step_of_an_optimizer[Descent-lr]",
    "tests/test_exports.py::test_Softsign_and_Descent_are_exported",
}


def add(path: Path, text: str, *, entry: bool = False) -> None:
    old = path.read_text(encoding="utf-8")
    new = old.replace("SPECS = (\n", f"SPECS = (\n    {text},\n", 1) if entry else old + text
    assert new != old
    path.write_text(new, encoding="utf-8")


def test_a_class_and_an_entry_are_all_that_a_layer_or_an_optimizer_needs(tmp_path: Path) -> None:
    for name in ("nn_from_scratch", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    package = tmp_path / "nn_from_scratch"
    add(package / "engine" / "layers" / "activation.py", SOFTSIGN)
    add(package / "parity" / "specs" / "activation.py", SOFTSIGN_ENTRY, entry=True)
    add(package / "engine" / "optimizers" / "sgd.py", DESCENT)
    add(package / "parity" / "specs" / "optimizers.py", DESCENT_ENTRY, entry=True)
    (tmp_path / "tests" / "test_exports.py").write_text(EXPORTS, encoding="utf-8")
    files = sorted({test.split("::")[0] for test in PASSED})
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:randomly", "-k", "Softsign or Descent", *files],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert {f"PASSED {test}" for test in PASSED} <= set(found.stdout.splitlines())
