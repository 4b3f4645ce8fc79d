"""Less common forms of layers, pairs and arrays; each is understood, or refused in a sentence."""

from __future__ import annotations

import types
from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify import Verdict, check
from nn_from_scratch.verify.protocol import Subject
from nn_from_scratch.verify.subjects import as_subject
from nn_from_scratch.verify.subjects.arrays import as_gradient
from nn_from_scratch.verify.subjects.layer_parameters import Place
from nn_from_scratch.verify.subjects.reachable import attribute_at, substitute

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3))
W0 = RNG.normal(size=(4, 3))


class Scaled:
    """y = x * w; the subclasses say where w and its gradient are."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return x * self.held()

    def backward(self, dy: Any) -> Any:
        self.keep(self.x * dy)
        return dy * self.held()

    def held(self) -> Any:
        return self.w  # type: ignore[attr-defined]

    def keep(self, gradient: Any) -> None:
        self.gradient = gradient


class OneGradientOfItsShape(Scaled):
    def __init__(self) -> None:
        self.w, self.scale = W0.copy(), np.ones(7)


class NamedGradients(Scaled):
    def __init__(self) -> None:
        self.w, self.gradients = W0.copy(), {"unrelated": np.ones(2)}

    def keep(self, gradient: Any) -> None:
        self.gradients = {"unrelated": np.ones(2), "d_w": gradient}


class DictionariesWithMore(Scaled):
    """Beside w: a count, which is no parameter, and a weight whose gradient is nowhere."""

    def __init__(self) -> None:
        self.params = {"w": W0.copy(), "calls": 0, "frozen": np.ones(2)}
        self.grads: dict[str, Any] = {}

    def held(self) -> Any:
        return self.params["w"]

    def keep(self, gradient: Any) -> None:
        self.grads = {"dw": gradient}


class Weight:
    def __init__(self, value: Any) -> None:
        self.value, self.grad = value, np.zeros_like(value)


class ByName(Scaled):
    """`params()` wants an argument, so `parameters()` is asked: a dictionary of parameter objects."""

    def __init__(self) -> None:
        self.weight = Weight(W0.copy())

    def params(self, which: str) -> str:
        return which

    def parameters(self) -> dict[str, Weight]:
        return {"scale": self.weight}

    def held(self) -> Any:
        return self.weight.value

    def keep(self, gradient: Any) -> None:
        self.weight.grad = gradient


class Generated(ByName):
    """`params()` counts; `parameters()` yields the objects one by one, and one that is not a parameter."""

    def params(self) -> int:  # type: ignore[override]
        return 1

    def parameters(self) -> Iterator[Any]:  # type: ignore[override]
        yield self.weight
        yield "a string"


class Dotted(Scaled):
    """w is a parameter object in an attribute."""

    def __init__(self) -> None:
        self.kernel = Weight(W0.copy())

    def held(self) -> Any:
        return self.kernel.value

    def keep(self, gradient: Any) -> None:
        self.kernel.grad = gradient


class ArrayWithGradient(np.ndarray):
    pass


class OnTheArray(Scaled):
    """The gradient is an attribute of an array subclass."""

    attribute = "gradient"

    def __init__(self) -> None:
        self.w = W0.copy().view(ArrayWithGradient)
        setattr(self.w, self.attribute, None)

    def held(self) -> Any:
        return np.asarray(self.w)

    def keep(self, gradient: Any) -> None:
        setattr(self.w, self.attribute, gradient)


class GradOnTheArray(OnTheArray):
    attribute = "grad"


class GradOfTensor(Scaled):
    def __init__(self) -> None:
        self.w = torch.tensor(W0)

    def keep(self, gradient: Any) -> None:
        self.w.grad = gradient


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (OneGradientOfItsShape, "w"),
        (NamedGradients, "w"),
        (DictionariesWithMore, "w"),
        (ByName, "scale"),
        (Generated, "weight"),
        (Dotted, "kernel"),
        (GradOfTensor, "w"),
    ],
)
def test_a_parameter_is_found_and_its_wrong_gradient_too(make: type[Scaled], name: str) -> None:
    x = torch.tensor(X) if make is GradOfTensor else X
    assert as_subject(make(), x).traits.parameter_gradients == "overwrites"
    right = check(make(), x, checks="gradient")
    assert {result.tensor for result in right.results} == {"x", name} and right.passed, str(right)

    class Wrong(make):  # type: ignore[valid-type, misc]
        def keep(self, gradient: Any) -> None:
            super().keep(2 * gradient)

    wrong = check(Wrong(), x, checks="gradient")
    assert [r.tensor for r in wrong.results if r.verdict is Verdict.WRONG] == [name]


@pytest.mark.parametrize("make", [OnTheArray, GradOnTheArray])
def test_a_gradient_on_an_array_of_its_own_class_is_found(make: type[Scaled]) -> None:
    subject = as_subject(make(), X)
    assert [operand.name for operand in subject.operands] == ["x", "w"]


def test_a_place_in_a_list_a_dictionary_and_an_object_is_read_and_written() -> None:
    owner = types.SimpleNamespace(grads=[1.0, {"w": 2.0}], dw=None)
    for path in ("grads.0", "grads.1.w", "dw"):
        place = Place("w", path, path)
        place.set_gradient(owner, path)
        assert place.gradient(owner) == path == attribute_at(owner, path)
    assert Place("w", "dw", "grads.5").gradient(owner) is None


Cache = namedtuple("Cache", "x rest")


def test_an_array_is_replaced_wherever_it_is_held_and_nothing_else() -> None:
    old, new, other = np.ones(2), np.zeros(2), np.full(2, 7.0)
    owner = types.SimpleNamespace(a=old, held=[old, other], pair=(other, old), cache=Cache(old, {"k": old}), text="old")
    owner.itself, kept = owner, (other, "same")
    owner.kept = kept
    assert substitute(owner, {id(old): new}) == 5
    assert owner.a is owner.held[0] is owner.pair[1] is owner.cache.x is owner.cache.rest["k"] is new
    assert isinstance(owner.cache, Cache) and owner.kept is kept and owner.held[1] is owner.pair[0] is other


def sine(x: Any) -> tuple[Any, Any]:
    return np.sin(x), x


def by_cosine(dy: Any, x: Any) -> Any:
    return dy * np.cos(x)


def with_star(*arguments: Any) -> Any:
    return by_cosine(*arguments)


def three(dy: Any, x: Any, more: Any, most: Any) -> Any:
    return dy


def test_a_pair_whose_backward_takes_any_number_is_understood_by_what_the_forward_returns() -> None:
    assert check((sine, with_star), X, checks="gradient").passed
    assert check((lambda x: 3 * x, lambda *dy: 3 * dy[0]), X, checks="gradient").passed
    # A callable without a signature: NumPy's own functions have none that can be inspected.
    assert check((lambda x: -x, np.negative), X, checks="gradient", cache=False).passed


def test_a_pair_whose_backward_takes_too_many_arguments_is_refused_with_both_counts() -> None:
    with pytest.raises(SubjectError, match=r"takes 4 arguments, but forward returned a tuple of length 2"):
        as_subject((sine, three), X)


def test_a_pair_that_is_said_to_have_a_cache_has_to_return_one() -> None:
    with pytest.raises(SubjectError, match=r"but its backward takes a cache; \(y, cache\) is expected"):
        as_subject((np.sin, by_cosine), X, cache=True)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda s: s.run({}, frozen=["x"]), "cannot be told that an input is frozen"),
        (lambda s: s.backward_together([s.run({})], [{}]), "nothing sums the gradients of several calls"),
        (lambda s: s.rebuilt(object()), "only objects with state are copied"),
        (lambda s: s.run({}).backward_onto({}, {}), "returns its gradients; it keeps none in fields"),
        (lambda s: s.run({"x": torch.ones(4, 3, dtype=torch.bfloat16)}), "cannot be handed over as a NumPy array"),
    ],
)
def test_what_a_pair_cannot_do_is_said(use: Callable[[Subject], Any], message: str) -> None:
    with pytest.raises(SubjectError, match=message):
        use(as_subject((sine, by_cosine), X))


def test_gradients_come_as_arrays_of_any_stride_and_as_numbers() -> None:
    turned = as_gradient(X[::-1], "x", "f")
    assert isinstance(turned, Tensor) and torch.equal(turned, torch.tensor(X).flip(0))
    assert as_gradient(np.float64(2.5), "x", "f") == torch.tensor(2.5)
    with pytest.raises(SubjectError, match="the gradient of x that f returned is unusable"):
        as_gradient(np.array(["a"]), "x", "f")
    with pytest.raises(SubjectError, match="backward of f returned a str as the gradient of x"):
        as_gradient("a", "x", "f")


def two_outputs(x: Any) -> tuple[Any, Any, Any]:
    return x * 2, 7, x


def test_a_pair_may_return_what_has_no_cotangent_and_leave_constants_out() -> None:
    def backward(dy: Any, x: Any) -> Any:
        assert dy[1] == 7, "what is no tensor comes back as it was"
        return {"dx": 2 * dy[0]}

    report = check((two_outputs, backward), X, checks="gradient")
    assert report.passed, str(report)


def test_a_gradient_for_a_constant_input_is_ignored_by_name_and_by_place() -> None:
    def scale(x: Any, n: Any) -> Any:
        return x * 3

    n = np.arange(3)
    for backward in (lambda dy: {"x": 3 * dy, "n": dy}, lambda dy: (3 * dy, dy), lambda dy: 3 * dy):
        assert check((scale, backward), X, n, checks="gradient").passed
    (result,) = check((scale, lambda dy: {"x": 3 * dy, "q": dy}), X, n, checks="gradient").results
    assert "returned a gradient called 'q'; the inputs are x, n" in str(result)
