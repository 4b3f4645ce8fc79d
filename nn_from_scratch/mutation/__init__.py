"""Mutation testing for backward passes: are the tests good enough to notice a wrong one?

Faulty variants of a function, its mutants, are made in two ways: by an edit of its Python source (`source`), and by a
fault in what it returns (`results`: a sign, a factor, a stale gradient, ...). The project's own pytest suite is run
against each of them, and a mutant that no test notices is a hole in the tests.

The tests are collected once a process; a mutant is put in place by exchanging the code of the live function, in a
process forked for it alone. No file is changed, and only tests that reach the function are run.
"""

from nn_from_scratch.mutation.campaign import Campaign
from nn_from_scratch.mutation.functions import Function, find_functions
from nn_from_scratch.mutation.mutant import Mutant
from nn_from_scratch.mutation.outcome import Outcome, Result
from nn_from_scratch.mutation.results import OPERATORS, result_mutants
from nn_from_scratch.mutation.source import source_mutants

__all__ = [
    "OPERATORS",
    "Campaign",
    "Function",
    "Mutant",
    "Outcome",
    "Result",
    "find_functions",
    "result_mutants",
    "source_mutants",
]
