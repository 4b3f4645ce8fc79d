"""Check any hand-written backward pass, and say what is wrong with it.

`check(subject, *inputs)` gives a `Report`; `explain(analytic, numeric)` names the fault of a gradient alone.
The names are loaded when they are first used, so that importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nn_from_scratch.exports import lazy_exports

if TYPE_CHECKING:
    from nn_from_scratch.verify.comparison import Mismatch as Mismatch
    from nn_from_scratch.verify.context import CheckContext as CheckContext
    from nn_from_scratch.verify.diagnosis import explain as explain
    from nn_from_scratch.verify.reports import Report as Report
    from nn_from_scratch.verify.results import CheckResult as CheckResult
    from nn_from_scratch.verify.results import Verdict as Verdict
    from nn_from_scratch.verify.subjects import as_subject as as_subject
    from nn_from_scratch.verify.verification import check as check
    from nn_from_scratch.verify.verification import check_descriptions as check_descriptions
    from nn_from_scratch.verify.verification import check_names as check_names
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        context="CheckContext",
        comparison="Mismatch",
        reports="Report",
        results="CheckResult Verdict",
        subjects="as_subject",
        verification="check check_descriptions check_names",
        diagnosis="explain",
    )
