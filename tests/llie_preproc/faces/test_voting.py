"""``box_voting`` equals a plain implementation; the passes of DSFD over a picture equal those computed by hand."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llie_preproc.faces import EnhancedFaceDetector, Faces, VotedFaceDetector, box_voting, fddb_passes, wider_passes
from llie_preproc.faces.voting import Pass


def plain_vote(boxes, scores, iou, limit):
    """The votes, computed with lists: pairs of a group's mean box and its largest score."""
    rest = sorted(zip(map(list, boxes), scores, strict=True), key=lambda pair: -pair[1])
    merged = []
    while rest:
        first = rest[0][0]
        group = [pair for i, pair in enumerate(rest) if i == 0 or inclusive_iou(first, pair[0]) >= iou]
        rest = [pair for pair in rest if not any(pair is member for member in group)]
        if len(group) == 1:
            continue
        total = sum(score for _, score in group)
        mean = [sum(box[k] * score for box, score in group) / total for k in range(4)]
        merged.append((mean, max(score for _, score in group)))
    return merged[:limit]


def inclusive_iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    sizes = [(x2 - x1 + 1) * (y2 - y1 + 1) for x1, y1, x2, y2 in (a, b)]
    return width * height / (sum(sizes) - width * height)


BOX = st.tuples(*[st.integers(0, 20), st.integers(0, 20), st.integers(0, 15), st.integers(0, 15)]).map(
    lambda v: [v[0], v[1], v[0] + v[2], v[1] + v[3]]
)
IOUS = st.sampled_from([0.1, 0.3, 0.5, 1.0])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(BOX, st.integers(1, 64)), max_size=20), IOUS, st.integers(1, 4))
def test_the_vote_follows_the_definition(found, iou, limit):
    boxes = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
    scores = np.array([score / 64 for _, score in found], np.float32)
    voted = box_voting(boxes, scores, iou, limit)
    expected = plain_vote(boxes.tolist(), scores.tolist(), iou, limit)
    assert len(voted) == len(expected)
    np.testing.assert_allclose(voted.boxes, np.array([b for b, _ in expected]).reshape(-1, 4), rtol=1e-5)
    assert voted.scores.tolist() == [s for _, s in expected]
    assert voted.boxes.dtype == voted.scores.dtype == np.float32


@settings(max_examples=50, deadline=None)
@given(st.lists(BOX, min_size=2, max_size=12, unique_by=tuple), st.randoms(use_true_random=False))
def test_the_order_of_the_boxes_does_not_matter(boxes, random):
    scores = np.linspace(0.2, 0.9, len(boxes))
    order = list(range(len(boxes)))
    random.shuffle(order)
    one = box_voting(np.array(boxes), scores)
    other = box_voting(np.array(boxes)[order], scores[order])
    np.testing.assert_allclose(other.boxes, one.boxes, rtol=1e-5)
    np.testing.assert_array_equal(other.scores, one.scores)


def test_a_box_alone_is_dropped_and_a_pair_is_averaged_by_score():
    boxes = np.array([[0, 0, 10, 10], [2, 2, 12, 12], [100, 100, 120, 120]])
    voted = box_voting(boxes, np.array([0.6, 0.2, 0.99]))
    np.testing.assert_allclose(voted.boxes, [[0.5, 0.5, 10.5, 10.5]])
    assert voted.scores.tolist() == [np.float32(0.6)]
    assert len(box_voting(boxes[2:], np.array([0.9]))) == 0
    assert len(box_voting(np.zeros((0, 4)), np.zeros(0))) == 0


def test_scores_of_zero_weigh_alike():
    voted = box_voting(np.array([[0, 0, 10, 10], [2, 0, 12, 10]]), np.zeros(2))
    np.testing.assert_allclose(voted.boxes, [[1, 0, 11, 10]])


@pytest.mark.parametrize(
    ("boxes", "scores", "options", "message"),
    [
        (np.zeros((2, 4)), np.zeros(3), {}, r"\(2, 4\) and \(3,\)"),
        (np.zeros((2, 5)), np.zeros(2), {}, r"\(2, 5\)"),
        (np.zeros((1, 4)), np.array([-0.5]), {}, "-0.5"),
        (np.zeros((1, 4)), np.array([np.nan]), {}, "nan"),
        (np.zeros((1, 4)), np.zeros(1), dict(iou=0.0), "iou.*0.0"),
        (np.zeros((1, 4)), np.zeros(1), dict(limit=0), "limit.*0"),
    ],
)
def test_wrong_boxes_scores_and_options_are_refused(boxes, scores, options, message):
    with pytest.raises(ValueError, match=message):
        box_voting(boxes, scores, **options)


# The largest scale is the root of 10,737,418.235 / (height x width), but at most 3.
LARGE, SMALL = dict(longest_above=30), dict(shortest_below=100)
BY_HAND = {
    (100, 100): (1, [(0.5, LARGE), (0.75, LARGE), (2, SMALL), (1.5, SMALL), (3, SMALL)], (1.25, 1.75, 2.25)),
    (1300, 1400): (1, [(0.5, LARGE), (0.75, LARGE), (2, SMALL), (1.5, SMALL), (2.428925, SMALL)], (1.25, 1.75, 2.25)),
    (2000, 1600): (1, [(0.5, LARGE), (0.75, LARGE), (1.831787, SMALL), (1.5, SMALL)], (1.25, 1.75)),
    (1600, 2400): (1, [(0.5, LARGE), (0.75, LARGE), (1.672185, SMALL), (1.5, SMALL)], (1.25,)),
    (3000, 2000): (1, [(0.5, LARGE), (0.75, LARGE), (1.337749, SMALL)], (1.25,)),
    (3000, 4000): (0.945931, [(0.5, LARGE), (0.75, LARGE), (0.722966, LARGE)], ()),
    (4000, 5000): (0.732714, [(0.366357, LARGE), (0.549536, LARGE)], ()),
}


@pytest.mark.parametrize(("size", "expected"), BY_HAND.items(), ids=str)
def test_the_passes_equal_the_releases(size, expected):
    base, middle, more = expected
    scales = [(base, {}), (base, dict(mirror=True)), *middle, (0.25, LARGE), *((scale, SMALL) for scale in more)]
    passes = wider_passes(*size)
    assert [each.scale for each in passes] == pytest.approx([scale for scale, _ in scales], abs=1e-5)
    assert [Pass(1, each.mirror, each.longest_above, each.shortest_below) for each in passes] == [
        Pass(1, **options) for _, options in scales
    ]
    assert fddb_passes(*size) == passes[:2]


def test_sizes_and_scales_must_be_positive():
    with pytest.raises(ValueError, match=r"height and width.*0"):
        wider_passes(0, 10)
    with pytest.raises(ValueError, match=r"scale.*0"):
        Pass(0)


def test_filters_count_both_ends_of_the_restored_box():
    # The view has half the size. Restored, the sides are 30 and 31 pixels, and 99 and 100, both ends included.
    boxes = np.array([[0, 0, 29, 10], [0, 0, 30, 10], [0, 0, 98, 200], [0, 0, 99, 200]], np.float32)
    faces = Faces(boxes / 2, np.array([0.1, 0.2, 0.3, 0.4], np.float32))

    def kept(**options):
        return Pass(0.5, **options).restore(faces, 400, 400).scores.tolist()

    assert kept() == faces.scores.tolist()
    assert kept(longest_above=30) == faces.scores[1:].tolist()
    assert kept(shortest_below=100) == faces.scores[:3].tolist()


class _Bright:
    """A detector of bright rectangles; with ``lean`` it gives better scores and tighter boxes further left."""

    def __init__(self, lean=0.0):
        self.lean, self.shown = lean, []

    def detect(self, images):
        self.shown = list(images)
        return [self._one(image) for image in images]

    def _one(self, image):
        count, _, stats, centres = cv2.connectedComponentsWithStats((image[..., 0] > 100).astype(np.uint8))
        x, y, w, h = (stats[1:count, k].astype(np.float32) for k in range(4))
        place = centres[1:count, 0] / image.shape[1]
        boxes = np.stack([x - self.lean * place, y, x + w + self.lean * place, y + h], axis=1)
        return Faces(boxes.astype(np.float32), (0.9 - 0.5 * place * bool(self.lean)).astype(np.float32))


def scene(height, width, boxes):
    image = np.full((height, width, 3), 10, np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 220
    return image


BOXES = [[20, 30, 60, 80], [120, 14, 150, 60], [90, 100, 150, 180], [170, 100, 190, 118]]


@pytest.mark.parametrize("passes", ["fddb", "wider"])
def test_faces_that_all_views_show_are_found_in_place(passes):
    detector = _Bright()
    image = scene(200, 240, BOXES)
    (found,) = VotedFaceDetector(detector, passes).detect([image])
    assert len(found) == len(BOXES)
    for box in BOXES:
        assert np.abs(found.boxes - box).max(axis=1).min() < 1.0
    shown = [view.shape[:2] for view in detector.shown]
    assert shown[:2] == [(200, 240)] * 2
    if passes == "wider":
        scales = (0.5, 0.75, 2, 1.5, 3, 0.25, 1.25, 1.75, 2.25)
        assert shown[2:] == [(round(200 * s), round(240 * s)) for s in scales]
    np.testing.assert_array_equal(detector.shown[0], image)
    np.testing.assert_array_equal(detector.shown[1], image[:, ::-1])


def test_a_mirrored_picture_gives_the_mirrored_faces():
    image = scene(200, 240, BOXES)
    leaning = _Bright(lean=6.0)
    voted = VotedFaceDetector(leaning)
    straight, mirrored = voted.detect([image, np.ascontiguousarray(image[:, ::-1])])
    turned = np.array([240, 0, 240, 0]) + mirrored.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1]
    order, other = np.argsort(straight.boxes[:, 0]), np.argsort(turned[:, 0])
    assert len(straight) == len(BOXES)
    np.testing.assert_allclose(turned[other], straight.boxes[order], atol=1e-3)
    np.testing.assert_array_equal(mirrored.scores[other], straight.scores[order])
    # Without the vote, the detector prefers one side.
    alone = leaning.detect([image, np.ascontiguousarray(image[:, ::-1])])
    assert not np.allclose(np.sort(alone[0].scores), np.sort(alone[1].scores))


def test_the_caller_chooses_passes_and_the_score_threshold():
    image = scene(100, 100, [[10, 10, 40, 40], [60, 60, 90, 90]])
    twice = VotedFaceDetector(_Bright(lean=1.0), lambda height, width: [Pass(1), Pass(width / 50)])
    (both,) = twice.detect([image])
    assert len(both) == 2
    strict = VotedFaceDetector(_Bright(lean=1.0), lambda height, width: [Pass(1), Pass(2)], score_thr=0.7)
    assert strict.detect([image])[0].scores.tolist() == both.scores[both.scores > 0.7].tolist()
    once = VotedFaceDetector(_Bright(), lambda height, width: [Pass(1)])
    assert len(once.detect([image])[0]) == 0


def test_an_enhancer_can_come_before_the_vote():
    image = scene(120, 140, [[20, 30, 60, 80]]) // 2
    plain = VotedFaceDetector(_Bright()).detect([image])[0]
    brighter = EnhancedFaceDetector(VotedFaceDetector(_Bright()), dict(type="GammaCorrection", gamma=0.4))
    assert len(plain) == 1
    dark = image // 2
    assert len(VotedFaceDetector(_Bright()).detect([dark])[0]) == 0
    np.testing.assert_allclose(brighter.detect([dark])[0].boxes, plain.boxes, atol=1)


def test_tiny_pictures_are_taken():
    assert [
        len(found) for found in VotedFaceDetector(_Bright(), "wider").detect([scene(1, 2, []), scene(3, 1, [])])
    ] == [0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(passes="voc"), "fddb, wider.*'voc'"),
        (dict(iou=2.0), "iou.*2.0"),
        (dict(limit=0), "limit"),
        (dict(score_thr=1.5), "score_thr.*1.5"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VotedFaceDetector(_Bright(), **options)


def test_a_wrong_picture_is_refused_by_its_number():
    with pytest.raises(TypeError, match=r"image 0.*float32"):
        VotedFaceDetector(_Bright()).detect([np.zeros((10, 10, 3), np.float32)])
