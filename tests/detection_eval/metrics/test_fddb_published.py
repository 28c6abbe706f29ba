"""The FDDB curves of MTCNN's published detections equal those of the official program, byte by byte."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torchmetrics", reason="needs the extra 'mm'")
pytest.importorskip("scipy", reason="needs the extra 'mm'")

from detection_eval.datasets.fddb import picture_sizes, read_detections, read_fddb
from detection_eval.metrics.bootstrap import intervals
from detection_eval.metrics.fddb import FddbScores, fddb_roc, ten_fold


@pytest.fixture(scope="module")
def fddb(shared_data):
    """FDDB's folder, its annotations, the published detections of MTCNN, and the sizes of the pictures."""
    folder = shared_data / "faces" / "fddb"
    truth = read_fddb(folder / "FDDB-folds")
    sizes = picture_sizes(truth, table=folder / "image_sizes.csv")
    return folder, truth, read_detections(folder / "official" / "MTCNN"), sizes


@pytest.fixture(scope="module")
def official(fddb):
    _, truth, found, sizes = fddb
    return fddb_roc(truth, found, sizes)


def test_files_equal_those_of_the_official_program(fddb, official, tmp_path):
    folder = fddb[0] / "official" / "MTCNN"
    official.write(tmp_path / "disc.txt", tmp_path / "cont.txt")
    for own, theirs in (("disc.txt", "MTCNNDiscROC.txt"), ("cont.txt", "MTCNNContROC.txt")):
        expected = (folder / theirs).read_bytes()
        assert len(expected.splitlines()) == 1774
        assert (tmp_path / own).read_bytes() == expected
    assert (official.faces, official.pictures, official.clipped_to, official.caution) == (5171, 2845, "frames", "")
    assert (official.true_positives[0], official.false_positives[0]) == (4635, 249)


@pytest.mark.parametrize(("number", "rate"), [(100, 0.882034), (200, 0.894218), (500, 0.896345)])
def test_rates_equal_the_published_ones(official, number, rate):
    assert official.rate_at(number) == pytest.approx(rate, abs=5e-7)


@pytest.mark.further
def test_the_folds_add_up_to_the_whole_set(fddb, official):
    _, truth, found, sizes = fddb
    rocs = ten_fold(truth, found, sizes)
    assert len(rocs) == 10
    assert sum(roc.true_positives[0] for roc in rocs) == 4635
    assert sum(roc.false_positives[0] for roc in rocs) == 249
    assert sum(roc.faces for roc in rocs) == 5171
    assert np.sum([roc.overlap[0] for roc in rocs]) == pytest.approx(official.overlap[0])
    some = fddb_roc(truth, found, sizes, folds=[3, 7])
    assert some.faces == rocs[2].faces + rocs[6].faces
    assert some.true_positives[0] == rocs[2].true_positives[0] + rocs[6].true_positives[0]
    # A fold that is read alone has the same curve as within the whole set.
    alone = read_fddb(fddb[0] / "FDDB-folds", [7])
    only = fddb_roc(alone, {name: found[name] for name in alone.ellipses}, sizes)
    np.testing.assert_array_equal(only.overlap, rocs[6].overlap)


def test_without_sizes_the_error_is_within_the_stated_bounds(fddb, official):
    _, truth, found, _ = fddb
    roc = fddb_roc(truth, found)
    errors = [np.abs(getattr(roc, kind) - getattr(official, kind)).max() for kind in ("discrete", "continuous")]
    false = np.abs(roc.false_positives - official.false_positives).max()
    assert 0 < errors[0] <= 0.0005
    assert 0 < errors[1] <= 0.001
    assert 0 < false <= 3
    assert roc.clipped_to == "450"
    for figure in ("2845 of 2845", "0.0005", "0.001", "by 3"):
        assert figure in roc.caution


@pytest.mark.further
def test_annotations_that_are_given_as_detections_are_all_found(fddb, tmp_path):
    """The annotations include 493 ellipses that leave their frame, and one of radius 1 at the centre 0, 0."""
    folder, truth, _, sizes = fddb
    files = sorted((folder / "FDDB-folds").glob("*ellipseList.txt"))
    (tmp_path / "all.txt").write_text("".join(file.read_text() for file in files))
    roc = fddb_roc(truth, read_detections(tmp_path / "all.txt"), sizes)
    assert roc.thresholds.tolist() == [1]
    assert roc.true_positives.tolist() == [5171]
    assert roc.overlap.tolist() == [5171]
    assert roc.rate_at(0) == roc.rate_at(0, "continuous") == 1


@pytest.mark.further
def test_rates_of_the_published_detector_have_an_interval(fddb, official):
    _, truth, found, sizes = fddb
    scores = FddbScores(truth, found, sizes, {"TPR": ("discrete", 100)})
    assert scores.values() == {"TPR": official.rate_at(100)}
    interval = intervals([scores], resamples=200)["TPR"]
    assert interval.low < 0.882034 < interval.high
    # If faces were independent, the interval would be about 0.018 wide; faces of one picture are not.
    assert 0.015 < interval.high - interval.low < 0.06


def test_the_published_annotations_and_detections_give_no_hint(official):
    assert official.hints == ()
