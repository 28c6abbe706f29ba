"""``RetentionScores`` measures how many faces of the unchanged pictures are found again; pictures can be weighted."""

import numpy as np
import pytest

from detection_eval.faces.retention import RetentionScores
from llie_preproc.faces import Faces


def test_retention_weighs_pictures():
    def some(*boxes):
        return Faces(np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.95, np.float32))

    reference = {"a": some([0, 0, 10, 10], [20, 0, 30, 10]), "b": some([0, 0, 10, 10]), "c": some()}
    found = {"a": some([0, 0, 10, 10]), "b": some(), "c": some([5, 5, 9, 9])}
    scores = RetentionScores(reference, found)
    assert scores.values() == pytest.approx({"found": 1 / 3, "found sure": 1 / 3, "unmatched": 1 / 3})
    weighted = scores.values(np.array([[2, 0, 0], [0, 3, 0], [0, 0, 1]]))
    np.testing.assert_allclose(weighted["found"], [0.5, 0, np.nan])
    with pytest.raises(ValueError, match="different pictures"):
        RetentionScores(reference, {"a": some()})
