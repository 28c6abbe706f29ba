"""The words for what the system says of files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llie_preproc.errors import one_line, why_failed

TEXTS = st.text(max_size=12)
NAMES = st.one_of(st.none(), st.integers(), TEXTS, st.binary(max_size=12), TEXTS.map(Path), st.builds(OSError))


@given(number=st.sampled_from(sorted(errno.errorcode)), first=NAMES, second=NAMES, own=st.booleans())
def test_any_error_of_the_system_is_one_line_that_names_its_files(
    number: int, first: object, second: object, own: bool
) -> None:
    words = "Cannot read /data/directory/x" if own else os.strerror(number)
    error = OSError(number, words, first, None, second)
    line = one_line(error)
    assert "\n" not in line
    assert not line.startswith(": ")
    assert why_failed("x", error)
    if own:
        assert line.endswith(words) or isinstance(error, FileExistsError)
    for name in (first, second):
        if isinstance(name, Path) and str(name).isprintable() and str(name).strip() == str(name):
            assert " ".join(str(name).split()) in line or "\\" in line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), Path("b.json")), "b.json: no such file or folder"),
        (OSError(errno.EBADF, os.strerror(errno.EBADF), 99), "99: bad file descriptor"),
        (OSError(errno.EIO, b"boom"), "b'boom'"),
        (OSError("nothing of the system's"), "nothing of the system's"),
    ],
)  # fmt: skip
def test_its_words(error: OSError, line: str) -> None:
    assert one_line(error) == line


def test_what_stands_in_the_way_is_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in (tmp_path, tmp_path / "file"):
        with pytest.raises(FileExistsError) as raised:
            name.mkdir()
        assert one_line(raised.value) == f"{name}: a {'folder' if name == tmp_path else 'file'} has this name"


def test_the_reason_of_one_of_several_files_does_not_name_it_again() -> None:
    assert why_failed("x.png", ValueError("x.png: damaged\nmore")) == "damaged"
    assert why_failed("x.png", ValueError("\nfoo")) == "foo"
    assert "no such file" in why_failed("x.png", FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "a\nb.png"))
