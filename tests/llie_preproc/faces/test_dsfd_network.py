"""The backbones and the neck of the face detector DSFD have the published sizes, and compute what plain torch does."""

import importlib
import math
import re
import sys

import pytest
import torch
import torchvision
from mmcv.cnn import VGG
from torch.nn import functional as F

from llie_preproc import errors
from tests.support.dsfd_models import (
    MODELS,
    RESNET_CHANNELS,
    VGG_CHANNELS,
    build,
    paper_resnet,
    paper_vgg,
    raw_batch,
    release_resnet,
    release_vgg,
    thin_release_vgg,
    tiny,
    tiny_release,
)
from tests.support.networks import parameter_count


def shapes_only(model):
    """The network with the shapes of its weights, but without memory for them."""
    with torch.device("meta"):
        return MODELS.build(model)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (paper_vgg(), 49_793_432),
        (release_resnet(152), 120_058_406),
        (release_resnet(101), 104_414_758),
        (release_resnet(50), 85_422_630),
        (release_vgg(), 70_730_278),
    ],
    ids=["paper VGG", "release R152", "release R101", "release R50", "release VGG"],
)
def test_the_published_networks_have_their_number_of_parameters(model, parameters):
    assert parameter_count(shapes_only(model)) == parameters


def test_each_part_has_its_published_parameters():
    paper, release = shapes_only(paper_vgg()), shapes_only(release_vgg())
    assert parameter_count(paper.backbone) == parameter_count(release.backbone) == 20_483_904
    assert parameter_count(paper.neck.extras) == parameter_count(release.neck.extras) == 1_803_392
    assert parameter_count(paper.neck.up_path.top) + parameter_count(paper.neck.up_path.down) == 1_641_472
    assert parameter_count(paper.neck.up_path.lateral) == 1_903_360
    assert parameter_count(paper.neck.fem) == 23_626_896
    assert parameter_count(paper.bbox_head) == 331_848
    assert parameter_count(paper.neck.norm_original) + parameter_count(paper.neck.norm_enhanced) == 2_560
    assert parameter_count(release.neck.up_path) == 1_509_888
    assert parameter_count(release.neck.fem) == 18_584_832
    assert parameter_count(release.bbox_head) == 28_346_982
    assert parameter_count(release.neck.norm_fused) == 1_280


def test_the_enhancing_branches_share_the_width_by_thirds():
    fem = shapes_only(paper_resnet(50)).neck.fem
    widths = [[branch[-1].out_channels for branch in level.branches] for level in fem]
    assert widths[0] == [85, 85, 86]
    assert widths[1] == [170, 170, 172]
    assert widths[3] == [682, 682, 684]
    assert [sum(w) for w in widths] == list(RESNET_CHANNELS)


@pytest.mark.parametrize(
    ("model", "channels"), [(paper_vgg(), VGG_CHANNELS), (paper_resnet(50), RESNET_CHANNELS)], ids=["VGG", "ResNet"]
)
def test_the_maps_of_640_pixels_have_the_published_shapes(model, channels):
    model = shapes_only(model)
    original, enhanced = model.extract_feat(torch.empty(1, 3, 640, 640, device="meta"))
    expected = [(1, c, side, side) for c, side in zip(channels, (160, 80, 40, 20, 10, 5), strict=True)]
    assert [tuple(m.shape) for m in original] == expected
    assert [tuple(m.shape) for m in enhanced] == expected


def test_only_the_third_pooling_rounds_up():
    # 54 -> 27 -> 13 (down) -> 7 (up) -> 3 -> 1
    backbone = build(tiny()).backbone
    assert [m.shape[-1] for m in backbone(torch.rand(1, 3, 54, 54))] == [13, 7, 3, 1]


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (20, 200), (27, 27)])
def test_small_pictures_have_six_maps_and_predictions(size):
    """Small pictures come from views at a quarter of the size; a side of one pixel stays one."""
    detector = build(tiny())
    with torch.no_grad():
        original, enhanced = detector.extract_feat(torch.randn(1, 3, *size) * 60)

    def halved(side, up=False):
        return max(1, (side + up) // 2)

    level = [halved(halved(side)) for side in size]
    assert list(original[0].shape[-2:]) == level
    level = [halved(side, True) for side in level]
    assert list(original[1].shape[-2:]) == level
    for m in original[2:4]:
        level = [halved(side) for side in level]
        assert list(m.shape[-2:]) == level
    assert len(original) == len(enhanced) == 6
    (sample,) = detector.test_step(raw_batch([size], faces=0))
    assert len(sample.pred_instances) > 0


def test_vgg_has_mmcvs_names():
    """These are also the names of Caffe's weights, ``open-mmlab://vgg16_caffe``."""
    with torch.device("meta"):
        theirs = VGG(16).state_dict()
    own = shapes_only(paper_vgg()).backbone.state_dict()
    fit = {k: v.shape for k, v in own.items() if not k.startswith("fc")}
    assert {k: v.shape for k, v in theirs.items()} == fit


def test_vgg_is_torchvisions_up_to_the_third_pooling(tmp_path):
    """A file with torchvision's names loads, and gives the same maps as torchvision's own layers."""
    torch.manual_seed(0)
    theirs = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    state = {f"features.{k}": v for k, v in theirs.state_dict().items()}
    # The file has a classifier too, which is much smaller here than in torchvision's files.
    torch.save({**state, "classifier.0.weight": torch.zeros(4, 4)}, tmp_path / "vgg16.pth")
    pretrained = dict(type="Pretrained", checkpoint=str(tmp_path / "vgg16.pth"))
    ours = MODELS.build(dict(type="llie_preproc.DSFDVGG", init_cfg=pretrained))
    fc7 = ours.fc7.weight.clone()
    ours.init_weights()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        taps = ours(image)
        # With sides that are multiples of 16 it does not matter which way the third pooling rounds.
        for tap, layers in zip(taps, (16, 23, 30), strict=False):
            torch.testing.assert_close(tap, theirs[:layers](image))
        pooled = F.max_pool2d(taps[2], 2)
        fc6 = F.conv2d(pooled, ours.fc6.weight, ours.fc6.bias, padding=3, dilation=3).relu()
        torch.testing.assert_close(taps[3], F.conv2d(fc6, ours.fc7.weight, ours.fc7.bias).relu())
    # fc7 is not in the file, so it gets Xavier's initial weights, uniform in +-sqrt(6 / (1024 + 1024)).
    bound = math.sqrt(6 / 2048)
    assert 0.99 * bound < float(ours.fc7.weight.detach().abs().max()) <= bound
    assert not torch.equal(ours.fc7.weight, fc7)


def test_resnet_has_torchvisions_names():
    ours = shapes_only(release_resnet(50)).backbone.state_dict()
    with torch.device("meta"):
        theirs = torchvision.models.resnet50(weights=None).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items() if not k.startswith("fc.")}


CHANNELS = (6, 7, 8, 12, 10, 5)


def neck_by_definition(state, maps, levels, relu, tree, norm, align_corners):
    """Original and enhanced maps of the neck, computed in plain torch from its weights."""

    def conv(x, name, **options):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def length(x, name):
        return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) * state[f"{name}.weight"].view(1, -1, 1, 1)

    def act(x):
        return x.relu() if relu else x

    c = list(maps)
    for k in (0, 1):
        narrow = conv(c[-1], f"extras.{k}.0").relu()
        c.append(conv(narrow, f"extras.{k}.2", stride=2, padding=1).relu())
    t = dict(enumerate(c))
    if relu:
        t[levels] = conv(c[levels], "up_path.top").relu()
    for k in range(levels - 1, -1, -1):
        upper = act(conv(t[k + 1], f"up_path.down.{k}"))
        upper = F.interpolate(upper, c[k].shape[-2:], mode="bilinear", align_corners=align_corners)
        t[k] = act(upper * conv(c[k], f"up_path.lateral.{k}"))
    enhanced = []
    for k in range(6):
        x = length(t[k], f"norm_fused.{k}") if norm == "fused" and k < 3 else t[k]
        name = f"fem.{k}"
        if tree:
            near = conv(x, f"{name}.near", padding=1).relu()
            shared = conv(x, f"{name}.shared", padding=2, dilation=2).relu()
            middle = conv(shared, f"{name}.middle", padding=1).relu()
            far = conv(shared, f"{name}.far.0", padding=2, dilation=2).relu()
            joined = torch.cat([near, middle, conv(far, f"{name}.far.2", padding=1).relu()], 1)
        else:
            branches = []
            for b in range(3):
                y = conv(x, f"{name}.branches.{b}.0", padding=3, dilation=3)
                for layer in range(b):
                    y = conv(y.relu(), f"{name}.branches.{b}.{2 * layer + 2}", padding=3, dilation=3)
                branches.append(y)
            joined = torch.cat(branches, 1).relu()
        enhanced.append(length(joined, f"norm_enhanced.{k}") if norm == "outputs" and k < 3 else joined)
    original = [length(m, f"norm_original.{k}") if norm == "outputs" and k < 3 else m for k, m in enumerate(c)]
    return original, enhanced


@pytest.mark.parametrize(
    ("levels", "relu", "fem", "norm", "align_corners"),
    [
        (5, True, "parallel", "outputs", False),
        (5, True, "parallel", None, False),
        (3, False, "tree", None, True),
        (3, False, "tree", "fused", True),
        (4, True, "tree", "outputs", True),
    ],
)
def test_the_neck_computes_its_definition(levels, relu, fem, norm, align_corners):
    neck = MODELS.build(
        dict(
            type="llie_preproc.DSFDNeck",
            in_channels=CHANNELS[:4],
            extra_channels=((3, CHANNELS[4]), (4, CHANNELS[5])),
            l2_norm=norm,
            fpn_levels=levels,
            fpn_relu=relu,
            fem=fem,
            fem_width=8,
            align_corners=align_corners,
        )
    ).double()
    torch.manual_seed(0)
    for parameter in neck.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.3)
    # The sides are odd, so that enlarging by a fixed factor of two would fail.
    maps = [
        torch.randn(2, c, *s).double() for c, s in zip(CHANNELS, ((27, 21), (14, 11), (7, 6), (4, 3)), strict=False)
    ]
    original, enhanced = neck(maps)
    expected = neck_by_definition(neck.state_dict(), maps, levels, relu, fem == "tree", norm, align_corners)
    assert [m.shape[1] for m in enhanced] == [16] * 6 if fem == "tree" else list(CHANNELS)
    for found, wanted in zip((*original, *enhanced), (*expected[0], *expected[1]), strict=True):
        assert float(wanted.abs().max()) > 0
        torch.testing.assert_close(found, wanted)


def test_the_release_normalises_the_extra_levels_before_the_relu():
    torch.manual_seed(0)
    neck = build(tiny_release()).neck
    last = torch.randn(1, 128, 8, 8)
    conv, norm = neck.extras[0][0], neck.extras[0][1]
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    first = F.batch_norm(
        F.conv2d(last, conv.weight, conv.bias), norm.running_mean, norm.running_var, norm.weight, norm.bias
    )
    second, norm = neck.extras[0][3], neck.extras[0][4]
    wide = F.conv2d(first.relu(), second.weight, second.bias, stride=2, padding=1)
    wide = F.batch_norm(wide, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
    torch.testing.assert_close(neck.extras[0](last), wide)


def test_the_lengths_of_the_first_three_maps_start_at_10_8_and_5():
    neck = build(tiny()).neck
    original, enhanced = neck([torch.rand(1, c, 16 // 2**k, 16 // 2**k) for k, c in enumerate((32, 64, 64, 128))])
    for maps in (original, enhanced):
        lengths = [float(m.square().sum(1).sqrt().max()) for m in maps[:3]]
        assert lengths == pytest.approx([10, 8, 5], rel=1e-5)


def test_positions_of_zeros_have_a_finite_gradient():
    """The gradient of a root is infinite at zero, and this neck has no ReLU that would stop it."""
    neck = build(thin_release_vgg()).neck
    torch.manual_seed(0)
    maps = [torch.rand(1, c, s, s) for c, s in zip((16, 32, 32, 64), (16, 8, 4, 2), strict=True)]
    for m in maps:
        m[..., : m.shape[-1] // 2] = 0
    _, enhanced = neck(maps)
    sum(m.square().sum() for m in enhanced).backward()
    gradients = {name: p.grad for name, p in neck.named_parameters()}
    assert [name for name, g in gradients.items() if not torch.isfinite(g).all()] == []
    assert gradients["up_path.lateral.0.weight"].abs().sum() > 0


def test_float16_autocast_does_not_overflow_in_the_products():
    neck = build(tiny()).neck
    torch.manual_seed(0)
    sides = (16, 8, 4, 2)
    maps = [torch.randn(1, c, s, s).relu().half().float() * 256 for c, s in zip((32, 64, 64, 128), sides, strict=True)]
    with torch.no_grad():
        expected = neck(maps)
        original = [*maps, *expected[0][4:]]
        # The convolutions would have to hold these products in float16.
        assert float(neck.up_path(original)[0].max()) > torch.finfo(torch.float16).max
        with torch.autocast("cpu", torch.float16):
            found = neck([m.half() for m in maps])
    for a, b in zip((*found[0], *found[1]), (*expected[0], *expected[1]), strict=True):
        assert float(b.abs().max()) > 0
        torch.testing.assert_close(a, b)


@pytest.mark.examples(1)
@pytest.mark.parametrize("model", [tiny(), tiny_release()], ids=["plain", "deep"])
def test_every_parameter_learns(model):
    """The faces have every anchor size, so that every level of every shot or set has positives."""
    detector = build(model)
    batch = raw_batch([(640, 640)], faces=0)
    heights = torch.tensor([8, 16, 32, 64, 128, 256, 510]) * math.sqrt(1.5)
    left = torch.tensor([1.0, 20, 50, 100, 20, 160, 130])
    top = torch.tensor([600.0, 600, 500, 400, 100, 20, 10])
    boxes = torch.stack([left, top, left + heights / 1.5, top + heights], 1)
    truth = batch["data_samples"][0].gt_instances
    batch["data_samples"][0].gt_instances = truth.new(bboxes=boxes, labels=torch.zeros(7).long())
    data = detector.data_preprocessor(batch, True)
    losses = detector.loss(data["inputs"], data["data_samples"])
    assert len(losses) == (4 if model["bbox_head"].get("form") is None else 6)
    assert all(name.startswith("loss_") for name in losses)
    sum(losses.values()).backward()
    still = [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (dict(type="llie_preproc.DSFDVGG", widths=(8, 8, 8)), "widths"),
        (dict(type="llie_preproc.DSFDNeck", in_channels=(8, 8, 8)), "four maps"),
        (dict(type="llie_preproc.DSFDNeck", l2_norm="everywhere"), "l2_norm"),
        (dict(type="llie_preproc.DSFDNeck", fem="serial"), "fem"),
        (dict(type="llie_preproc.DSFDNeck", fpn_levels=6), "fpn_levels"),
        (dict(type="llie_preproc.DSFDHead", form="single"), "form"),
        (dict(type="llie_preproc.DSFDHead", form="deep_mio", num_classes=2), "one class"),
        (dict(type="llie_preproc.DSFDHead", strides=(4, 8)), "level"),
        (dict(type="llie_preproc.DSFDHead", loss_weights=(1, 1, 1)), "loss_weights"),
    ],
)
def test_wrong_arguments_are_refused_by_name(part, field):
    with torch.device("meta"), pytest.raises(ValueError, match=field):
        MODELS.build(part)


def test_without_mmdetection_the_extra_is_named(monkeypatch):
    name = "llie_preproc.faces.dsfd"
    importlib.import_module(name)
    for each in [module for module in sys.modules if f"{module}.".startswith(f"{name}.")]:
        monkeypatch.delitem(sys.modules, each)
    for each in [module for module in sys.modules if module.split(".")[0] == "mmdet"]:
        monkeypatch.setitem(sys.modules, each, None)
    with pytest.raises(errors.MissingExtraError, match=re.escape(f"{name} needs the package")) as raised:
        importlib.import_module(name)
    assert 'pip install "llie-preproc[mm]"' in str(raised.value)
