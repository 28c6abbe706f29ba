"""A new inference option needs changes in two files only; then all functions, classes and commands have it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.places import copy_packages

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("segment_anything", reason="needs the extra 'sam'")

# The new option multiplies the output of a network. Each file has pairs of an old text and the new one.
CHANGES = {
    "llie_preproc/inference_options.py": [
        ("    batch_size: int\n", "    batch_size: int\n    gain: float\n"),
        (
            "    def __post_init__(self)",
            '    gain: float = _option(1.0, "factor of results", type=float)\n\n    def __post_init__(self)',
        ),
    ],
    "llie_preproc/inference.py": [(".to(batch.dtype)\n", ".to(batch.dtype) * options.gain\n")],
}
# The program prints the mean level that each function or class makes of a grey picture of level 100, then the help of
# the commands.
CONSUMERS = """
    import sys
    from pathlib import Path
    import cv2
    import numpy as np
    import torch
    from mmengine.config import Config
    from llie_preproc import FrozenEnhancer, InferenceOptions, enhance
    from llie_preproc.enhance_files import enhance_files, plan_jobs
    from llie_preproc.commands import llie
    from llie_preproc.detection import EnhancedDetector, Enhance, EnhancedDetDataPreprocessor, add_enhancer
    from llie_preproc.faces import EnhancedFaceDetector, Faces
    from llie_preproc.registry import MODELS, TRANSFORMS
    from llie_preproc.segmentation import EnhancedSamAutomaticMaskGenerator, EnhancedSamPredictor, build_sam
    from llie_preproc.video import enhance_video

    folder = Path(sys.argv[1])
    picture = np.full((64, 64, 3), 100, np.uint8)
    levels = torch.full((3, 64, 64), 100, dtype=torch.uint8)
    gain = dict(gain=0.5)
    found = {}
    found["enhance"] = enhance(picture, "identity", **gain)
    found["FrozenEnhancer"] = FrozenEnhancer("identity", InferenceOptions(**gain))(picture)
    found["Enhance"] = Enhance("identity", **gain)(dict(img=picture.copy()))["img"]
    found["EnhancedDetDataPreprocessor"] = EnhancedDetDataPreprocessor("identity", **gain).enhance_images([levels])[0]

    class Seeing:
        def detect(self, images):
            found["EnhancedFaceDetector"] = images[0]
            return [Faces.none() for _ in images]

    EnhancedFaceDetector(Seeing(), "identity", **gain).detect([picture])
    sizes = dict(img_size=32, patch_size=8, embed_dim=8, depth=1, num_heads=1, window_size=2, out_chans=8)
    sam = build_sam("small", **sizes, global_attn_indexes=(), decoder_heads=2, decoder_mlp_dim=8)
    found["EnhancedSamPredictor"] = EnhancedSamPredictor(sam, "identity", **gain).enhance(picture).pixels
    generator = EnhancedSamAutomaticMaskGenerator(sam, "identity", **gain)
    found["EnhancedSamAutomaticMaskGenerator"] = generator.predictor.enhance(picture).pixels

    detector = dict(
        type="mmdet.RetinaNet",
        backbone=dict(type="mmdet.ResNet", depth=18, num_stages=4, out_indices=(0, 1, 2, 3)),
        neck=dict(type="mmdet.FPN", in_channels=[64, 128, 256, 512], out_channels=8, num_outs=5),
        bbox_head=dict(type="mmdet.RetinaHead", num_classes=1, in_channels=8, stacked_convs=1, feat_channels=8),
        data_preprocessor=dict(type="mmdet.DetDataPreprocessor"),
    )
    found["EnhancedDetector"] = EnhancedDetector(detector, "identity", **gain).enhance_images([levels])[0]
    plain = Config(dict(model=detector, test_pipeline=[dict(type="LoadImageFromFile"), dict(type="PackDetInputs")]))
    for door in ("transform", "preprocessor", "detector"):
        cfg = add_enhancer(plain, "identity", door=door, **gain)
        if door == "transform":
            found[door] = TRANSFORMS.build(cfg.test_pipeline[1])(dict(img=picture.copy()))["img"]
        elif door == "preprocessor":
            found[door] = MODELS.build(cfg.model.data_preprocessor).enhance_images([levels])[0]
        else:
            found[door] = MODELS.build(cfg.model).enhance_images([levels])[0]

    cv2.imwrite(str(folder / "in.png"), picture)
    plan = plan_jobs(folder / "in.png", folder / "out.png")
    network = FrozenEnhancer("identity").enhancer
    assert [reason for _, reason in enhance_files(plan.jobs, network, **gain)] == [None]
    found["enhance_files"] = cv2.imread(str(folder / "out.png"))
    writer = cv2.VideoWriter(str(folder / "in.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    writer.write(picture)
    writer.release()
    enhance_video(folder / "in.avi", folder / "out.avi", network, **gain)
    found["enhance_video"] = cv2.VideoCapture(str(folder / "out.avi")).read()[1]
    for name, result in found.items():
        print("RESULT", name, round(float(np.asarray(result, np.float32).mean())))
    for command in ("enhance", "compare", "quality", "faces", "sam", "demo"):
        try:
            llie.main([command, "--help"])
        except SystemExit:
            pass
"""


@pytest.mark.slow
def test_an_option_is_added_in_two_files(tmp_path: Path) -> None:
    copy_packages(tmp_path)
    assert len(CHANGES) == 2
    for file, changes in CHANGES.items():
        text = (tmp_path / file).read_text()
        for old, new in changes:
            assert text.count(old) == 1
            text = text.replace(old, new)
        (tmp_path / file).write_text(text)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(CONSUMERS), str(tmp_path)],
        env=dict(os.environ, PYTHONPATH=str(tmp_path)), cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = dict(line.split()[1:] for line in done.stdout.splitlines() if line.startswith("RESULT"))
    assert len(results) == 13
    assert {name for name, level in results.items() if abs(int(level) - 50) > 2} == set()
    assert done.stdout.count("--gain") >= 6
