import sys
from pathlib import Path

import pytest

# The detectors and the made sets of the detection tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "detection"))


@pytest.fixture(scope="module", autouse=True)
def unformatted_configs():
    """A Runner formats its config several times for the log, which takes longer than all else of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda code, **_: (code, True), raising=False)
        yield
