"""A U-Net: a model that branches and joins, written as a Container, verified, and trained.

    python examples/unet.py                # half a minute on two cores
    python examples/unet.py --steps 40

Each level of the encoder hands its output to the decoder as well, past the levels below it. The backward of such a
graph is nobody's business: the walk through the records adds the two gradients up where the branches part.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.denoise.data import load_pairs
from nn_from_scratch.verify import Report, check


class Block(nn.Container):
    """Two convolutions of 3 x 3 with SiLU: (N, C, H, W) to (N, C', H, W)."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator, dtype: torch.dtype) -> None:
        super().__init__()

        def convolution(c: int) -> nn.Conv2d:
            return nn.Conv2d(c, outputs, 3, padding=1, generator=generator, dtype=dtype)

        self.layers = nn.Sequential(convolution(inputs), nn.SiLU(), convolution(outputs), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        """Give the output of the last layer."""
        return self.layers(x)


class UNet(nn.Container):
    """(N, 3, H, W) to the same shape, for H and W multiples of 4.

    Args:
        width: channels of the first level; each level below has twice as many.
        seed: of the initial weights.
        dtype: of the parameters.
    """

    def __init__(self, width: int = 12, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def up(c: int) -> nn.TransposeConv2d:
            return nn.TransposeConv2d(2 * c, c, 2, stride=2, generator=generator, dtype=dtype)

        self.down_1 = Block(3, width, generator, dtype)
        self.down_2 = Block(width, 2 * width, generator, dtype)
        self.bottom = Block(2 * width, 4 * width, generator, dtype)
        self.up_2, self.up_1 = up(2 * width), up(width)
        self.merge_2 = Block(4 * width, 2 * width, generator, dtype)
        self.merge_1 = Block(2 * width, width, generator, dtype)
        self.last = nn.Conv2d(width, 3, 1, generator=generator, dtype=dtype)
        self.half_1, self.half_2 = nn.MaxPool2d(2), nn.MaxPool2d(2)
        self.join_1, self.join_2 = nn.Concat(), nn.Concat()
        self.add = nn.Add()

    def forward(self, x: Tensor) -> Tensor:
        """Give the picture without its noise: x plus what the network makes of it."""
        a = self.down_1(x)  # (N, C, H, W)
        b = self.down_2(self.half_1(a))  # (N, 2C, H/2, W/2)
        c = self.bottom(self.half_2(b))  # (N, 4C, H/4, W/4)
        b = self.merge_2(self.join_2(self.up_2(c), b))
        a = self.merge_1(self.join_1(self.up_1(b), a))
        return self.add(x, self.last(a))


def verify() -> Report:
    """Compare the whole network's backward with its forward, every parameter by itself."""
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return check(UNet(2, dtype=torch.float64), x, checks="gradient")


def main(arguments: Sequence[str] = ()) -> tuple[Report, list[float]]:
    """Verify a small one, train a larger one on noisy pairs; give the report and the loss of each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args(arguments)

    report = verify()
    print(report)

    pairs = load_pairs(train_size=options.batch * min(options.steps, 200), validation_size=1)
    model, loss = UNet(), nn.MSE()
    optimizer = nn.Adam(model, lr=2e-3)
    losses: list[float] = []
    for step in range(options.steps):
        rows = torch.arange(step * options.batch, (step + 1) * options.batch) % len(pairs.train_noisy_a)
        x, target = (images[rows].float() / 255 for images in (pairs.train_noisy_a, pairs.train_noisy_b))
        optimizer.zero_grad()
        losses.append(float(loss(model(x), target)))
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == options.steps - 1:
            print(f"step {step}: loss {losses[-1]:.5f}")
    return report, losses


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
