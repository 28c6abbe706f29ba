"""``llie finetune`` in two processes ends with the same weights in both, for every preset."""

import pytest
import torch

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")

from llie_preproc import build_enhancer
from llie_preproc.mm.runner_parts import read_checkpoint
from tests.support import finetune_runs
from tests.support.finetune_runs import last_state, make, part, same

PRESETS = ("joint", "staged", "enhancer-only", "frozen")


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights(tmp_path, programs):
    tiny = make(tmp_path)
    done = programs.run_together(2, finetune_runs.__file__, tmp_path, *PRESETS)
    assert done.returncode == 0, done.stderr[-3000:]
    start = {
        "detector": read_checkpoint(tiny.detector)["state_dict"],
        "enhancer": build_enhancer("PSENet").state_dict(),
    }
    trained = {
        "joint": {"detector", "enhancer"},
        "staged": {"detector", "enhancer"},
        "enhancer-only": {"enhancer"},
        "frozen": {"detector"},
    }
    for preset in PRESETS:
        first, second = (torch.load(tmp_path / preset / f"rank{rank}.pth", weights_only=True) for rank in (0, 1))
        assert same(first, second), preset
        for state in (first, last_state(tmp_path / preset)):
            changed = {name for name, weights in start.items() if not same(weights, part(state, name))}
            assert changed == trained[preset], preset
