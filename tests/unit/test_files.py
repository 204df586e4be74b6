"""A file is whole or not there, whatever ends the writing."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.errors import CommandError
from services.cli.files import whole_file

WRITES = """
import sys, time
from pathlib import Path
from services.cli.errors import CommandError
from services.cli.files import whole_file

try:
    with whole_file(Path(sys.argv[1])) as file:
        for number in range(20_000):
            file.write(f"line {number}\\n")
        print("half way", flush=True)
        time.sleep(float(sys.argv[2]))
except CommandError as error:
    sys.exit(str(error))
"""


def writing(path: Path, *, seconds: float = 0, most_bytes: int | None = None) -> subprocess.Popen[str]:
    """Another process that writes the file and, half way, sleeps."""

    def limit() -> None:
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    return subprocess.Popen(
        [sys.executable, "-c", WRITES, str(path), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
    )


def test_a_file_is_there_when_all_of_it_is_and_lies_beside_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with whole_file(path) as file:
        file.write("ä\n")
        assert not path.exists()
    assert path.read_bytes() == "ä\n".encode()
    assert os.listdir(tmp_path) == ["out.csv"]


def test_an_error_half_way_leaves_the_older_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("older")

    def fail() -> None:
        with whole_file(path) as file:
            file.write("newer" * 100_000)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "older"
    assert os.listdir(tmp_path) == ["out.csv"]


def test_an_interrupted_process_leaves_the_older_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("older")
    process = writing(path, seconds=60)
    assert process.stdout is not None
    assert process.stdout.readline() == "half way\n"
    assert len(os.listdir(tmp_path)) == 2
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in said
    assert path.read_text() == "older"
    assert os.listdir(tmp_path) == ["out.csv"]


@pytest.mark.parametrize("most_bytes", [0, 1000, 180_000])
def test_where_there_is_no_more_room_nothing_is_left(tmp_path: Path, most_bytes: int) -> None:
    path = tmp_path / "out.csv"
    process = writing(path, most_bytes=most_bytes)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (1, f"{path} cannot be written: File too large\n")
    assert os.listdir(tmp_path) == []


def test_a_file_of_others_is_new_as_the_umask_has_it_and_a_private_one_stays_private(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        for name in ("new", "private"):
            if name == "private":
                (tmp_path / name).touch(mode=0o600)
            with whole_file(tmp_path / name):
                pass
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("new", "private")] == [0o640, 0o600]


def test_what_a_symbolic_link_stands_for_is_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "folder" / "out.csv")
    for content in ("first", "second"):
        with whole_file(link) as file:
            file.write(content)
        assert (tmp_path / "folder" / "out.csv").read_text() == content
    assert link.is_symlink()
    assert os.listdir(tmp_path / "folder") == ["out.csv"]


def test_a_name_as_long_as_names_can_be_fits(tmp_path: Path) -> None:
    with whole_file(tmp_path / ("x" * 255)) as file:
        file.write("whole")
    assert (tmp_path / ("x" * 255)).read_text() == "whole"


def test_where_it_cannot_be_written_a_sentence_says_so_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    sentences = {
        tmp_path: "is a folder",
        tmp_path / "missing" / "out.csv": "there is no folder",
        tmp_path / "file" / "out.csv": "cannot be written: Not a directory",
        tmp_path / "loop": "cannot be written: Too many levels of symbolic links",
        tmp_path / "pipe": "is no regular file",
        tmp_path / ("x" * 256): "cannot be written: File name too long",
        Path("/dev/full"): "is no regular file",
        Path("/dev/null"): "is no regular file",
        Path("/proc/out.csv"): "cannot be written",
    }
    for path, sentence in sentences.items():
        with pytest.raises(CommandError, match=sentence), whole_file(path):
            pytest.fail(f"{path} was opened")


@pytest.fixture
def folder_of_somebody() -> Iterator[Path]:
    """A folder of somebody who may not do everything, as which the test runs."""
    folder = Path(tempfile.mkdtemp(prefix="ly-"))
    own = os.geteuid()
    if own == 0:
        os.chown(folder, 65534, -1)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(own)
        shutil.rmtree(folder)


def test_a_file_or_folder_that_is_not_to_be_written_is_not(folder_of_somebody: Path) -> None:
    (folder_of_somebody / "file").touch(mode=0o400)
    (folder_of_somebody / "folder").mkdir(mode=0o500)
    for path in (folder_of_somebody / "file", folder_of_somebody / "folder" / "out.csv"):
        with pytest.raises(CommandError, match="cannot be written: Permission denied"), whole_file(path):
            pytest.fail(f"{path} was opened")
    assert sorted(os.listdir(folder_of_somebody)) == ["file", "folder"]
