"""The report done again: each of its tables and figures beside what it published, and what became of each claim."""

from nn_from_scratch.reproduction.plan import Plan
from nn_from_scratch.reproduction.running import reproduce

__all__ = ["Plan", "reproduce"]
