"""One new file is enough to add a metric, an annotation format, a set of faces, a face detector or a method."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.places import copy_packages

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'compare'")

# Texts of the new files, by path.
NEW = {
    "detection_eval/metrics/darkest.py": '''
        """The mean level of the darkest pixels."""

        from functools import partial

        from ..self_registration import Setting
        from .meters import Meter, meter_builder


        def darkest(image, share):
            levels = image.float().flatten().sort().values
            return levels[: max(1, int(share * len(levels)))].mean().item()


        @meter_builder("darkest", Setting("darkest_share", "share of the levels", 0.1, type=float, metavar="S"))
        def _meter(darkest_share):
            return Meter(f"mean of the darkest {darkest_share:g}", "DARK {:.2f}", partial(darkest, share=darkest_share))
    ''',
    "detection_eval/metrics/any_found.py": '''
        """The share of pictures in which anything is found."""

        import numpy as np

        from .detection_table import detection_metric
        from .detections import image_ids
        from .matches import ImageScores


        @detection_metric("any-found", "Anything found")
        class AnyFound(ImageScores):
            names = ("AP",)

            def __init__(self, truth, detections):
                super().__init__(image_ids(truth))
                found = {each["image_id"] for each in detections}
                self._found = np.array([each in found for each in self.image_ids])

            def _weighted(self, weights):
                return ((weights @ self._found) / weights.sum(axis=1))[None]
    ''',
    "detection_eval/datasets/formats/corners.py": '''
        """Corners: NAME.txt, a line with x1 y1 x2 y2 for each box."""

        from pathlib import Path

        from ..annotation_formats import add_folders, annotation_format
        from ..labels import Box, BoxList, LabelSet, Place, integers, parse_rows, pictures_by, read_lines, texts_by


        def corners(images, annotations, thing):
            pictures, texts = pictures_by(Path(images), lambda p: p.stem), texts_by(Path(annotations), lambda p: p.stem)

            def parse(line):
                x1, y1, x2, y2 = integers(line.split(), ["x1", "y1", "x2", "y2"])
                return x1, y1, x2 - x1, y2 - y1

            def read(key, size, problems):
                rows = parse_rows(enumerate(read_lines(texts[key]), start=1), texts[key], parse, problems)
                return BoxList([Box((1,), xywh, number) for number, xywh in rows])

            places = {key: Place(path) for key, path in texts.items()}
            return LabelSet("corners", Path(images), {1: thing}, pictures, places, read)


        @annotation_format("corners", "texts of corners")
        def _arguments(parser):
            add_folders(parser, "folder of the texts")
            parser.add_argument("--thing", default="thing")
            return lambda args: corners(args.images, args.annotations, args.thing)
    ''',
    "detection_eval/faces/protocols/halves.py": '''
        """Pictures with one face each, which fills a half."""

        from pathlib import Path

        import numpy as np

        from llie_preproc.pictures import picture_files, picture_size

        from ...self_registration import Setting
        from .base import Evaluation, Protocol, face_set


        @face_set("halves")
        class Halves(Protocol):
            settings = (Setting("side", "half with the face", needed=True, choices=("left", "right")),)
            title = "HALVES"
            headline = "hits"

            def __init__(self, images, side):
                super().__init__({path.name: path for path in picture_files(images)})
                self.side = side

            def faces(self, name):
                width, height = picture_size(self.files[name])
                start = 0 if self.side == "left" else width / 2
                return np.array([[start, 0, start + width / 2, height]])

            def evaluate(self, names, found):
                hits = [any(np.allclose(box, self.faces(n)[0]) for box in found[n].boxes) for n in names]
                return Evaluation({"hits": float(np.mean(hits))})

            def notes(self):
                return ["hits: share of the pictures whose half is found."]
    ''',
    "detection_eval/faces/named_detectors/left_halves.py": '''
        """A detector that takes the left half of any picture for a face."""

        import numpy as np

        from llie_preproc.faces import Faces

        from .base import NamedDetector, face_detector


        @face_detector("left-halves")
        class LeftHalves(NamedDetector):
            def made_with(self, checkpoint):
                return {}

            def build(self, checkpoint, device):
                return self

            def detect(self, images):
                corners = [np.array([[0, 0, i.shape[1] / 2, i.shape[0]]], np.float32) for i in images]
                return [Faces(each, np.ones(1, np.float32)) for each in corners]
    ''',
    "training/methods/brightest.py": '''
        """A training method that no other file names."""

        from llie_preproc.registry import MODELS

        from .supervised import SupervisedTraining


        @MODELS.register_module()
        class Brightest(SupervisedTraining):
            pass
    ''',
}
COMMANDS = """
    import sys
    from pathlib import Path
    import numpy as np
    from llie_preproc.commands.llie import main

    folder = Path(sys.argv[1])
    low, texts = str(folder / "low"), str(folder / "texts")
    faces = ["faces", "--images", low, "--detector", "left-halves", "--gammas", "1", "--out"]
    for number, command in enumerate([
        ["quality", low, "--enhancer", "identity", "--metrics", "darkest", "--darkest-share", "0.5"],
        ["quality", low, low, "--enhancer", "identity", "--darkest-share", "0.5"],
        ["annotations", "corners", low, texts, "--thing", "lamp", "--out", str(folder / "truth.json")],
        ["score", str(folder / "truth.json"), str(folder / "found.json"), "--metrics", "any-found"],
        [*faces, str(folder / "left"), "--dataset", "halves", "--side", "left"],
        [*faces, str(folder / "right"), "--dataset", "halves", "--side", "right"],
        [*faces, str(folder / "none"), "--dataset", "halves"],
        [*faces, str(folder / "none"), "--dataset", "folder", "--side", "left"],
    ]):
        print("RESULT", number, main(command), flush=True)
    from llie_preproc.registry import MODELS
    print("METHOD", MODELS.get("Brightest").__module__)
"""


@pytest.mark.slow
def test_one_file_adds_a_metric_a_format_a_set_of_faces_a_face_detector_or_a_method(tmp_path: Path) -> None:
    copy_packages(tmp_path)
    for file, text in NEW.items():
        (tmp_path / file).write_text(textwrap.dedent(text).lstrip())
    for folder in ("low", "texts"):
        (tmp_path / folder).mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / "low" / f"{number}.png"), picture)
        (tmp_path / "texts" / f"{number}.txt").write_text("5 6 25 36\n")
    found = [dict(image_id=2, category_id=1, bbox=[5, 6, 20, 30], score=0.5)]
    (tmp_path / "found.json").write_text(json.dumps(found))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(COMMANDS), str(tmp_path)],
        env=dict(os.environ, PYTHONPATH=str(tmp_path)), cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    status = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert status == ["0", "2", "0", "0", "0", "0", "2", "2"], done.stderr

    assert "METHOD training.methods.brightest" in done.stdout

    level = np.mean([np.sort(picture.ravel())[: picture.size // 2].mean() for picture in pictures])
    assert f"DARK {level:.2f}  raw input" in done.stdout
    assert "darkest: mean of the darkest 0.5" in done.stdout
    assert "darkest_share (--darkest-share) is for the metric darkest, which is not asked for" in done.stderr

    truth = json.loads((tmp_path / "truth.json").read_text())
    assert [each["name"] for each in truth["categories"]] == ["lamp"]
    assert [each["bbox"] for each in truth["annotations"]] == [[5, 6, 20, 30]] * 2
    # Something is found in one of two pictures; a resample has none, one or two copies of that picture.
    assert "AP         50.00 [0.00, 100.00]" in done.stdout

    for side, share in (("left", 1.0), ("right", 0.0)):
        results = json.loads((tmp_path / side / "results.json").read_text())
        assert [row["scores"]["hits"]["value"] for row in results["rows"]] == [share]
    assert "--dataset halves needs --side" in done.stderr
    assert "--side does not belong to --dataset folder, but to halves" in done.stderr
