"""A catalogue of subjects, as data, and the pyramid of checks over it; it knows nothing of this package's engine.

An entry names a class, its cases, and the class or function of torch that it must equal; `trials_of` makes of a
catalogue one trial for each case, dtype, device and check, and `run_trial` runs one of them.
`nn_from_scratch.testing.pyramid` runs a test once for each. Importing it imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nn_from_scratch.exports import lazy_exports

if TYPE_CHECKING:
    from nn_from_scratch.verify.catalogue.cases import CHECKS as CHECKS
    from nn_from_scratch.verify.catalogue.cases import Case as Case
    from nn_from_scratch.verify.catalogue.cases import Entry as Entry
    from nn_from_scratch.verify.catalogue.cases import Exemption as Exemption
    from nn_from_scratch.verify.catalogue.cases import OptimizerSpec as OptimizerSpec
    from nn_from_scratch.verify.catalogue.cases import Reference as Reference
    from nn_from_scratch.verify.catalogue.cases import Shape as Shape
    from nn_from_scratch.verify.catalogue.cases import Spec as Spec
    from nn_from_scratch.verify.catalogue.cases import name_of as name_of
    from nn_from_scratch.verify.catalogue.run import checks_of as checks_of
    from nn_from_scratch.verify.catalogue.run import run_trial as run_trial
    from nn_from_scratch.verify.catalogue.trials import Trial as Trial
    from nn_from_scratch.verify.catalogue.trials import trials_of as trials_of
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        cases="CHECKS Case Entry Exemption OptimizerSpec Reference Shape Spec name_of",
        run="checks_of run_trial",
        trials="Trial trials_of",
    )
