"""The report done again: each of its tables and figures beside the published one, and a verdict on each claim."""

from nn_from_scratch.reproduction.jobs import reproduce
from nn_from_scratch.reproduction.parts import Plan

__all__ = ["Plan", "reproduce"]
