"""nn_from_scratch: write a backward pass by hand, and prove it right.

The public names are loaded when they are first used, so that importing the package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nn_from_scratch.exports import lazy_exports

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nn_from_scratch.denoise.denoiser import Denoiser as Denoiser
    from nn_from_scratch.denoise.model import report_model as report_model
    from nn_from_scratch.engine import *
    from nn_from_scratch.parity.exchange import from_torch as from_torch
    from nn_from_scratch.parity.exchange import to_torch as to_torch
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        engine="*",
        parity__exchange="from_torch to_torch",
        denoise__model="report_model",
        denoise__denoiser="Denoiser",
    )
