"""The public names of the data folder."""

from __future__ import annotations

import subprocess
import sys

from nn_from_scratch.denoise import data


def test_the_exported_names_exist_and_are_sorted() -> None:
    # As the linter sorts them: constants, classes, functions.
    groups = [str.isupper, lambda name: name[0].isupper() and not name.isupper(), str.islower]
    assert data.__all__ == [name for group in groups for name in sorted(filter(group, data.__all__))]
    assert all(hasattr(data, name) for name in data.__all__)


def test_importing_the_data_folder_imports_neither_pillow_nor_scikit_image() -> None:
    code = (
        "import sys, nn_from_scratch.denoise.data; print([name for name in ('PIL', 'skimage') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
