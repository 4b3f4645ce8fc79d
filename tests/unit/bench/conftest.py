"""The command line, as the tests of the commands have it."""

from __future__ import annotations

from tests.unit.cli.conftest import command

__all__ = ["command"]
