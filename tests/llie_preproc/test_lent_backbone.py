"""A wrapper's config answers ``config.backbone`` with that of the detector inside; other configs are unchanged."""

from __future__ import annotations

import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

from mmengine.config import Config, ConfigDict

import llie_preproc  # noqa: F401  changes MMEngine's ConfigDict


def test_other_configs_and_other_keys_are_unchanged():
    for model in (dict(type="RetinaNet", detector=dict(backbone={})), dict(type="x.EnhancedDetector"), dict(backbon=1)):
        with pytest.raises(AttributeError, match=r"'ConfigDict' object has no attribute 'backbone'"):
            Config(dict(model=model)).model.backbone  # noqa: B018
    own = Config(dict(model=dict(type="llie_preproc.EnhancedDetector", detector=dict(backbone=1), backbone=2)))
    assert own.model.backbone == 2
    wrapped = ConfigDict(type="llie_preproc.EnhancedDetector", detector=dict(backbone=1))
    assert "backbone" not in wrapped
    assert list(wrapped) == ["type", "detector"]
    with pytest.raises(AttributeError, match="neck"):
        wrapped.neck  # noqa: B018
    assert ConfigDict(type="llie_preproc.BoxPromptedSAM").backbone == {}


@pytest.mark.parametrize("kind", [3, None, ["EnhancedDetector"]])
def test_a_config_without_a_models_name_has_no_backbone(kind: object) -> None:
    config = ConfigDict(type=kind)
    with pytest.raises(AttributeError, match="backbone"):
        _ = config.backbone
