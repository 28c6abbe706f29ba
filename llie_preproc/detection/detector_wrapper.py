"""The common base of detectors that have another detector inside."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from mmdet.models.detectors import BaseDetector
from mmengine.logging import print_log
from torch import Tensor, nn

from ..checkpoint_names import WRAPPED, fit_names, own_names, replace_own
from ..checkpoints import LoadReport, check_weights, is_counter, match_report
from ..errors import CheckpointError
from ..safe_loading import SafeInit
from .data_preprocessor import keep_weights

RAW = {"type": "mmengine.BaseDataPreprocessor"}


class DetectorWrapper(SafeInit, BaseDetector):
    """A wrapper of a detector that has the detector's attributes and loads checkpoints of the plain detector.

    Attributes:
        detector: Detector that is wrapped, or None.
        min_matched: Smallest share of the detector's tensors that a loaded checkpoint must match.
        strict: Whether a loaded checkpoint must name all tensors of the detector and no others. Shapes may differ
            (with another number of classes) as far as ``min_matched`` allows.

    Examples:
        >>> class Wrapper(DetectorWrapper):
        ...     def __init__(self, detector):
        ...         super().__init__()
        ...         self.detector, self.min_matched = detector, 0.5
        ...
        ...     loss = predict = _forward = extract_feat = None
        >>> plain = nn.Sequential(nn.Linear(2, 1))
        >>> wrapper = Wrapper(nn.Sequential(nn.Linear(2, 1)))
        >>> _ = wrapper.load_state_dict(plain.state_dict())
        >>> wrapper.detector[0].bias.equal(plain[0].bias)
        True
    """

    detector: Any
    min_matched: float
    strict: bool = True

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            detector = self.__dict__.get("_modules", {}).get("detector")
            if detector is None:
                raise
            return getattr(detector, name)

    def convert_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename the tensors of the wrapper's or the plain detector's checkpoint to the names of the wrapper.

        Parts beside the detector that the checkpoint does not have keep their weights.

        Raises:
            CheckpointError: Too little of the detector matches; or, with ``strict``, the names differ; or, without a
                detector, the checkpoint has no tensor of the wrapper.
        """
        parts = [name for name, _ in self.named_children()]
        if self.detector is not None:
            state = self._with_inner(state, self.detector)
        elif state and not {name.split(".")[0] for name in state} & set(parts):
            raise CheckpointError(
                f"the checkpoint is not one of {type(self).__name__}, which has {', '.join(parts)}: it begins with "
                f"{next(iter(state))}"
            )
        for name, part in self._beside_detector():
            keep_weights(part, state, f"{name}.")
        return state

    def _beside_detector(self) -> Iterator[tuple[str, nn.Module]]:
        """The parts beside the detector, which a checkpoint may lack."""
        for name, part in self.named_children():
            if isinstance(part, nn.ModuleDict):
                yield from ((f"{name}.{key}", each) for key, each in part.items())
            elif name != "detector":
                yield name, part

    def _with_inner(self, state: dict[str, Tensor], detector: nn.Module) -> dict[str, Tensor]:
        if self._is_plain(state, detector):
            own = self.state_dict()
            # Tensors of the wrapper's own data preprocessor (an enhancer) have their final names already.
            kept = {name for name in state if name.startswith("data_preprocessor.") and name in own}
            state = {name if name in kept else WRAPPED + name: tensor for name, tensor in state.items()}
        inner = {name.removeprefix(WRAPPED): tensor for name, tensor in state.items() if name.startswith(WRAPPED)}
        # Some detectors rename tensors when they load: DSFD those with public names, another wrapper and
        # SemiBaseDetector those of a plain detector.
        detector._load_from_state_dict(inner, "", {}, False, [], [], [])
        report = match_report(detector, inner)
        cure = f"At least {self.min_matched:.0%} must match (min_matched)."
        report.check(f"the checkpoint is not one of {type(detector).__name__}", self.min_matched, cure)
        self._check_names(report.without(_need_not_fit))
        level = logging.INFO if report.whole else logging.WARNING
        print_log(f"{type(detector).__name__}: {report}", logger="current", level=level)
        others = {name: tensor for name, tensor in state.items() if not name.startswith(WRAPPED)}
        return others | {WRAPPED + name: tensor for name, tensor in inner.items()}

    def _is_plain(self, state: dict[str, Tensor], detector: nn.Module) -> bool:
        """Whether a checkpoint is that of the detector alone, which may itself have a part ``detector``."""
        # Plain checkpoints have a data preprocessor of the same name too, so that name tells nothing.
        own, inner = ({name for name, _ in m.named_children()} - {"data_preprocessor"} for m in (self, detector))
        roots = {name.split(".")[0] for name in state}
        if roots & (own - inner):
            return False
        if roots & (inner - own) or not roots & own:
            return True
        return any(name in state for name in detector.state_dict())

    def _check_names(self, report: LoadReport) -> None:
        if self.strict and (report.missing or report.unexpected):
            raise CheckpointError(
                f"the checkpoint names other tensors than {type(self.detector).__name__}: it lacks "
                f"{_listed(report.missing)}; it also has {_listed(report.unexpected)}. strict=False loads what "
                "fits."
            )

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        state = fit_names(self, own_names(state_dict, prefix))
        own = self.convert_state(state)
        check_weights(own, self)
        replace_own(state_dict, prefix, own)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _need_not_fit(name: str) -> bool:
    """Whether a tensor may be missing: old checkpoints have no counters, and the config sets the data preprocessor."""
    return is_counter(name) or name.startswith("data_preprocessor.")


def _listed(names: Sequence[str], most: int = 10) -> str:
    return (", ".join(names[:most]) or "nothing") + (f" and {len(names) - most} more" if len(names) > most else "")
