"""DSFD's assignment of anchors to the faces that they learn."""

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
    """The improved anchor matching of DSFD (Li et al., 2019), as its public release does it.

    It has three steps:

    1. An anchor belongs to the face that it overlaps most (the first of equal ones) if that IoU reaches ``iou_thr``.
       Otherwise it is background.
    2. Every face takes the anchor that it overlaps most, however little, even from another face. If two faces claim
       the same anchor, the later face gets it. A face that overlaps no anchor gets none.
    3. With ``compensate``, each face with fewer anchors than that number takes more, one face after the other. It takes
       background anchors by falling IoU (the first of equal ones), down to ``compensate_thr`` (S3FD, Zhang et al.,
       2017).

    Args:
        iou_thr: Smallest IoU of a positive anchor, or two values ``(low, high)``: then an anchor is positive from
            ``high`` on, and ignored from ``low`` to below ``high``.
        compensate: Number of anchors that a face should have, 6 in S3FD; 0 for no compensation.
        compensate_thr: Smallest IoU of an anchor taken in compensation.
        ignore_iof_thr: Share of a background anchor's area; the anchor is ignored if more than that lies in an ignored
            face. None keeps it background.
        iou_calculator: Config of MMDetection's calculator of overlaps; by default ``BboxOverlaps2D``.

    Raises:
        ValueError: An argument is outside its range.

    Examples:
        >>> anchors = InstanceData(priors=torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [50, 50, 60, 60]]))
        >>> faces = InstanceData(bboxes=torch.tensor([[0.0, 0, 10, 12]]), labels=torch.tensor([0]))
        >>> FaceAnchorAssigner().assign(anchors, faces).gt_inds.tolist()
        [1, 0, 0]
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
                "compensate must not be negative and compensate_thr must be in (0, 1], "
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
            pred_instances: Anchors, with ``priors`` ``(n, 4)``, x1 y1 x2 y2.
            gt_instances: Faces, with ``bboxes`` ``(k, 4)`` and ``labels`` ``(k,)``.
            gt_instances_ignore: Ignored faces, with ``bboxes``.
            **kwargs: Unused arguments.

        Returns:
            ``gt_inds`` ``(n,)``: the number of the face from 1 on, 0 for background, -1 for ignored;
            ``max_overlaps`` ``(n,)``: the IoU with the face that is overlapped most; ``labels`` ``(n,)``: the label of
            the face, -1 without a face.
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
        """Fill ``owners`` from the overlaps ``(k, n)``, and return each anchor's largest overlap."""
        nearest, face = overlaps.max(dim=0)
        owners[nearest >= self.low] = IGNORED
        owners[nearest >= self.high] = face[nearest >= self.high] + 1
        best, anchor = overlaps.max(dim=1)
        claims = torch.zeros_like(owners)
        numbers = torch.arange(1, len(overlaps) + 1, device=owners.device)
        # The last of the faces that claim an anchor gets it.
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
