import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from detection_eval.__main__ import main


@pytest.fixture
def evaluate(capsys):
    """Runs ``python -m detection_eval`` inside this process: its exit status, and what it printed to both streams."""

    def run(*arguments):
        try:
            code = main(list(map(str, arguments)))
        except SystemExit as error:
            code = error.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
