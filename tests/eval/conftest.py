import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from llie_preproc.commands.llie import main


@pytest.fixture
def evaluate(capsys):
    """Runs ``llie`` inside this process: its exit status, and what it printed to both streams."""

    def run(*arguments):
        try:
            code = main(list(map(str, arguments)))
        except SystemExit as error:
            code = error.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
