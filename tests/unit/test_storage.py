from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nn_from_scratch.denoise.data.pictures import write_picture
from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.report.document import Conclusion, Document
from nn_from_scratch.report.results_file import publish, store
from nn_from_scratch.storage import (
    FOLDER_MARK,
    is_replaceable,
    prepare_folder,
    read_json_lines,
    remove_partial_files,
    write_atomically,
    write_json,
    write_results,
)


def test_content_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a POSIX signal")
def test_a_kill_while_writing_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from nn_from_scratch.storage import write_atomically\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(Path(sys.argv[1]), b'new')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    remove_partial_files(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_json_has_no_values_that_only_python_reads(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"psnr": float("inf"), "scores": [1.5, float("nan")], "names": ("a",)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"psnr": None, "scores": [1.5, None], "names": ["a"]}


def test_a_line_that_was_cut_off_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    assert read_json_lines(path) == []
    path.write_text('{"a": 1}\n{"a": 2}\n{"a', encoding="utf-8")
    assert read_json_lines(path) == [{"a": 1}, {"a": 2}]
    assert path.read_text(encoding="utf-8") == '{"a": 1}\n{"a": 2}\n'


@pytest.mark.parametrize("content", [b"def f(): ...\n", b"[[subjects]]\n", b'{"mine": 1}\n', b"\x89PNG\r\n\x1a\n"])
def test_a_file_of_somebody_else_is_not_replaceable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    assert is_replaceable(path)
    path.write_bytes(b"")
    assert is_replaceable(path)
    path.write_bytes(content)
    assert not is_replaceable(path)


def test_what_this_project_writes_is_replaceable(tmp_path: Path) -> None:
    document = Document("Title", Conclusion("passed", "All is well."), (), {}, ())
    publish(document, markdown=tmp_path / "a.md", html=tmp_path / "a.html")
    store(tmp_path / "a.json", "verification", {}, commands=())
    write_results(tmp_path / "b.json", {"mutants": 3})
    write_picture(tmp_path / "a.png", torch.zeros(3, 4, 4, dtype=torch.uint8))
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 5
    assert all(is_replaceable(path) and path.stat().st_size for path in paths)


def test_a_link_leads_to_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


@pytest.mark.skipif(os.name != "posix", reason="device nodes are POSIX files")
def test_a_device_and_a_pipe_are_written_to_and_stay(tmp_path: Path) -> None:
    write_atomically(Path("/dev/null"), b"new")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(Path("/dev/full"), b"new")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen([sys.executable, "-c", f"print(open({str(pipe)!r}).read())"], stdout=-1) as reader:
        write_atomically(pipe, b"through")
        assert reader.communicate(timeout=60)[0] == b"through\n"
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="there is no /dev/stdout")
def test_the_standard_output_that_is_a_file_is_added_to(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path\n"
        "from nn_from_scratch.storage import write_atomically\n"
        "print('before')\n"
        "write_atomically(Path('/dev/stdout'), b'content\\n')\n"
        "print('after')\n"
    )
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True, timeout=60)
    assert (tmp_path / "out").read_text() == "before\ncontent\nafter\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_ours_loses_our_files_alone(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    prepare_folder(folder, ours=("*.json",))
    (folder / "old.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    prepare_folder(folder, ours=("*.json",))
    assert sorted(path.name for path in folder.iterdir()) == [FOLDER_MARK, "notes.txt"]


def test_a_folder_of_somebody_else_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "campaign.json").write_text("{}")
    with pytest.raises(ArgumentError, match="which holds something else; name a new or an empty one"):
        prepare_folder(tmp_path, ours=("campaign.json",))
    assert [path.name for path in tmp_path.iterdir()] == ["campaign.json"]
