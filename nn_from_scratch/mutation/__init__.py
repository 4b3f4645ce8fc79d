"""Mutation testing for backward passes: are the tests good enough to fail on a wrong one?

Faulty variants of a function, its mutants, are of two kinds: by an edit of its Python source (`source`), and by a
fault in what it returns (`result_faults`: a sign, a factor, a stale gradient, ...). The pytest suite of the project
is run against each of them, and a mutant that no test kills is a hole in the tests.

The tests are collected once a process; a mutant is put in place by exchanging the code of the live function, in a
process forked for it alone. No file is changed, and only tests that reach the function are run.
"""
