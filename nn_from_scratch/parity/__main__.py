"""`python -m nn_from_scratch.parity`: the error of the report's model beside torch's, from layer to layer."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch

from nn_from_scratch.engine.layers import Conv2d, ReLU, Sigmoid, TransposeConv2d
from nn_from_scratch.engine.module import Sequential
from nn_from_scratch.parity.follow import follow, table


def main() -> None:
    """Print the table for the report's model, in float64 and in float32."""
    parser = argparse.ArgumentParser(prog="python -m nn_from_scratch.parity", description=main.__doc__)
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="how many pictures (default: 4)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and pictures (default: 0)")
    arguments = parser.parse_args()
    for dtype in (torch.float64, torch.float32):
        generator = torch.Generator().manual_seed(arguments.seed)
        common: Any = {"kernel_size": 4, "stride": 2, "generator": generator, "dtype": dtype}
        model = Sequential(  # report, Listing 3
            *(Conv2d(3, 16, padding=1, **common), ReLU()),
            *(Conv2d(16, 32, **common), ReLU()),
            *(TransposeConv2d(32, 16, **common), ReLU()),
            *(TransposeConv2d(16, 3, padding=1, **common), Sigmoid()),
        )
        x, target = (torch.rand(arguments.batch, 3, 32, 32, dtype=dtype, generator=generator) for _ in range(2))
        name = str(dtype).removeprefix("torch.")
        sys.stdout.write(table(follow(model, x, target), f"the report's model beside torch's, {name}") + "\n")


if __name__ == "__main__":
    main()
