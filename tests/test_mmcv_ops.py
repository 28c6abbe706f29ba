"""The stand-in for mmcv's compiled operators."""

import importlib.machinery
import importlib.util
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("mmcv", reason="needs the extra 'mm'")

import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from llie_preproc import mmcv_ops

COMPILED = importlib.machinery.PathFinder.find_spec(
    "mmcv._ext", importlib.util.find_spec("mmcv").submodule_search_locations
)
needs_stand_in = pytest.mark.skipif(COMPILED is not None, reason="mmcv is compiled here: its own operators win")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@given(seed=st.integers(0, 1000), offset=st.sampled_from([0, 1]), threshold=st.floats(0.1, 0.9))
@settings(max_examples=30, deadline=None)
def test_nms_keeps_what_greedy_suppression_keeps(seed, offset, threshold):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 30, (25, 2), generator=generator).float()
    boxes = torch.cat([corners, corners + torch.randint(1, 20, (25, 2), generator=generator)], dim=1)
    scores = torch.rand(25, generator=generator)
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if all(iou(boxes[i], boxes[k], offset) <= threshold for k in kept):
            kept.append(i)
    assert mmcv_ops.nms(boxes, scores, threshold, offset).tolist() == kept


def iou(a, b, offset):
    low, high = torch.maximum(a[:2], b[:2]), torch.minimum(a[2:], b[2:])
    inter = (high - low + offset).clamp(min=0).prod()
    return float(inter / ((a[2:] - a[:2] + offset).prod() + (b[2:] - b[:2] + offset).prod() - inter))


@needs_stand_in
def test_roi_align_forward_and_backward_through_mmcv():
    from mmcv.ops import roi_align

    features = torch.rand(2, 3, 12, 14, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0, 1.0, 2.0, 9.0, 8.0], [1, 0.5, 0.5, 6.5, 11.0]], dtype=torch.float64)
    ours = roi_align(features, rois, (3, 4), 0.5, 2, "avg", True)
    theirs = torchvision.ops.roi_align(features, rois, (3, 4), 0.5, 2, True)
    assert torch.equal(ours, theirs)
    weight = torch.rand_like(ours)
    gradients = [torch.autograd.grad((y * weight).sum(), features, retain_graph=True)[0] for y in (ours, theirs)]
    assert torch.allclose(*gradients)
    assert gradients[0].abs().sum() > 0
    with pytest.raises(RuntimeError, match="averages only"):
        roi_align(features, rois, (3, 4), 0.5, 2, "max", True)


@needs_stand_in
def test_another_operator_says_what_this_is_and_how_to_get_it():
    from mmcv.ops import RoIPool

    with pytest.raises(RuntimeError, match=r"roi_pool_forward.*stand-in has only nms and roi_align.*make mmcv-ops"):
        RoIPool((2, 2))(torch.rand(1, 3, 9, 9), torch.tensor([[0, 0.0, 0, 3, 3]]))


def test_a_compiled_extension_wins():
    """A module that the ordinary path finds is imported, not the stand-in."""
    out = run("""
        import sys, tempfile, pathlib, importlib.util
        import llie_preproc
        from llie_preproc import mmcv_ops
        mmcv_ops.install()
        assert sum(type(f).__module__ == "llie_preproc.mmcv_ops" for f in sys.meta_path) == 1
        folder = tempfile.mkdtemp()
        (pathlib.Path(folder) / "_ext.py").write_text("compiled = True")
        import mmcv
        mmcv.__path__.insert(0, folder)
        import mmcv._ext
        print(mmcv._ext.compiled, mmcv_ops.is_stand_in())
    """)
    assert out.split() == ["True", "False"]


@needs_stand_in
def test_mmdet_that_was_imported_first_is_repaired():
    out = run("""
        try:
            import mmdet.models
        except ModuleNotFoundError:
            pass
        import llie_preproc.detection
        from mmdet.models.dense_heads import base_dense_head
        print("repaired:", base_dense_head.batched_nms.__module__)
    """)
    assert "repaired: mmcv.ops.nms" in out
