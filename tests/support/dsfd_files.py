"""Checkpoints of the face detector DSFD in the layouts of the public files, and forward passes that read them.

The ``release`` is the network that the authors published; ``paper`` is a re-implementation closer to the paper.
"""

import math

import torch
import torchvision
from torch.nn import functional as F

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Number of blocks in each stage of a ResNet, by its depth."""

MEANS = torch.tensor([104.0, 117.0, 123.0]).view(3, 1, 1)
"""Means of blue, green and red that the networks of the public files subtract."""


def conv(shapes, name, out, into, side, bias=True):
    """Add the tensors of a convolution."""
    shapes[f"{name}.weight"] = (out, into, side, side)
    if bias:
        shapes[f"{name}.bias"] = (out,)


def norm(shapes, name, channels):
    """Add the tensors of a batch normalisation."""
    for what in ("weight", "bias", "running_mean", "running_var"):
        shapes[f"{name}.{what}"] = (channels,)
    shapes[f"{name}.num_batches_tracked"] = ()


def release_tail(shapes, channels, tree, deep):
    """Add the tensors of the feature fusion, the tree-shaped FEM (feature enhance module) and the deep heads."""
    for k in (3, 2, 1):
        conv(shapes, f"latlayer{k}", channels[k - 1], channels[k], 1)
        conv(shapes, f"smooth{k}", channels[k - 1], channels[k - 1], 1)
    for name, c in zip(("cpm3_3", "cpm4_3", "cpm5_3", "cpm7", "cpm6_2", "cpm7_2"), channels, strict=True):
        conv(shapes, f"{name}.cpm1", tree, c, 3)
        conv(shapes, f"{name}.cpm2", tree, c, 3)
        conv(shapes, f"{name}.cpm3", tree // 2, tree, 3)
        conv(shapes, f"{name}.cpm4", tree // 2, tree, 3)
        conv(shapes, f"{name}.cpm5", tree // 2, tree // 2, 3)
    for kind, outs in (("loc", (4, 8, 12, 12, 12, 12)), ("conf", (4, 6, 8, 8, 8, 8))):
        for level, out in enumerate(outs):
            conv(shapes, f"{kind}.{level}.conv1", deep, 2 * tree, 3)
            conv(shapes, f"{kind}.{level}.conv2", deep, deep, 3)
            conv(shapes, f"{kind}.{level}.conv3", deep, deep, 3)
            conv(shapes, f"{kind}.{level}.conv4", out, deep, 1)


def release_shapes(width=64, depth=152):
    """Names and shapes of the release's ResNet file, with ``width`` channels in place of 64."""
    shapes = {}
    conv(shapes, "layer1.0", width, 3, 7, bias=False)
    norm(shapes, "layer1.1", width)
    into = width
    for stage, blocks in enumerate(BLOCKS[depth]):
        inner, prefix = width * 2**stage, "layer1.4" if stage == 0 else f"layer{stage + 1}.0"
        for k in range(blocks):
            name = f"{prefix}.{k}"
            for n, (out, before, side) in enumerate(((inner, into, 1), (inner, inner, 3), (4 * inner, inner, 1))):
                conv(shapes, f"{name}.conv{n + 1}", out, before, side, bias=False)
                norm(shapes, f"{name}.bn{n + 1}", out)
            if k == 0:
                conv(shapes, f"{name}.downsample.0", 4 * inner, into, 1, bias=False)
                norm(shapes, f"{name}.downsample.1", 4 * inner)
            into = 4 * inner
    for name, before, narrow, wide in (
        ("layer5", 32 * width, 8 * width, 8 * width),
        ("layer6", 8 * width, 2 * width, 4 * width),
    ):
        conv(shapes, f"{name}.0", narrow, before, 1)
        norm(shapes, f"{name}.1", narrow)
        conv(shapes, f"{name}.3", wide, narrow, 3)
        norm(shapes, f"{name}.4", wide)
    release_tail(shapes, [c * width for c in (4, 8, 16, 32, 8, 4)], 4 * width, 4 * width)
    return shapes


def vgg_shapes(width=64):
    """Names and shapes of VGG-16 with fc6, fc7 and the extra layers."""
    shapes, into = {}, 3
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    for place, factor in zip(places, (1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8), strict=True):
        conv(shapes, f"vgg.{place}", factor * width, into, 3)
        into = factor * width
    conv(shapes, "vgg.31", 16 * width, into, 3)
    conv(shapes, "vgg.33", 16 * width, 16 * width, 1)
    extras(shapes, 16 * width, width)
    return shapes


def extras(shapes, into, width):
    """Add the extra layers behind a backbone, whose last map has ``into`` channels."""
    for k, (out, before, side) in enumerate(
        ((4 * width, into, 1), (8 * width, 4 * width, 3), (2 * width, 8 * width, 1), (4 * width, 2 * width, 3))
    ):
        conv(shapes, f"extras.{k}", out, before, side)


def release_vgg_shapes(width=64):
    """Names and shapes of the release's VGG file, with ``width`` channels in place of 64."""
    shapes = vgg_shapes(width)
    channels = [c * width for c in (4, 8, 8, 16, 8, 4)]
    for k in range(3):
        shapes[f"L2Norm_{k + 3}_3.weight"] = (channels[k],)
    release_tail(shapes, channels, 4 * width, 4 * width)
    return shapes


def paper_tail(shapes, channels):
    """Add the re-implementation's top-down and lateral convolutions, its parallel FEM and the heads of both shots."""
    down = [channels[-1], *channels[::-1]]
    for k in range(6):
        conv(shapes, f"fpn_topdown.{k}", down[k + 1], down[k], 1)
    for k in range(5):
        conv(shapes, f"fpn_latlayer.{k}", channels[4 - k], channels[4 - k], 1)
    for k, c in enumerate(channels):
        third, rest = c // 3, c - 2 * (c // 3)
        conv(shapes, f"fpn_fem.{k}.branch1", third, c, 3)
        for n in (0, 2):
            conv(shapes, f"fpn_fem.{k}.branch2.{n}", third, third if n else c, 3)
        for n in (0, 2, 4):
            conv(shapes, f"fpn_fem.{k}.branch3.{n}", rest, rest if n else c, 3)
        for shot in (1, 2):
            conv(shapes, f"loc_pal{shot}.{k}", 4, c, 3)
            conv(shapes, f"conf_pal{shot}.{k}", 2, c, 3)


def paper_vgg_shapes(width=64):
    """Names and shapes of the paper-like re-implementation's VGG file, with ``width`` channels in place of 64."""
    shapes = vgg_shapes(width)
    channels = [c * width for c in (4, 8, 8, 16, 8, 4)]
    for k in range(3):
        for kind in ("of", "ef"):
            shapes[f"L2Norm{kind}{k + 1}.weight"] = (channels[k],)
    paper_tail(shapes, channels)
    return shapes


def paper_resnet_shapes(depth):
    """Names and shapes of the paper-like re-implementation's ResNet file."""
    stages = (("layer1.0.", "conv1."), ("layer1.1.", "bn1."), ("layer1.4.", "layer1."))
    stages += tuple((f"layer{k}.0.", f"layer{k}.") for k in (2, 3, 4))
    shapes = {}
    for name, shape in release_shapes(64, depth).items():
        for release, theirs in stages:
            if name.startswith(release):
                shapes[f"resnet.{theirs}{name.removeprefix(release)}"] = shape
    extras(shapes, 2048, 64)
    paper_tail(shapes, [256, 512, 1024, 2048, 512, 256])
    return shapes


def fill(shapes, seed=0):
    """Random tensors of these shapes, scaled so that the maps neither vanish nor explode."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            state[name] = torch.rand(shape, generator=generator) + 0.5
        elif len(shape) == 1:
            state[name] = torch.randn(shape, generator=generator) * 0.1
        else:
            fan = shape[1] * shape[2] * shape[3]
            state[name] = torch.randn(shape, generator=generator) * math.sqrt(2 / fan)
    for name, tensor in state.items():
        if name in ("layer1.0.weight", "vgg.0.weight"):
            tensor /= 100  # pixels reach 255
        if name.startswith("latlayer") and name.endswith("weight"):
            tensor *= 0.3
        if name.startswith("loc") and name.endswith(("conv4.weight", "conv4.bias")):
            tensor *= 0.2
        if name.endswith((".bn3.weight", ".downsample.1.weight")):
            tensor *= 0.5
    return state


class Plain:
    """A public state dict with the few operations that the networks are made of."""

    def __init__(self, state):
        self.state = state

    def conv(self, x, name, **options):
        return F.conv2d(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), **options)

    def bn(self, x, name):
        s = self.state
        weight, bias = s[f"{name}.weight"], s[f"{name}.bias"]
        return F.batch_norm(x, s[f"{name}.running_mean"], s[f"{name}.running_var"], weight, bias)

    def length(self, x, name):
        root = x.square().sum(1, keepdim=True).sqrt() + 1e-10
        return x / root * self.state[f"{name}.weight"].view(1, -1, 1, 1)

    def vgg(self, x, fc6):
        taps = []
        for place in range(30):
            if f"vgg.{place}.weight" in self.state:
                x = self.conv(x, f"vgg.{place}", padding=1).relu()
            elif place in (4, 9, 16, 23):
                if place in (16, 23):
                    taps.append(x)
                x = F.max_pool2d(x, 2, ceil_mode=place == 16)
        taps.append(x)
        x = self.conv(F.max_pool2d(x, 2), "vgg.31", padding=fc6, dilation=fc6).relu()
        taps.append(self.conv(x, "vgg.33").relu())
        return taps

    def extras(self, x):
        first = self.conv(self.conv(x, "extras.0").relu(), "extras.1", stride=2, padding=1).relu()
        return [first, self.conv(self.conv(first, "extras.2").relu(), "extras.3", stride=2, padding=1).relu()]

    def resnet(self, x):
        x = self.bn(self.conv(x, "layer1.0", stride=2, padding=3), "layer1.1").relu()
        x = F.max_pool2d(x, 3, 2, 1)
        maps = []
        for stage, prefix in enumerate(("layer1.4", "layer2.0", "layer3.0", "layer4.0")):
            k = 0
            while f"{prefix}.{k}.conv1.weight" in self.state:
                name, stride = f"{prefix}.{k}", 2 if k == 0 and stage else 1
                y = self.bn(self.conv(x, f"{name}.conv1"), f"{name}.bn1").relu()
                y = self.bn(self.conv(y, f"{name}.conv2", stride=stride, padding=1), f"{name}.bn2").relu()
                y = self.bn(self.conv(y, f"{name}.conv3"), f"{name}.bn3")
                if k == 0:
                    x = self.bn(self.conv(x, f"{name}.downsample.0", stride=stride), f"{name}.downsample.1")
                x = (x + y).relu()
                k += 1
            maps.append(x)
        for name in ("layer5", "layer6"):
            y = self.bn(self.conv(maps[-1], f"{name}.0"), f"{name}.1").relu()
            maps.append(self.bn(self.conv(y, f"{name}.3", stride=2, padding=1), f"{name}.4").relu())
        return maps


def release_outputs(state, image):
    """Logits (background, face) and deltas, ``(A, 2)`` and ``(A, 4)``, and the maps' sizes."""
    net = Plain(state)
    if "vgg.0.weight" in state:
        maps = net.vgg(image, fc6=1)
        maps += net.extras(maps[-1])
    else:
        maps = net.resnet(image)
    for k in (3, 2, 1):
        upper = F.interpolate(
            net.conv(maps[k], f"latlayer{k}"), maps[k - 1].shape[2:], mode="bilinear", align_corners=True
        )
        maps[k - 1] = upper * net.conv(maps[k - 1], f"smooth{k}")
    logits, deltas = [], []
    for level, name in enumerate(("cpm3_3", "cpm4_3", "cpm5_3", "cpm7", "cpm6_2", "cpm7_2")):
        x = maps[level]
        if f"L2Norm_{level + 3}_3.weight" in state:
            x = net.length(x, f"L2Norm_{level + 3}_3")
        one = net.conv(x, f"{name}.cpm1", padding=1).relu()
        trunk = net.conv(x, f"{name}.cpm2", padding=2, dilation=2).relu()
        two = net.conv(trunk, f"{name}.cpm3", padding=1).relu()
        three = net.conv(trunk, f"{name}.cpm4", padding=2, dilation=2).relu()
        x = torch.cat([one, two, net.conv(three, f"{name}.cpm5", padding=1).relu()], 1)

        def deep(kind, x=x, level=level):
            for k in (1, 2, 3):
                x = net.conv(x, f"{kind}.{level}.conv{k}", padding=1).relu()
            return net.conv(x, f"{kind}.{level}.conv4")[0]

        c = deep("conf")
        largest = torch.maximum(torch.maximum(c[0], c[1]), c[2])
        # Level 0 has three background logits, then one of the face; the others have three of the face, then one of
        # the background. The largest of the three counts.
        pair = (largest, c[3]) if level == 0 else (c[3], largest)
        logits.append(torch.stack(pair, -1).reshape(-1, 2))
        deltas.append(deep("loc")[:4].permute(1, 2, 0).reshape(-1, 4))
    return torch.cat(logits), torch.cat(deltas), [m.shape[2:] for m in maps]


def paper_outputs(state, image):
    """What :func:`release_outputs` returns, for the second shot of the paper-like re-implementation on VGG-16."""
    net = Plain(state)
    c1, c2, c3, c4 = net.vgg(image, fc6=3)
    c5, c6 = net.extras(c4)
    t = [net.conv(c6, "fpn_topdown.0").relu()]
    for k, lower in enumerate((c5, c4, c3, c2, c1)):
        upper = net.conv(t[-1], f"fpn_topdown.{k + 1}").relu()
        upper = F.interpolate(upper, lower.shape[2:], mode="bilinear", align_corners=False)
        t.append((upper * net.conv(lower, f"fpn_latlayer.{k}")).relu())
    logits, deltas, sizes = [], [], []
    for level, x in enumerate(reversed(t)):
        wide = dict(padding=3, dilation=3)
        name = f"fpn_fem.{level}"
        one = net.conv(x, f"{name}.branch1", **wide)
        two = net.conv(net.conv(x, f"{name}.branch2.0", **wide).relu(), f"{name}.branch2.2", **wide)
        three = net.conv(net.conv(x, f"{name}.branch3.0", **wide).relu(), f"{name}.branch3.2", **wide)
        three = net.conv(three.relu(), f"{name}.branch3.4", **wide)
        x = torch.cat([one, two, three], 1).relu()
        if level < 3:
            x = net.length(x, f"L2Normef{level + 1}")
        logits.append(net.conv(x, f"conf_pal2.{level}", padding=1)[0].permute(1, 2, 0).reshape(-1, 2))
        deltas.append(net.conv(x, f"loc_pal2.{level}", padding=1)[0].permute(1, 2, 0).reshape(-1, 4))
        sizes.append(x.shape[2:])
    return torch.cat(logits), torch.cat(deltas), sizes


def detections(outputs, height, width, ratio, clip, threshold):
    """Boxes ``(n, 4)`` and scores, computed as the public code does.

    Priors are fractions of the picture and are decoded as in SSD. The best 5,000 above the threshold go through NMS at
    0.3, and at most 750 remain.
    """
    logits, deltas, sizes = outputs
    priors = []
    for (rows, columns), stride, side in zip(sizes, (4, 8, 16, 32, 64, 128), (16, 32, 64, 128, 256, 512), strict=True):
        for i in range(rows):
            for j in range(columns):
                w, h = side / math.sqrt(ratio) / width, side * math.sqrt(ratio) / height
                priors.append([(j + 0.5) * stride / width, (i + 0.5) * stride / height, w, h])
    priors = torch.tensor(priors, dtype=torch.float64)
    if clip:
        priors = priors.clamp(0, 1)
    deltas = deltas.double()
    centres = priors[:, :2] + deltas[:, :2] * 0.1 * priors[:, 2:]
    # Deltas must stay below MMDetection's limit, a side of 1000 / 16 times the prior's: the public decoders have none.
    assert float(deltas[:, 2:].abs().max()) * 0.2 < math.log(1000 / 16)
    sides = priors[:, 2:] * torch.exp(deltas[:, 2:] * 0.2)
    boxes = torch.cat([centres - sides / 2, centres + sides / 2], 1) * torch.tensor([width, height] * 2)
    scores = logits.double().softmax(1)[:, 1]
    order = scores.argsort(descending=True)
    order = order[scores[order] > threshold][:5000]
    order = order[torchvision.ops.nms(boxes[order], scores[order], 0.3)][:750]
    return boxes[order], scores[order]
