"""A training step captured once and replayed: what it asks the device to do, without the Python around it.

On a CPU the operators of a step are recorded and made into a program with memory of its own (`recording`, `program`);
on CUDA they are captured into a graph (`graph`). Both hold for tensors of the same shapes, so `TrainingStep` keeps one
for each kind of batch, and goes on without where something else has changed.
"""

from nn_from_scratch.engine.capture.step import TrainingStep

__all__ = ["TrainingStep"]
