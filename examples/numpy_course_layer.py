"""Layers as a course has its students write them, in NumPy, verified as they are.

    python examples/numpy_course_layer.py

Nothing is wrapped and nothing is derived from anything: `forward(x)`, `backward(dy)`, and gradients in attributes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nn_from_scratch.verify import Report, check

Array = npt.NDArray[np.float64]


class Affine:
    """y = x W + b for x of shape (N, D), W of shape (D, M) and b of shape (M,)."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator) -> None:
        self.W = rng.normal(size=(inputs, outputs))
        self.b = np.zeros(outputs)

    def forward(self, x: Array) -> Array:
        """Give y of shape (N, M), and remember x."""
        self.x = x
        y: Array = x @ self.W + self.b
        return y

    def backward(self, dy: Array) -> Array:
        """Give dx of shape (N, D), and leave dW and db in attributes."""
        self.dW = self.x.T @ dy
        self.db = dy.sum(axis=0)
        dx: Array = dy @ self.W.T
        return dx


class MaxPool:
    """The largest of each 2 x 2 window of x, of shape (N, C, H, W) with even H and W."""

    def forward(self, x: Array) -> Array:
        """Give y of shape (N, C, H/2, W/2), and remember where each maximum was."""
        N, C, H, W = x.shape
        windows = x.reshape(N, C, H // 2, 2, W // 2, 2).swapaxes(3, 4).reshape(N, C, H // 2, W // 2, 4)
        self.shape, self.winner = x.shape, windows.argmax(axis=-1)
        y: Array = windows.max(axis=-1)
        return y

    def backward(self, dy: Array) -> Array:
        """Give dx of shape (N, C, H, W): dy where the maximum was, and 0 elsewhere."""
        N, C, H, W = self.shape
        windows = np.zeros((*dy.shape, 4))
        np.put_along_axis(windows, self.winner[..., None], dy[..., None], axis=-1)
        dx: Array = windows.reshape(N, C, H // 2, W // 2, 2, 2).swapaxes(3, 4).reshape(N, C, H, W)
        return dx


class MeanInsteadOfSum(Affine):
    """The usual mistake: the bias gradient is averaged over the batch, and the learning rate gets the blame."""

    def backward(self, dy: Array) -> Array:
        """As above, but for db."""
        dx = super().backward(dy)
        self.db = dy.mean(axis=0)
        return dx


def main() -> dict[str, Report]:
    """Verify three layers, print what is found, and give the reports by the layers' names."""
    rng = np.random.default_rng(0)
    subjects = {
        "Affine": (Affine(6, 3, rng), rng.normal(size=(5, 6))),
        "MaxPool": (MaxPool(), rng.normal(size=(2, 3, 4, 6))),
        "MeanInsteadOfSum": (MeanInsteadOfSum(6, 3, rng), rng.normal(size=(5, 6))),
    }
    reports = {name: check(layer, x) for name, (layer, x) in subjects.items()}
    for report in reports.values():
        print(report, end="\n\n")
    return reports


if __name__ == "__main__":
    main()
