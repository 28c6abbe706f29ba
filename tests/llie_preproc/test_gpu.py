"""On a CUDA device, enhancers and scans agree with the CPU, and operators and trainings run."""

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from safetensors.torch import load_file

from llie_preproc import build_enhancer, enhance
from llie_preproc.checkpoints import default_weights
from llie_preproc.commands.llie import main
from llie_preproc.enhancers.build import DEFAULT_WEIGHTS
from llie_preproc.enhancers.names import enhancer_classes
from llie_preproc.ops import scan_backends, selective_scan_2d
from tests.support import training_runs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.usefixtures("no_tf32"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("name", enhancer_classes())
def test_cuda_agrees_with_the_cpu(name):
    image = torch.rand(3, 93, 131, generator=torch.Generator().manual_seed(0))
    network = build_enhancer(name, DEFAULT_WEIGHTS if default_weights(name) else None)
    expected = enhance(image, network)
    result = enhance(image, network, device="cuda")
    assert result.device.type == "cpu"
    assert torch.allclose(result, expected, atol=1e-4)


def test_arrays_come_back_as_arrays():
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    network = build_enhancer("PSENet")
    difference = enhance(images, network, device="cuda").astype(int) - enhance(images, network, device="cpu")
    assert abs(difference).max() <= 1


def test_bfloat16_stays_near_float32():
    image = torch.rand(2, 3, 96, 128, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    network = build_enhancer("PSENet", device="cuda")
    assert (enhance(image, network, precision="bfloat16") - enhance(image, network)).abs().mean() < 0.01


@pytest.mark.parametrize("backend", [b.name for b in scan_backends() if b.available and "cuda" in b.devices])
def test_the_scan_of_a_whole_picture_equals_that_on_the_cpu(backend):
    """The scan has thousands of chunks, in all directions; other tests compare the CPU kernel with the definition."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "u": (1, 256, 250, 96),
        "delta": (1, 256, 250, 4, 4),
        "B": (1, 256, 250, 4, 16),
        "C": (1, 256, 250, 4, 16),
    }
    inputs = {k: torch.randn(v, generator=generator) for k, v in shapes.items()}
    inputs |= {"A": -4 * torch.rand(4, 96, 16, generator=generator), "D": torch.ones(4, 96)}
    inputs |= {"delta_weight": torch.randn(4, 96, 4, generator=generator)}
    outcomes = []
    for device in ("cpu", "cuda"):
        leaves = {k: v.to(device).requires_grad_() for k, v in inputs.items()}
        y = selective_scan_2d(**leaves, backend=backend if device == "cuda" else None)
        outcomes.append([y, *torch.autograd.grad(y.square().mean(), list(leaves.values()))])
    for expected, found in zip(*outcomes, strict=True):
        assert (found.cpu() - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_the_stand_in_for_mmcvs_operators_runs_on_cuda():
    pytest.importorskip("mmcv", reason="needs the extra 'mm'")
    from mmcv.ops import batched_nms, roi_align

    features = torch.rand(1, 4, 16, 16, device="cuda", requires_grad=True)
    rois = torch.tensor([[0, 2.0, 2.0, 12.0, 12.0]], device="cuda")
    pooled = roi_align(features, rois, (4, 4), 1.0, 2, "avg", True)
    pooled.sum().backward()
    assert features.grad.abs().sum() > 0
    boxes = torch.tensor([[0, 0, 9.0, 9], [1, 1, 9, 9], [20, 20, 30, 30]], device="cuda")
    kept = batched_nms(boxes, torch.tensor([0.9, 0.8, 0.7]).cuda(), torch.zeros(3).cuda(), {"iou_threshold": 0.5})[1]
    assert kept.tolist() == [0, 2]


def test_a_training_step_on_cuda_gives_finite_gradients():
    pytest.importorskip("mmengine", reason="needs the extra 'mm'")
    from training.methods import ProgressiveSelfEnhancement

    model = ProgressiveSelfEnhancement("PSENet").cuda().train()
    image = torch.rand(4, 3, 64, 64, device="cuda")
    sum(model.loss(image).values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("options", [[], ["--amp"]], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("method", training_runs.METHODS)
def test_every_method_trains_on_the_device_and_resumes(tmp_path, method, options):
    training_runs.make_pictures(tmp_path)
    config = str(training_runs.write_config(tmp_path, method))
    work = tmp_path / "work"
    for last in (["--cfg-options", "train_cfg.max_epochs=1"], ["--resume"]):
        assert main(["train", config, "--out", str(work), *options, *last]) == 0
    assert {p.stem for p in work.glob("*.pth")} == {f"epoch_{n}" for n in (2, 3)}
    exported = load_file(work / "enhancer.safetensors")
    assert all(value.isfinite().all() for value in exported.values())
