"""What a wrong gradient may be: functions that `explanation.hypothesis` and `explanation.experiment` register.

Every file in this folder is imported with it, so that a function, or a file of them, is all that a new diagnosis takes.
"""

import importlib
import pkgutil

from nn_from_scratch.verify.diagnosis.explanation import HYPOTHESES

__all__ = ["HYPOTHESES"]

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
