"""Which anchor learns which face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.task_modules.assigners import AssignResult, BaseAssigner
from mmdet.registry import TASK_UTILS as MMDET_TASK_UTILS
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from ...registry import TASK_UTILS

IGNORED, BACKGROUND = -1, 0


@TASK_UTILS.register_module()
class FaceAnchorAssigner(BaseAssigner):
    """The improved anchor matching of DSFD (Li et al., 2019), as its public release has it.

    In this order:

    1. An anchor belongs to the face that it overlaps most, where that IoU reaches ``iou_thr``; of equal ones to the
       first. Otherwise it is background.
    2. Every face takes the anchor that it overlaps most, however little, from whichever face has it; where two faces
       want one anchor the later has it. A face that overlaps no anchor stays without.
    3. With ``compensate``, faces that have fewer anchors than that take further ones, face after face: background
       ones by falling IoU (of equal ones the first), none below ``compensate_thr`` (S3FD, Zhang et al., 2017).

    Args:
        iou_thr: Least IoU of a positive; or two values ``(low, high)``: from ``high`` on an anchor is positive, from
            ``low`` to below ``high`` it is ignored.
        compensate: Anchors that a face should have; 0: no compensation. S3FD has 6.
        compensate_thr: Least IoU of an anchor taken in compensation.
        ignore_iof_thr: A background anchor that lies in an ignored face by more than this share of its area is
            ignored too; None: it stays background.
        iou_calculator: MMDetection's.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        iou_thr: float | Sequence[float] = 0.4,
        compensate: int = 0,
        compensate_thr: float = 0.1,
        ignore_iof_thr: float | None = None,
        iou_calculator: dict[str, Any] | None = None,
    ) -> None:
        thresholds = (iou_thr, iou_thr) if isinstance(iou_thr, int | float) else tuple(iou_thr)
        if len(thresholds) != 2 or not 0 < thresholds[0] <= thresholds[1] <= 1:
            raise ValueError(f"iou_thr must be in (0, 1], or two such values (low, high) in order, got {iou_thr}")
        if compensate < 0 or not 0 < compensate_thr <= 1:
            raise ValueError(
                "compensate must be a number of anchors and compensate_thr in (0, 1], "
                f"got {compensate} and {compensate_thr}"
            )
        if ignore_iof_thr is not None and not 0 <= ignore_iof_thr < 1:
            raise ValueError(f"ignore_iof_thr must be in [0, 1), or None, got {ignore_iof_thr}")
        self.low, self.high = thresholds
        self.compensate, self.compensate_thr = compensate, compensate_thr
        self.ignore_iof_thr = ignore_iof_thr
        self.iou_calculator = MMDET_TASK_UTILS.build(iou_calculator or dict(type="mmdet.BboxOverlaps2D"))

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs: Any,
    ) -> AssignResult:
        """Assign the ``n`` anchors of one image to its ``k`` faces.

        Args:
            pred_instances: With ``priors`` ``(n, 4)``, x1 y1 x2 y2.
            gt_instances: With ``bboxes`` ``(k, 4)`` and ``labels`` ``(k,)``.
            gt_instances_ignore: With ``bboxes`` of ignored faces.
            **kwargs: Unused.

        Returns:
            ``gt_inds`` ``(n,)``: the face's number from 1, 0 for background, -1 for ignored; ``max_overlaps`` ``(n,)``:
            IoU with the face overlapped most; ``labels`` ``(n,)``: the face's, -1 without one.
        """
        priors, faces = get_box_tensor(pred_instances.priors), get_box_tensor(gt_instances.bboxes)
        owners = torch.zeros(len(priors), dtype=torch.long, device=priors.device)
        labels = torch.full_like(owners, -1)
        overlaps = self.iou_calculator(faces, priors)
        if len(faces) == 0 or len(priors) == 0:
            nearest = overlaps.new_zeros(len(priors))
        else:
            nearest = self._match(overlaps, owners)
        self._ignore(owners, priors, gt_instances_ignore)
        taken = owners > BACKGROUND
        labels[taken] = gt_instances.labels[owners[taken] - 1]
        return AssignResult(len(faces), owners, nearest, labels)

    def _match(self, overlaps: Tensor, owners: Tensor) -> Tensor:
        """Fill ``owners`` from the overlaps ``(k, n)``; returns each anchor's largest."""
        nearest, face = overlaps.max(dim=0)
        owners[nearest >= self.low] = IGNORED
        owners[nearest >= self.high] = face[nearest >= self.high] + 1
        best, anchor = overlaps.max(dim=1)
        claims = torch.zeros_like(owners)
        numbers = torch.arange(1, len(overlaps) + 1, device=owners.device)
        # Of the faces that claim one anchor the last has it.
        claims.scatter_reduce_(0, anchor[best > 0], numbers[best > 0], "amax")
        owners[claims > 0] = claims[claims > 0]
        if self.compensate:
            self._compensate(overlaps, owners)
        return nearest

    def _compensate(self, overlaps: Tensor, owners: Tensor) -> None:
        counts = torch.bincount(owners.clamp(min=0), minlength=len(overlaps) + 1)[1:]
        for face in (counts < self.compensate).nonzero().flatten().tolist():
            free = ((owners == BACKGROUND) & (overlaps[face] >= self.compensate_thr)).nonzero().flatten()
            order = overlaps[face, free].sort(descending=True, stable=True).indices
            owners[free[order[: self.compensate - int(counts[face])]]] = face + 1

    def _ignore(self, owners: Tensor, priors: Tensor, ignored: InstanceData | None) -> None:
        if self.ignore_iof_thr is None or ignored is None or len(ignored) == 0 or len(priors) == 0:
            return
        inside = self.iou_calculator(priors, get_box_tensor(ignored.bboxes), mode="iof").amax(dim=1)
        owners[(owners == BACKGROUND) & (inside > self.ignore_iof_thr)] = IGNORED
