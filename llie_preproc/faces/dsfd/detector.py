"""DSFD as a detector of MMDetection 3.x."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmdet.models.detectors import SingleStageDetector
from mmengine.logging import print_log
from torch import Tensor, nn

from ...checkpoint_names import fit_names, own_names, replace_own
from ...checkpoints import LoadReport, check_weights, is_counter, match_report
from ...registry import MODELS
from ...safe_loading import SafeInit
from .public import convert_public, public_layout

_PARTS = ("backbone", "neck", "bbox_head")


@MODELS.register_module()
class DSFD(SafeInit, SingleStageDetector):
    """Dual shot face detector (Li et al., CVPR 2019): a backbone, :class:`DSFDNeck` and :class:`DSFDHead`.

    Public checkpoints load as they are, through ``load_from`` in a config, ``init_detector`` and ``load_state_dict``
    (see :mod:`llie_preproc.faces.dsfd.public`). Every tensor of such a file must fit.

    Args:
        backbone, neck, bbox_head, train_cfg, test_cfg, data_preprocessor, init_cfg: Arguments of
            :class:`mmdet.models.SingleStageDetector`.
        min_matched: Smallest share of this network's tensors, in [0, 1], that a checkpoint with this network's own
            names must match.

    Examples:
        >>> import torch
        >>> detector = DSFD(
        ...     backbone=dict(type="llie_preproc.DSFDVGG", widths=(4, 4, 8, 8, 8), fc_width=8),
        ...     neck=dict(type="llie_preproc.DSFDNeck", in_channels=(8,) * 4, extra_channels=((4, 8), (4, 8))),
        ...     bbox_head=dict(type="llie_preproc.DSFDHead", in_channels=(8,) * 6),
        ... )
        >>> original, enhanced = detector.extract_feat(torch.zeros(1, 3, 128, 128))
        >>> [level.shape[-1] for level in enhanced]
        [32, 16, 8, 4, 2, 1]
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        bbox_head: dict,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
        min_matched: float = 0.5,
    ) -> None:
        super().__init__(backbone, neck, dict(bbox_head), train_cfg, test_cfg, data_preprocessor, init_cfg)
        self.min_matched = min_matched

    def convert_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename a checkpoint's tensors to this network's names, and check that they fit.

        Raises:
            CheckpointError: A public checkpoint is that of another network, or too little of another checkpoint
                matches.
        """
        layout = public_layout(state)
        if layout is None:
            cure = f"At least {self.min_matched:.0%} must match (min_matched)."
            self._report(state).check("the checkpoint is not one of this DSFD", self.min_matched, cure)
            return state
        state = convert_public(state)
        report = self._report(state)
        refusal = f"the checkpoint is of the {layout} DSFD layout, but not of this network"
        report.without(is_counter).check(f"{refusal} (another backbone or other options?)")
        print_log(f"DSFD checkpoint, {layout} layout: {report}", logger="current")
        return state

    def _report(self, state: Mapping[str, Tensor]) -> LoadReport:
        """Report on the network alone, because an enhancer in the data preprocessor keeps its own weights."""
        parts = nn.ModuleDict({name: getattr(self, name) for name in _PARTS})
        return match_report(parts, {k: v for k, v in state.items() if k.split(".")[0] in _PARTS})

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        own = self.convert_state(fit_names(self, own_names(state_dict, prefix)))
        check_weights(own, self)
        replace_own(state_dict, prefix, own)
        super()._load_from_state_dict(state_dict, prefix, *args)
