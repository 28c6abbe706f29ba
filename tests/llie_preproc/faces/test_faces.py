"""``MTCNN`` finds a known face, and ``EnhancedFaceDetector`` puts any detector behind an enhancer."""

import numpy as np
import pytest

from llie_preproc.errors import MissingExtraError
from llie_preproc.faces import EnhancedFaceDetector, Faces
from tests.support.programs import hiding

skimage_data = pytest.importorskip("skimage.data", reason="needs the extra 'demo'")


class _Recorder:
    """A detector that finds the same face everywhere and keeps the images that it got."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def detect(self, images):
        self.seen = list(images)
        return [Faces(np.array([[8, 4, 24, 20]], np.float32), np.array([0.5], np.float32)) for _ in images]


@pytest.fixture(scope="module")
def mtcnn():
    pytest.importorskip("facenet_pytorch", reason="needs the extra 'face'")
    from llie_preproc.faces import MTCNN

    return MTCNN()


@pytest.fixture(scope="module")
def astronaut():
    return skimage_data.astronaut()


@pytest.fixture(scope="module")
def the_face(mtcnn, astronaut):
    return mtcnn.detect([astronaut])[0].above(0.9)


def test_the_astronaut_has_one_face_in_its_place(the_face):
    assert the_face.boxes.shape == (1, 4)
    assert the_face.boxes.dtype == the_face.scores.dtype == np.float32
    x1, y1, x2, y2 = the_face.boxes[0]
    # From hair to chin in the photograph, measured by eye.
    assert 150 < x1 < 200
    assert 30 < y1 < 90
    assert 250 < x2 < 305
    assert 150 < y2 < 195


def test_a_mirrored_face_is_found_at_the_mirrored_place(mtcnn, astronaut, the_face):
    mirrored = mtcnn.detect([np.ascontiguousarray(astronaut[:, ::-1])])[0].above(0.9)
    expected = the_face.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [512, 0, 512, 0]
    np.testing.assert_allclose(mirrored.boxes, expected, atol=8)


def test_results_do_not_depend_on_the_rest_of_the_batch(mtcnn, astronaut, the_face):
    images = [astronaut[:300], astronaut, np.zeros((40, 60, 3), np.uint8), astronaut // 2, astronaut[:8]]
    together = mtcnn.detect(images)
    for image, faces in zip(images, together, strict=True):
        alone = mtcnn.detect([image])[0]
        np.testing.assert_allclose(faces.boxes, alone.boxes, atol=1e-2)
        np.testing.assert_allclose(faces.scores, alone.scores, atol=1e-4)
    np.testing.assert_allclose(together[1].above(0.9).boxes, the_face.boxes, atol=1e-2)
    assert [len(together[i]) for i in (2, 4)] == [0, 0]


def test_boxes_behind_an_enlarging_enhancer_are_in_the_raw_frame(mtcnn, astronaut, the_face):
    detector = EnhancedFaceDetector(mtcnn, dict(type="Upscale", scale=2))
    found = detector.detect([astronaut[:260, 100:360]])[0].above(0.9)
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes + np.array([100, 0, 100, 0]), the_face.boxes, atol=8)


def test_identity_in_front_changes_nothing(mtcnn, astronaut, the_face):
    found = EnhancedFaceDetector(mtcnn, "Identity").detect([astronaut])[0].above(0.9)
    np.testing.assert_array_equal(found.boxes, the_face.boxes)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_detector_sees_enlarged_images_and_its_boxes_are_divided(scale):
    recorder = _Recorder()
    images = [np.full((10, 20, 3), 90, np.uint8), np.full((16, 12, 3), 7, np.uint8)]
    faces = EnhancedFaceDetector(recorder, dict(type="Upscale", scale=scale, mode="nearest")).detect(images)
    for seen, image, found in zip(recorder.seen, images, faces, strict=True):
        np.testing.assert_array_equal(seen, image.repeat(scale, 0).repeat(scale, 1))
        np.testing.assert_array_equal(found.boxes, np.array([[8, 4, 24, 20]]) / scale)
        assert found.scores.tolist() == [0.5]


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((30, 30, 3), np.float32), TypeError, "image 1.*uint8.*float32"),
        ("a path", TypeError, "image 1.*str"),
        (np.zeros((30, 30), np.uint8), ValueError, r"image 1.*\(H, W, 3\).*\(30, 30\)"),
        (np.zeros((0, 30, 3), np.uint8), ValueError, "image 1"),
    ],
)
def test_a_wrong_image_is_refused_by_its_number(mtcnn, image, error, message):
    with pytest.raises(error, match=message):
        mtcnn.detect([np.zeros((30, 30, 3), np.uint8), image])


@pytest.mark.parametrize(
    "arguments", [dict(min_face_size=0), dict(batch_size=0), dict(factor=1.0), dict(thresholds=(0.6, 0.7, 1.7))]
)
def test_arguments_out_of_range_are_refused(arguments):
    pytest.importorskip("facenet_pytorch", reason="needs the extra 'face'")
    from llie_preproc.faces import MTCNN

    with pytest.raises(ValueError, match=str(next(iter(arguments)))):
        MTCNN(**arguments)


def test_boxes_and_scores_must_have_equal_numbers():
    with pytest.raises(ValueError, match=r"\(2, 4\)"):
        Faces(np.zeros((2, 4), np.float32), np.zeros(3, np.float32))


def test_above_leaves_out_scores_equal_to_the_threshold():
    faces = Faces(np.arange(12, dtype=np.float32).reshape(3, 4), np.array([0.5, 0.9, 0.91], np.float32))
    kept = faces.above(float(np.float32(0.9)))
    assert kept.boxes.tolist() == [[8, 9, 10, 11]]


def test_without_the_extra_the_detector_names_what_to_install(bare_programs):
    code = (
        "import llie_preproc.faces as faces\n"
        "from llie_preproc.errors import MissingExtraError\n"
        "try:\n    faces.MTCNN\nexcept MissingExtraError as error:\n    print(error)"
    )
    done = bare_programs.run("-c", hiding(["facenet_pytorch"]) + code)
    assert 'pip install "llie-preproc[face]"' in done.stdout
    assert issubclass(MissingExtraError, ImportError)
