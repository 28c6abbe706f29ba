"""SAM's ViT-B at its full size runs from the shell within its memory, and gives equal masks on a GPU."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as mask_utils

from tests.support.sam_models import picture

_LIMIT_GIB = 6.0
_RUN = """
import resource, sys
from llie_preproc.commands.llie import main
status = main(sys.argv[1:])
print(status, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow(45)
def test_vit_b_from_the_shell_to_masks_within_six_gibibytes(tmp_path):
    """One command enhances, encodes, and makes masks from box prompts, as a user runs it."""
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    Image.fromarray(picture(0, 120, 160)).save(images / "0.png")
    box = dict(id=1, image_id=1, category_id=1, bbox=[40, 30, 50, 40], area=2000, iscrowd=0)
    truth = dict(
        images=[dict(id=1, file_name="0.png", width=160, height=120)],
        annotations=[box],
        categories=[dict(id=1, name="face")],
    )
    (tmp_path / "boxes.json").write_text(json.dumps(truth))
    arguments = [
        "sam", "--images", images, "--boxes", tmp_path / "boxes.json", "--sam", "vit_b", "--enhancer", "psenet",
        "--out", out,
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *map(str, arguments)], capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stderr
    status, peak = done.stdout.splitlines()[-1].split()
    assert int(status) == 0
    # The parameters alone take a third of a gibibyte.
    assert 1.0 < float(peak) < _LIMIT_GIB
    (mask,) = json.loads((out / "masks" / "boxes" / "psenet.json").read_text())
    assert mask_utils.decode(mask["segmentation"]).shape == (120, 160)
    assert json.loads((out / "results.json").read_text())["trained"] is False


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_vit_b_on_a_gpu_gives_the_masks_of_the_cpu(no_tf32):
    from llie_preproc.segmentation import EnhancedSamPredictor, build_sam

    torch.manual_seed(0)
    sam = build_sam("vit_b")
    image, box = picture(1, 90, 160), np.array([20, 10, 120, 80])
    logits = []
    for device in ("cpu", "cuda"):
        predictor = EnhancedSamPredictor(sam.to(device), "PSENet")
        predictor.set_image(image)
        logits.append(predictor.predict(box=box, return_logits=True)[0])
    np.testing.assert_allclose(logits[1], logits[0], atol=2e-2 * np.abs(logits[0]).max())
