"""`python -m nn_from_scratch` is the command `nn-from-scratch`."""

from __future__ import annotations

import sys

from nn_from_scratch.cli import main

if __name__ == "__main__":
    sys.exit(main())
