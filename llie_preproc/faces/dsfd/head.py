"""DSFD's heads, the paper's plain ones or the release's deep max-in/out ones, with anchors, loss and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmdet.models.dense_heads import SSDHead
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmdet.models.utils import filter_scores_and_topk, multi_apply
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ...registry import MODELS
from ...safe_loading import SafeInit

# The class scores and the box deltas of one set of anchors, level by level.
Outputs = tuple[list[Tensor], list[Tensor]]

_CODER = dict(type="mmdet.DeltaXYWHBBoxCoder", target_stds=(0.1, 0.1, 0.2, 0.2))
_XAVIER = dict(type="Xavier", layer="Conv2d", distribution="uniform", bias=0)


@dataclass(frozen=True)
class AnchorSet:
    """A set of anchors that has losses of its own.

    Attributes:
        suffix: Suffix of the names of its losses; it is empty for the set that predicts.
        first_level: Lowest level (from 0) that has such anchors.
        generator: Generator of its anchors, one at the centre of each cell.
    """

    suffix: str
    first_level: int
    generator: AnchorGenerator


@MODELS.register_module()
class DSFDHead(SafeInit, SSDHead):
    """Heads of DSFD with progressive anchors (Li et al., 2019, Section 3.3).

    ``form='plain'`` is that of the paper: two shots with 3x3 convolutions on each level. The first shot reads the
    original maps and has anchors of half the size; the second reads the enhanced maps. Only the second predicts.

    ``form='deep_mio'`` is that of the public release. On each level of the enhanced maps, two towers of four
    convolutions, one for the classes and one for the boxes, serve three sets of anchors. Anchors of the first set have
    the level's size. Those of the second set (from level 2 on) have half of it, and those of the third set (from level
    3 on) have a quarter. In the first set, the face's score (on level 1: the background's) is the largest of three
    candidates. Only the first set predicts.

    The score of the background is the last one, as everywhere in MMDetection.

    ``train_cfg`` has ``assigner``, ``neg_pos_ratio`` (number of the hardest background anchors for each face anchor, in
    each image), ``smoothl1_beta``, ``allowed_border`` and ``pos_weight``. ``test_cfg`` has ``score_thr``, ``nms_pre``
    (number of the best boxes of *all* levels together), ``nms``, ``max_per_img``, and ``clip_priors`` (whether the
    centres and sizes of anchors are cut to the picture before decoding, as the release does).

    Args:
        num_classes: Number of foreground classes; ``'deep_mio'`` has one.
        in_channels: Numbers of channels of the six maps.
        form: Form of the heads, ``'plain'`` or ``'deep_mio'``.
        feat_channels: Width of the deep towers.
        strides: Strides of the six maps, in pixels.
        anchor_sizes: Square roots of the areas of the predicting set's anchors, in pixels.
        anchor_ratio: Height of an anchor over its width.
        loss_weights: Weights of the sets' losses, the predicting set first; by default all are 1, as published.
        bbox_coder, train_cfg, test_cfg, init_cfg: Arguments of :class:`mmdet.models.SSDHead`.

    Raises:
        ValueError: ``form`` is unknown, or the lengths of arguments differ.

    Examples:
        >>> head = DSFDHead(in_channels=(8,) * 6)
        >>> maps = [torch.rand(1, 8, side, side) for side in (32, 16, 8, 4, 2, 1)]
        >>> scores, boxes = head((maps, maps))
        >>> len(scores), tuple(scores[0][0].shape), tuple(boxes[0][0].shape)
        (2, (1, 2, 32, 32), (1, 4, 32, 32))
    """

    def __init__(
        self,
        num_classes: int = 1,
        in_channels: Sequence[int] = (256, 512, 512, 1024, 512, 256),
        form: str = "plain",
        feat_channels: int = 256,
        strides: Sequence[int] = (4, 8, 16, 32, 64, 128),
        anchor_sizes: Sequence[float] = (16, 32, 64, 128, 256, 512),
        anchor_ratio: float = 1.5,
        loss_weights: Sequence[float] | None = None,
        bbox_coder: dict = _CODER,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if form not in ("plain", "deep_mio") or (form == "deep_mio" and num_classes != 1):
            raise ValueError(
                f"form must be 'plain', or 'deep_mio' with one class, got {form!r} with {num_classes} classes"
            )
        if not len(in_channels) == len(strides) == len(anchor_sizes):
            raise ValueError(
                "in_channels, strides and anchor_sizes must have one entry for each level, "
                f"got {in_channels}, {strides} and {anchor_sizes}"
            )
        self.form = form
        super().__init__(
            num_classes=num_classes,
            in_channels=in_channels,
            feat_channels=feat_channels,
            anchor_generator=_anchors(strides, anchor_sizes, anchor_ratio),
            bbox_coder=bbox_coder,
            train_cfg=train_cfg,
            test_cfg=test_cfg and ConfigDict(test_cfg),
            init_cfg=init_cfg or dict(_XAVIER),
        )
        self.anchor_sets = self._anchor_sets(strides, anchor_sizes, anchor_ratio)
        self.loss_weights = tuple(loss_weights or [1.0] * len(self.anchor_sets))
        if len(self.loss_weights) != len(self.anchor_sets):
            raise ValueError(f"loss_weights must have {len(self.anchor_sets)} entries, got {self.loss_weights}")

    def forward(self, x: tuple[Sequence[Tensor], Sequence[Tensor]]) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Compute scores and deltas from the result of :class:`~llie_preproc.faces.dsfd.neck.DSFDNeck`.

        Returns:
            Class scores ``(N, num_classes + 1, H, W)`` and box deltas ``(N, 4, H, W)``, each by set (the predicting
            set first) and by level. A set that starts at a higher level has fewer maps.
        """
        original, enhanced = x
        sets = [self.second(enhanced), self.first(original)] if self.form == "plain" else self.deep(enhanced)
        return [scores for scores, _ in sets], [boxes for _, boxes in sets]

    def predict(
        self, x: tuple[Sequence[Tensor], Sequence[Tensor]], batch_data_samples: SampleList, rescale: bool = False
    ) -> list[InstanceData]:
        """Predict with the predicting set; for ``'plain'``, only its heads are computed."""
        _, enhanced = x
        scores, boxes = self.second(enhanced) if self.form == "plain" else self.deep(enhanced)[0]
        metas = [sample.metainfo for sample in batch_data_samples]
        return self.predict_by_feat([scores], [boxes], batch_img_metas=metas, rescale=rescale)

    def loss_by_feat(
        self,
        cls_scores: list[list[Tensor]],
        bbox_preds: list[list[Tensor]],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData] | None = None,
    ) -> dict[str, Tensor]:
        """The progressive anchor loss: the SSD loss of every set, divided by the set's number of face anchors.

        Returns:
            ``loss_cls`` and ``loss_bbox`` of the predicting set, and those of the other sets with the suffix ``_first``
            (plain), or ``_set2`` and ``_set3`` (deep).
        """
        truth = (batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)
        losses = {}
        for anchors, weight, scores, boxes in zip(
            self.anchor_sets, self.loss_weights, cls_scores, bbox_preds, strict=True
        ):
            classes, deltas = self._set_loss(anchors.generator, scores, boxes, *truth)
            losses[f"loss_cls{anchors.suffix}"] = weight * classes
            losses[f"loss_bbox{anchors.suffix}"] = weight * deltas
        return losses

    def predict_by_feat(
        self,
        cls_scores: list[list[Tensor]],
        bbox_preds: list[list[Tensor]],
        score_factors: None = None,
        batch_img_metas: list[dict] | None = None,
        cfg: dict | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Predict the boxes of each image by the first set of ``cls_scores`` and ``bbox_preds``."""
        scores, deltas, priors = self._flat(self.prior_generator, cls_scores[0], bbox_preds[0])
        config = ConfigDict(self.test_cfg if cfg is None else cfg)
        return [
            self._image_boxes(s, d, priors, meta, config, rescale, with_nms)
            for s, d, meta in zip(scores.detach(), deltas.detach(), batch_img_metas or [], strict=True)
        ]

    def _init_layers(self) -> None:
        if self.form == "plain":
            self.first = Shot(self.in_channels, self.cls_out_channels)
            self.second = Shot(self.in_channels, self.cls_out_channels)
        else:
            self.deep = DeepMaxInOut(self.in_channels, self.feat_channels)

    def _anchor_sets(self, strides: Sequence[int], sizes: Sequence[float], ratio: float) -> tuple[AnchorSet, ...]:
        def smaller(suffix: str, factor: int, level: int) -> AnchorSet:
            scaled = [size / factor for size in sizes[level:]]
            return AnchorSet(suffix, level, AnchorGenerator(**_anchors(strides[level:], scaled, ratio, typed=False)))

        own = AnchorSet("", 0, self.prior_generator)
        if self.form == "plain":
            return own, smaller("_first", 2, 0)
        return own, smaller("_set2", 2, 1), smaller("_set3", 4, 2)

    def _flat(
        self, generator: AnchorGenerator, scores: list[Tensor], boxes: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores ``(N, A, C)``, deltas ``(N, A, 4)`` and anchors ``(A, 4)``, level by level and row by row."""
        priors = generator.grid_priors([s.shape[-2:] for s in scores], device=scores[0].device)
        flat_scores = [s.permute(0, 2, 3, 1).flatten(1, 2) for s in scores]
        flat_boxes = [b.permute(0, 2, 3, 1).flatten(1, 2) for b in boxes]
        return torch.cat(flat_scores, 1).float(), torch.cat(flat_boxes, 1).float(), torch.cat(priors)

    def _set_loss(
        self,
        generator: AnchorGenerator,
        scores: list[Tensor],
        boxes: list[Tensor],
        truth: list[InstanceData],
        metas: list[dict],
        ignored: list[InstanceData] | None,
    ) -> tuple[Tensor, Tensor]:
        flat_scores, flat_boxes, priors = self._flat(generator, scores, boxes)
        sizes = [s.shape[-2:] for s in scores]
        flags = [torch.cat(generator.valid_flags(sizes, m["pad_shape"], priors.device)) for m in metas]
        every_image = [priors] * len(metas)
        targets = self.get_targets([[p] for p in every_image], [[f] for f in flags], truth, metas, ignored)[:4]
        labels = targets[0][0]
        # MMDetection counts at least one face anchor for each image, but the published loss divides by the batch's
        # count.
        faces = int(((labels >= 0) & (labels < self.num_classes)).sum())
        losses = multi_apply(
            self.loss_by_feat_single,
            flat_scores,
            flat_boxes,
            every_image,
            *(levels[0] for levels in targets),
            avg_factor=max(faces, 1),
        )
        return torch.stack(losses[0]).sum(), torch.stack(losses[1]).sum()

    def _image_boxes(
        self,
        scores: Tensor,
        deltas: Tensor,
        priors: Tensor,
        meta: dict,
        config: ConfigDict,
        rescale: bool,
        with_nms: bool,
    ) -> InstanceData:
        if config.get("clip_priors", False):
            priors = clip_priors(priors, meta["img_shape"])
        foreground = scores.softmax(-1)[:, :-1]
        kept, labels, _, rest = filter_scores_and_topk(
            foreground,
            config.get("score_thr", 0.0),
            config.get("nms_pre", len(foreground)),
            dict(deltas=deltas, priors=priors),
        )
        boxes = self.bbox_coder.decode(rest["priors"], rest["deltas"], max_shape=meta["img_shape"])
        found = InstanceData(bboxes=boxes, scores=kept, labels=labels)
        return self._bbox_post_process(found, config, rescale=rescale, with_nms=with_nms, img_meta=meta)


class Shot(nn.Module):
    """A 3x3 convolution for the classes and one for the boxes on each level."""

    def __init__(self, in_channels: Sequence[int], classes: int) -> None:
        super().__init__()
        self.cls = nn.ModuleList(nn.Conv2d(c, classes, 3, padding=1) for c in in_channels)
        self.reg = nn.ModuleList(nn.Conv2d(c, 4, 3, padding=1) for c in in_channels)

    def forward(self, maps: Sequence[Tensor]) -> Outputs:
        """Compute scores and deltas, level by level."""
        scores = [convolution(m) for convolution, m in zip(self.cls, maps, strict=True)]
        return scores, [convolution(m) for convolution, m in zip(self.reg, maps, strict=True)]


class DeepMaxInOut(nn.Module):
    """The release's towers, whose last channels are split among three sets of anchors.

    The class channels are four candidates of the first set, [face, background x 3] on level 1 and [face x 3,
    background] above; then [face, background] of the second set (from level 2) and of the third (from level 3).
    """

    def __init__(self, in_channels: Sequence[int], width: int) -> None:
        super().__init__()
        sets = [min(level + 1, 3) for level in range(len(in_channels))]
        self.cls = nn.ModuleList(_tower(c, width, 2 + 2 * n) for c, n in zip(in_channels, sets, strict=True))
        self.reg = nn.ModuleList(_tower(c, width, 4 * n) for c, n in zip(in_channels, sets, strict=True))

    def forward(self, maps: Sequence[Tensor]) -> list[Outputs]:
        """Compute the scores and deltas of the three sets; the k-th set has none on the first k - 1 levels."""
        scores = [tower(m) for tower, m in zip(self.cls, maps, strict=True)]
        boxes = [tower(m) for tower, m in zip(self.reg, maps, strict=True)]
        first = [max_in_out(s, lowest=level == 0) for level, s in enumerate(scores)]
        sets = [(first, [b[:, :4] for b in boxes])]
        for k in (1, 2):
            channels, box = slice(2 + 2 * k, 4 + 2 * k), slice(4 * k, 4 * k + 4)
            sets.append(([s[:, channels] for s in scores[k:]], [b[:, box] for b in boxes[k:]]))
        return sets


def max_in_out(scores: Tensor, lowest: bool) -> Tensor:
    """Reduce the four candidates in the first channels to (face, background), ``(N, 2, H, W)``.

    On the lowest level, where many small false positives arise, the background's score is the largest of three
    candidates (max-out); on the other levels, the face's score is the largest of three (max-in).
    """
    faces, backgrounds = scores[:, :4].split((1, 3) if lowest else (3, 1), dim=1)
    return torch.cat([faces.amax(1, keepdim=True), backgrounds.amax(1, keepdim=True)], dim=1)


def clip_priors(priors: Tensor, shape: Sequence[int]) -> Tensor:
    """Limit the centres and sizes of anchors ``(A, 4)``, x1 y1 x2 y2, to the size of the picture.

    An anchor whose size is cut keeps its centre, so it may still reach beyond the picture.
    """
    height, width = shape[:2]
    limit = priors.new_tensor([width, height, width, height])
    return bbox_cxcywh_to_xyxy(torch.minimum(bbox_xyxy_to_cxcywh(priors).clamp(min=0), limit))


def _anchors(strides: Sequence[int], sizes: Sequence[float], ratio: float, typed: bool = True) -> dict:
    """Config of MMDetection's generator; its ratio is height over width, and its centres are those of the cells."""
    options = dict(
        strides=list(strides),
        ratios=[ratio],
        scales=[1.0],
        base_sizes=list(sizes),
        centers=[(stride / 2, stride / 2) for stride in strides],
    )
    return dict(options, type="mmdet.AnchorGenerator") if typed else options


def _tower(channels: int, width: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
        channels = width
    return nn.Sequential(*layers, nn.Conv2d(width, out, 1))
