"""The stand-in for mmcv's compiled operators computes what they do, and a compiled extension replaces it."""

import importlib.machinery
import importlib.util
import math
import textwrap

import pytest

pytest.importorskip("mmcv", reason="needs the extra 'mm'")

import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d

from llie_preproc.mm import operators

COMPILED = importlib.machinery.PathFinder.find_spec(
    "mmcv._ext", importlib.util.find_spec("mmcv").submodule_search_locations
)
needs_stand_in = pytest.mark.skipif(
    COMPILED is not None, reason="mmcv is compiled here, and its own operators are used"
)


@pytest.fixture
def run(bare_programs):
    """Run code in a process that has imported neither MMCV nor this package."""

    def printed(code):
        done = bare_programs.run("-c", textwrap.dedent(code))
        assert done.returncode == 0, done.stderr
        return done.stdout

    return printed


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
    assert operators.nms(boxes, scores, threshold, offset).tolist() == kept


def iou(a, b, offset):
    low, high = torch.maximum(a[:2], b[:2]), torch.minimum(a[2:], b[2:])
    inter = (high - low + offset).clamp(min=0).prod()
    return float(inter / ((a[2:] - a[:2] + offset).prod() + (b[2:] - b[:2] + offset).prod() - inter))


@given(seed=st.integers(0, 1000), offset=st.sampled_from([0, 1]), threshold=st.floats(0.1, 0.9))
@settings(max_examples=30, deadline=None)
def test_naive_soft_nms_equals_greedy_suppression(seed, offset, threshold):
    from mmcv.ops import nms, soft_nms

    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 30, (25, 2), generator=generator).float()
    boxes = torch.cat([corners, corners + torch.randint(1, 20, (25, 2), generator=generator)], dim=1)
    scores = torch.rand(25, generator=generator)
    # mmcv's soft NMS also suppresses at the threshold itself, its NMS only above it.
    greedy, kept = nms(boxes, scores, threshold + 1e-6, offset=offset)
    soft, indices = soft_nms(boxes, scores, threshold + 1e-6, min_score=1e-9, method="naive", offset=offset)
    assert indices.tolist() == kept.tolist()
    assert torch.equal(soft, greedy)


@pytest.mark.parametrize(("method", "decayed"), [("linear", 0.8 * 0.5), ("gaussian", 0.8 * math.exp(-(0.5**2) / 0.3))])
def test_soft_nms_lowers_scores_of_overlapping_boxes(method, decayed):
    """The first box has an IoU of 0.5 with the second, the third overlaps none, and the fourth is dropped."""
    from mmcv.ops import soft_nms

    boxes = torch.tensor([[0.0, 0, 10, 5], [0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 9.999]])
    dets, kept = soft_nms(boxes, torch.tensor([0.8, 0.9, 0.5, 0.05]), 0.3, sigma=0.3, min_score=0.04, method=method)
    expected = {0: decayed, 1: 0.9, 2: 0.5}
    order = sorted(expected, key=expected.get, reverse=True)
    assert kept.tolist() == order
    assert torch.allclose(dets, torch.cat([boxes[order], torch.tensor([[expected[i]] for i in order])], dim=1))


@needs_stand_in
def test_roi_align_has_torchvisions_results_and_gradients():
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
    with pytest.raises(RuntimeError, match="supports 'avg' only"):
        roi_align(features, rois, (3, 4), 0.5, 2, "max", True)


def convolution(dtype, modulated, **options):
    """mmcv's deformable convolution, and the number of points that its kernel reads, over all groups of offsets."""
    from mmcv.ops import DeformConv2d, ModulatedDeformConv2d

    layer = (ModulatedDeformConv2d if modulated else DeformConv2d)(**options).to(dtype)
    if modulated:
        torch.nn.init.normal_(layer.bias)
    kernel = layer.kernel_size[0] * layer.kernel_size[1]
    return layer, kernel * layer.deform_groups


CONVOLUTION = ("stride", "padding", "dilation", "groups")
GEOMETRIES = [
    dict(in_channels=4, out_channels=6, kernel_size=3, padding=1),
    dict(in_channels=4, out_channels=6, kernel_size=(3, 2), stride=(2, 1), padding=(2, 1), dilation=(1, 2), groups=2),
    dict(in_channels=4, out_channels=4, kernel_size=(2, 3), stride=2, padding=1, deform_groups=2),
]


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("options", GEOMETRIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.bfloat16, 0.05)])
def test_without_offsets_a_deformable_convolution_is_an_ordinary_one(modulated, options, dtype, tolerance):
    layer, points = convolution(dtype, modulated, **options)
    image = torch.rand(2, 4, 9, 11, dtype=dtype)
    plain = {k: v for k, v in options.items() if k in CONVOLUTION}
    bias = layer.bias.double() if modulated else None
    expected = conv2d(image.double(), layer.weight.double(), bias, **plain)
    offset = torch.zeros(2, 2 * points, *expected.shape[2:], dtype=dtype)
    mask = [torch.ones(2, points, *expected.shape[2:], dtype=dtype)] if modulated else []
    output = layer(image, offset, *mask)
    assert output.dtype == dtype
    assert torch.allclose(output.double(), expected, atol=tolerance, rtol=tolerance)


@needs_stand_in
def test_a_masked_convolution_is_an_ordinary_one_where_the_mask_is():
    from mmcv.ops import MaskedConv2d

    layer = MaskedConv2d(3, 4, (3, 5), padding=(1, 2)).double().eval()
    torch.nn.init.normal_(layer.bias)
    image = torch.rand(1, 3, 6, 7, dtype=torch.float64)
    mask = torch.rand(1, 6, 7) > 0.5
    expected = conv2d(image, layer.weight, layer.bias, padding=(1, 2)) * mask
    assert torch.allclose(layer(image, mask.double()), expected, atol=1e-12)
    assert torch.equal(layer(image, torch.zeros(1, 6, 7)), torch.zeros_like(expected))


@needs_stand_in
def test_carafe_sums_each_pixels_neighbourhood_with_its_own_weights():
    from mmcv.ops import carafe

    size, groups, scale = 3, 2, 2
    features = torch.rand(2, 4, 4, 5, dtype=torch.float64, requires_grad=True)
    masks = torch.rand(2, size**2 * groups, 8, 10, dtype=torch.float64, requires_grad=True)
    output = carafe(features, masks, size, groups, scale)
    wide = torch.nn.functional.pad(features.detach(), (1, 1, 1, 1))
    for n, c, y, x in [(0, 0, 0, 0), (1, 3, 7, 9), (0, 2, 3, 6), (1, 1, 4, 1)]:
        seen = wide[n, c, y // scale : y // scale + size, x // scale : x // scale + size]
        weights = masks.detach()[n, c // 2 * size**2 :][: size**2, y, x].view(size, size)
        assert torch.allclose(output[n, c, y, x], (seen * weights).sum())
    assert torch.autograd.gradcheck(lambda f, m: carafe(f, m, size, groups, scale), (features, masks), fast_mode=True)


@pytest.mark.parametrize("modulated", [False, True])
def test_whole_pixel_offsets_read_the_shifted_image(modulated):
    """Each group of offsets moves its channels by its own (down, right)."""
    layer, points = convolution(
        torch.float64, modulated, in_channels=4, out_channels=5, kernel_size=3, padding=1, deform_groups=2
    )
    image = torch.rand(1, 4, 8, 9, dtype=torch.float64)
    shifts = [(2, -1), (-3, 1)]
    offset = torch.cat([torch.tensor(s, dtype=torch.float64).repeat(points // 2) for s in shifts])
    offset = offset[None, :, None, None].expand(1, -1, 8, 9)
    mask = [torch.full((1, points, 8, 9), 0.25, dtype=torch.float64)] if modulated else []
    # The image is padded with zeros, as far as a shift and the kernel reach.
    wide = torch.nn.functional.pad(image, (4, 4, 4, 4))
    moved = [x.roll((-down, -right), (2, 3)) for x, (down, right) in zip(wide.chunk(2, 1), shifts, strict=True)]
    expected = conv2d(torch.cat(moved, 1)[:, :, 3:-3, 3:-3], layer.weight)
    expected = expected * 0.25 + layer.bias[None, :, None, None] if modulated else expected
    assert torch.allclose(layer(image, offset.contiguous(), *mask), expected, atol=1e-12)


def test_offsets_larger_than_the_output_are_read_as_mmcvs_kernel_reads_them():
    """Channel c of pixel (y, x) is read at (c * height + y) * width + x, with the output's height and width.

    The detection head DyHead needs this.
    """
    layer, points = convolution(torch.float64, True, in_channels=3, out_channels=2, kernel_size=3, padding=1)
    image = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    large = [torch.rand(2, n, 8, 10, dtype=torch.float64, requires_grad=True) for n in (2 * points, points)]
    c, y, x = torch.meshgrid(*map(torch.arange, (2 * points, 4, 5)), indexing="ij")
    place = (c * 4 + y) * 5 + x
    read = [t.flatten(1)[:, place[: t.shape[1]]] for t in large]
    output, expected = layer(image, *large), layer(image, *read)
    assert torch.equal(output, expected)
    weight = torch.rand_like(output)
    ours, theirs = (torch.autograd.grad((o * weight).sum(), large) for o in (output, expected))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("options", GEOMETRIES)
def test_deformable_convolutions_have_the_gradient_of_finite_differences(modulated, options):
    generator = torch.Generator().manual_seed(3)
    layer, points = convolution(torch.float64, modulated, **options)
    image = torch.rand(2, 4, 4, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    plain = {k: v for k, v in options.items() if k in CONVOLUTION}
    size = conv2d(image, layer.weight, **plain).shape[2:]
    # The points are not at whole pixels, where bilinear interpolation has no derivative.
    offset = 0.2 + 0.6 * torch.rand(2, 2 * points, *size, dtype=torch.float64, generator=generator)
    inputs = [image, offset.requires_grad_(), *layer.parameters()]
    if modulated:
        mask = torch.rand(2, points, *size, dtype=torch.float64, generator=generator)
        inputs.insert(2, mask.requires_grad_())

    def call(*tensors):
        given = tensors[: 3 if modulated else 2]
        names = [name for name, _ in layer.named_parameters()]
        return torch.func.functional_call(layer, dict(zip(names, tensors[len(given) :], strict=True)), given)

    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)


@needs_stand_in
@pytest.mark.parametrize("modulated", [False, True])
def test_mixed_precision_trains_through_every_operator(modulated):
    """The gradients under bfloat16 are near those of float32."""
    from mmcv.ops import nms, roi_align

    torch.manual_seed(0)
    layer, points = convolution(torch.float32, modulated, in_channels=8, out_channels=8, kernel_size=3, padding=1)
    first = torch.nn.Conv2d(3, 8, 3, padding=1)
    offsets = torch.nn.Conv2d(8, 3 * points, 3, padding=1)
    image, rois = torch.rand(2, 3, 12, 12), torch.tensor([[0, 1.0, 2, 9, 8], [1, 0.5, 0.5, 7, 11]])
    parts = torch.nn.ModuleList([first, offsets, layer])

    def gradients(enabled):
        parts.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            features = first(image)
            offset, mask = offsets(features).split([2 * points, points], dim=1)
            deformed = layer(features, offset, *([mask.sigmoid()] if modulated else []))
            pooled = roi_align(deformed, rois, (4, 4), 0.5, 2, "avg", True)
            assert pooled.dtype == (torch.bfloat16 if enabled else torch.float32)
        pooled.float().square().mean().backward()
        return torch.cat([p.grad.flatten() for p in parts.parameters() if p.grad is not None])

    half, whole = gradients(True), gradients(False)
    assert torch.nn.functional.cosine_similarity(half, whole, dim=0) > 0.99
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 7], [20, 20, 30, 30]])
    kept = nms(boxes.bfloat16(), torch.tensor([0.5, 0.75, 0.25]).bfloat16(), 0.5)[1]
    assert kept.tolist() == [1, 2]


@needs_stand_in
def test_a_missing_operator_names_the_stand_in_and_what_to_do():
    from mmcv.ops import RoIPool

    with pytest.raises(RuntimeError, match=r"roi_pool_forward.*stand-in has only nms, softnms.*make mmcv-ops"):
        RoIPool((2, 2))(torch.rand(1, 3, 9, 9), torch.tensor([[0, 0.0, 0, 3, 3]]))


def test_a_compiled_extension_is_used(run):
    """A module ``mmcv._ext`` that Python's ordinary finder finds is imported instead of the stand-in."""
    out = run("""
        import sys, tempfile, pathlib, importlib.util
        import llie_preproc
        from llie_preproc.mm import finder
        finder.install()
        assert sum(type(f).__module__ == "llie_preproc.mm.finder" for f in sys.meta_path) == 1
        folder = tempfile.mkdtemp()
        (pathlib.Path(folder) / "_ext.py").write_text("compiled = True")
        import mmcv
        mmcv.__path__.insert(0, folder)
        import mmcv._ext
        print(mmcv._ext.compiled, finder.is_stand_in())
    """)
    assert out.split() == ["True", "False"]


@needs_stand_in
def test_an_import_of_mmdet_that_failed_before_works_afterwards(run):
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
