"""On a CUDA device face detectors give the losses, gradients and detections that they give on the CPU."""

import copy

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch

from llie_preproc.faces import EnhancedFaceDetector
from tests.support.dsfd_models import build, raw_batch, tiny, tiny_release

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.usefixtures("no_tf32"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("model", [tiny(), tiny_release()], ids=["plain", "deep"])
def test_losses_and_gradients_are_those_of_the_cpu(model):
    found = {}
    for device in ("cpu", DEVICE):
        detector = build(model).to(device).train()
        # The batch statistics of so few pixels differ by more than rounding.
        for module in detector.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
        data = detector.data_preprocessor(copy.deepcopy(raw_batch()), training=True)
        losses = detector.loss(data["inputs"], data["data_samples"])
        sum(losses.values()).backward()
        norm = torch.stack([p.grad.norm() for p in detector.parameters() if p.grad is not None]).norm()
        found[device] = {**{k: float(v) for k, v in losses.items()}, "gradient": float(norm)}
    assert found["cpu"]["gradient"] > 0
    assert found[DEVICE] == pytest.approx(found["cpu"], rel=1e-3)


@pytest.mark.parametrize("model", [tiny(), tiny_release()], ids=["plain", "deep"])
def test_predictions_are_those_of_the_cpu(model):
    found = {}
    for device in ("cpu", DEVICE):
        detector = build(model).to(device)
        found[device] = detector.test_step(raw_batch())[0].pred_instances.cpu()
    assert len(found["cpu"]) > 0
    torch.testing.assert_close(found[DEVICE].scores, found["cpu"].scores, rtol=1e-3, atol=1e-4)


def test_mtcnn_behind_an_enhancer_finds_the_same_face():
    pytest.importorskip("facenet_pytorch", reason="needs the extra 'face'")
    from llie_preproc.faces import MTCNN

    picture = pytest.importorskip("skimage.data", reason="needs the extra 'demo'").astronaut()
    boxes = []
    for device in ("cpu", DEVICE):
        detector = EnhancedFaceDetector(MTCNN(device=device), "PSENet", device=device)
        boxes.append(detector.detect([picture])[0].above(0.9).boxes)
    assert boxes[0].shape == (1, 4)
    np.testing.assert_allclose(*boxes, atol=1)
