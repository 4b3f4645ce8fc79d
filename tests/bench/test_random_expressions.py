"""The verifier on a few random expressions; `python -m tests.bench.random_expressions` takes thousands."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.bench.random_expressions import (
    FAMILIES,
    FAULT,
    FAULTS,
    Expression,
    compose,
    is_visible,
    main,
    outcomes_of,
    planted_fault,
    totals,
)
from tests.functions import draw

pytestmark = [pytest.mark.bench, pytest.mark.filterwarnings("ignore")]


def test_an_expression_is_given_by_its_number() -> None:
    first, again = compose(7), compose(7)
    assert str(first) == str(again) != str(compose(8))
    for name, value in first.inputs.items():
        torch.testing.assert_close(value, again.inputs[name], rtol=0, atol=0)


def test_every_value_is_a_finite_number_and_depends_on_the_first_input() -> None:
    for number in range(100):
        expression = compose(number)
        value = expression.function(**expression.inputs)
        for y in value if isinstance(value, tuple) else (value,):
            assert y.numel() and y.isfinite().all(), expression
        assert next(iter(expression.inputs)) == "x"


def test_sizes_dtypes_and_functions_vary() -> None:
    expressions = [compose(number) for number in range(400)]
    sizes = [expression.scale for expression in expressions]
    assert min(sizes) < 1e-5 and max(sizes) > 1e5
    assert Counter(expression.dtype for expression in expressions)["float32"] == 100
    text = " ".join(expression.text for expression in expressions)
    used = [template for family in FAMILIES.values() for template in family if _name(template) in text]
    assert len(used) > 0.8 * sum(map(len, FAMILIES.values()))


def _name(template: str) -> str:
    return max(template.replace("{0}", " ").split("{")[0].split("(")[0].split(), key=len)


def test_right_gradients_are_not_accused_and_planted_faults_are_found() -> None:
    outcomes = [outcome for number in range(60) for outcome in outcomes_of(compose(number), "gradient")]
    assert sum(bool(outcome.planted) for outcome in outcomes) > 60
    assert [outcome.line() for outcome in outcomes if outcome.kind] == []


def test_a_fault_changes_one_entry_or_all_of_the_first_gradient() -> None:
    x = draw(4).requires_grad_()
    expression = Expression(0, "x.square()", {"x": x.detach()}, 1.0)
    true = 2 * x.detach()
    changed = {}
    for name, change in FAULTS.items():
        (found,) = torch.autograd.grad(planted_fault(expression, change)(x).sum(), x)
        changed[name] = (found != true).sum().item()
        torch.testing.assert_close(found, true, rtol=2 * FAULT, atol=0)
    assert changed == {"every entry": 4, "one entry": 1}


def test_no_fault_is_planted_where_nothing_could_see_it() -> None:
    def visible(text: str, x: Tensor) -> bool:
        return is_visible(Expression(0, text, {"x": x}, 1.0))

    assert visible("x.square()", draw(3)) and visible("(x.sin(), x[x > 0])", draw(3))
    assert not visible("1e12 + x.square()", draw(3))
    assert not visible("(1 + 1e-7 * x).exp().var()", 1e-5 * draw(3))
    assert not visible("x.abs().sqrt()", torch.zeros(3, dtype=torch.float64))


def test_a_wrong_expression_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = Expression(3, "x.square().detach() + x", {"x": draw(3)}, 1.0)
    outcomes = list(outcomes_of(wrong, "gradient"))
    assert outcomes[0].kind == "wrong"
    assert outcomes[0].line().startswith("[wrong] 3: x.square().detach() + x   at x (3,), float64")
    assert "right, float64: 1, of which 1 wrong\n    by check: 1 wrong gradient" in totals(outcomes)


def test_the_command_runs_in_processes_and_writes_its_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.jsonl"
    main(["--first", "6", "--count", "1", "--processes", "1", "--results", str(path)])
    assert path.read_text(encoding="utf-8").count('"number": 6') == 3
    assert "right, float64: 1" in capsys.readouterr().out
