"""Every exception that the project raises on purpose, in one hierarchy.

A message is one sentence that names the argument, its value and what would be right. Each class also derives
from the built-in exception that a caller would expect, so `except ValueError` keeps its meaning.
"""

from __future__ import annotations


class NNFromScratchError(Exception):
    """The base of all of them: whatever this project refuses, it refuses with one of these."""


def os_error_text(error: OSError) -> str:
    """What an error of the system says, with the file that it is about."""
    name = "" if error.filename is None else f"{str(error.filename)!r}: "
    return f"{name}{error.strerror or error}"


class ArgumentError(NNFromScratchError, ValueError):
    """An argument has a value that makes no sense here (a negative learning rate, an unknown name)."""


class OptionTypeError(ArgumentError, TypeError):
    """An argument is of another type than what is expected (a string for a number, a number for a function)."""


class ShapeError(ArgumentError):
    """A tensor has the wrong number of dimensions or the wrong size along one of them."""


class GeometryError(ShapeError):
    """A convolution's or a pooling's kernel, stride, padding, dilation or groups do not fit, or not its input."""


class CaptureError(NNFromScratchError, RuntimeError):
    """A training step cannot be recorded once and replayed, because the next one may do something else."""


class DtypeError(NNFromScratchError, TypeError):
    """A tensor has a dtype that cannot be differentiated, or another dtype than what it meets."""


class DeviceError(NNFromScratchError, ValueError):
    """Tensors that meet lie on different devices, or a device that was asked for is not there."""


class RecordError(NNFromScratchError, RuntimeError):
    """A backward pass found no usable record of its forward pass."""


class MissingRecordError(RecordError):
    """The record was cleared, or there never was one."""


class AmbiguousRecordError(RecordError):
    """Several records are pending and the cotangent does not say which one it belongs to."""


class ModifiedTensorError(RecordError):
    """A tensor that the backward pass needs was modified in place, or replaced, after the forward pass."""


class BaselineError(NNFromScratchError, RuntimeError):
    """A benchmark has nothing to be compared with, or not in an environment that allows it."""


class MissingDependencyError(NNFromScratchError, ModuleNotFoundError):
    """A package that only a part of this one needs is not installed."""


class StateDictError(NNFromScratchError, ValueError):
    """A state dictionary does not fit what it is loaded into."""


class CheckpointError(NNFromScratchError):
    """A checkpoint is missing, truncated, of another architecture, or holds values that are not finite."""


class DataError(NNFromScratchError):
    """Pictures or a data file are missing, unreadable, too small, or not of the stated form."""


class DivergenceError(NNFromScratchError, ArithmeticError):
    """The loss of a training run is no longer finite."""


class ReplicaError(NNFromScratchError, RuntimeError):
    """Another process of a data-parallel run has ended, or can no longer be reached."""


class SubjectError(NNFromScratchError, TypeError):
    """What was handed to the verifier is in none of the forms that it knows, or did not behave as its form says."""


class WrongGradientError(NNFromScratchError, AssertionError):
    """A backward pass was found wrong; the message is the report."""
