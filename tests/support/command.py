"""The ``llie`` command, run inside this process."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import pytest

from llie_preproc.commands.llie import main


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def llie(capsys: pytest.CaptureFixture) -> Run:
    """A function that runs the command inside this process."""

    def run(*arguments: object) -> Result:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = int(error.code or 0)
        return Result(code, *capsys.readouterr())

    return run


def one_line(result: Result, *parts: str) -> None:
    """Assert a user's error: status 2, and one line on stderr that holds ``parts``, without a traceback."""
    assert result.code == 2
    assert re.fullmatch(r"llie: error: [^\n]+\n", result.err)
    for part in parts:
        assert part in result.err
