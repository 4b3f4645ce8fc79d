"""Adapters: each form in which people write a backward, brought into the shape of `verify.protocol`.

A new form is one file in this folder: an adapter under `@Form(...)` that says what it accepts.
"""

from __future__ import annotations

import importlib
import pkgutil

from nn_from_scratch.verify.subjects.recognition import FORMS, Form, as_subject

__all__ = ["FORMS", "Form", "as_subject"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
