"""What the fixture `gradcheck` gives to a test. Importing this imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nn_from_scratch.testing import GradcheckCase, Trial
from nn_from_scratch.testing.options import selected_checks, setting

if TYPE_CHECKING:
    from nn_from_scratch.verify import Report


#: Where an item of pytest keeps the reports of its verifications, as JSON.
REPORTS = pytest.StashKey[list[str]]()


#: The test that a session is running, for a fixture that outlives it.
RUNNING = pytest.StashKey[pytest.Item]()


class Gradcheck:
    """What the fixture `gradcheck` gives: call it with a subject and its inputs."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def __call__(self, subject: Any, *inputs: Any, **options: Any) -> Report:
        """Verify a backward pass, and fail the test unless it is proven right.

        Args:
            subject: whatever `nn_from_scratch.verify.check` takes, a `GradcheckCase`, or a `Trial` of a catalogue;
                a trial that does not apply to its subject skips the test.
            inputs: what it is called with: tensors or arrays; a tuple of integers stands for a drawn tensor of that
                shape.
            options: options of `nn_from_scratch.verify.check`; they go before those of the command line.
        """
        __tracebackhide__ = True
        from nn_from_scratch.errors import NNFromScratchError

        config, item = self._config, self._config.stash[RUNNING]
        case = subject if isinstance(subject, GradcheckCase | Trial) else GradcheckCase(subject, *inputs)
        chosen = {
            "seed": setting(config, "seed"),
            "level": setting(config, "level"),
            "checks": selected_checks(config),
            "fragile": setting(config, "fragile"),
            "strict": setting(config, "strict"),
            **options,
        }
        try:
            report = self._run_trial(case, chosen) if isinstance(case, Trial) else self._check(case, chosen, options)
        except NNFromScratchError as error:
            pytest.fail(f"gradcheck: {type(error).__name__}: {error}", pytrace=False)
        item.stash.setdefault(REPORTS, []).append(report.to_json(indent=None))
        item.user_properties += [
            ("nnfs_subject", report.subject),
            ("nnfs_verdict", str(report.verdict)),
            ("nnfs_worst_margin", "none" if report.worst_margin is None else f"{report.worst_margin:.3g}"),
            ("nnfs_seed", report.seed),
        ]
        # To be exempted from what does not apply is no exemption: the test passes, which it strictly must not.
        in_vain = isinstance(case, Trial) and case.exemption is not None and not _applies(report)
        if not report.passed and not in_vain:
            pytest.fail(str(report))  # which shows the line of the test that called this, and none of ours
        return report

    def _check(self, case: GradcheckCase, chosen: dict[str, Any], options: dict[str, Any]) -> Report:
        from nn_from_scratch.verify import check

        chosen = {**chosen, **case.options, **options}
        return check(case.subject, *case.draw_inputs(seed=chosen["seed"]), **chosen)

    def _run_trial(self, trial: Trial, chosen: dict[str, Any]) -> Report:
        __tracebackhide__ = True
        from nn_from_scratch.verify.catalogue import checks_of, run_trial

        if not checks_of(trial, chosen["checks"]):
            pytest.skip(f"{trial.check} is not among the chosen checks: {', '.join(chosen['checks'])}")
        report = run_trial(trial, **chosen)
        if not _applies(report) and trial.exemption is None:
            reasons = {result.reason for result in report.results if result.reason is not None}
            pytest.skip("; ".join(sorted(reasons)))
        return report


def _applies(report: Report) -> bool:
    """Whether a check found something to verify: remarks on other inputs alone verify nothing."""
    return report.counts["not_applicable"] + report.counts["limit"] < len(report.results)
