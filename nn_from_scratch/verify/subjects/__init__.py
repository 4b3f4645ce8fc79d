"""Adapters: each form in which people write a backward, brought into the shape of `verify.protocol`."""

from nn_from_scratch.verify.subjects.recognition import FORMS, as_subject

__all__ = ["FORMS", "as_subject"]
