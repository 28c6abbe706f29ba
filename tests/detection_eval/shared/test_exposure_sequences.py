"""``llie quality --sequences`` scores each exposure of a scene against the scene's reference, and refuses bad lists."""

import json
import math

import numpy as np
import pytest

from tests.support.command import llie as llie
from tests.support.command import one_line
from tests.support.random_pictures import levels

pytest.importorskip("mmengine", reason="needs the extra 'mm'")
pytest.importorskip("torchmetrics", reason="needs the extra 'mm'")

from skimage.metrics import peak_signal_noise_ratio

from detection_eval.shared.exposure_sequences import read_sequences, whole_step
from llie_preproc.pictures import Picture, read_rgb8, write_picture

SCENES = [
    {"reference": "day/b.png", "exposures": {"day/a.png": -2.2, "day/c.png": 1.4}},
    {"reference": "e.png", "exposures": {"d.png": -1.6, "f.png": -0.9, "g.png": 3.0}},
]
COLUMNS = {
    "-2 EV": ["day/a.png", "d.png"],
    "-1 EV": ["f.png"],
    "+1 EV": ["day/c.png"],
    "+3 EV": ["g.png"],
    "darker": ["day/a.png", "d.png", "f.png"],
    "brighter": ["day/c.png", "g.png"],
    "reference": ["day/b.png", "e.png"],
}
REFERENCES = {name: scene["reference"] for scene in SCENES for name in (scene["reference"], *scene["exposures"])}


@pytest.fixture
def folder(tmp_path):
    """A folder with the pictures of the scenes, and one of no scene; the list lies beside it."""
    for seed, name in enumerate((*REFERENCES, "other.png")):
        write_picture(tmp_path / "pictures" / name, Picture(levels(seed, (16, 20), high=100 + 20 * seed)))
    (tmp_path / "scenes.json").write_text(json.dumps({"scenes": SCENES}))
    return tmp_path / "pictures"


def inverted(tmp_path):
    """A config file of an enhancer whose result is known: a gamma of 1, which changes nothing but by rounding."""
    (tmp_path / "gamma.py").write_text("enhancer = dict(type='GammaCorrection', gamma=0.5)")
    return f"root={tmp_path / 'gamma.py'}"


def tables(out):
    """The cells of each Markdown table by row and column."""
    found = []
    for text in out.split("\n\n"):
        lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if "|" in line]
        head, _, *rows = lines
        found.append((head, {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}))
    return found


def test_means_are_those_of_the_pictures_at_each_exposure(folder, tmp_path, llie):
    command = ["quality", folder, "--sequences", tmp_path / "scenes.json", "--enhancer", inverted(tmp_path)]
    result = llie(*command)
    assert result.code == 0
    assert result.out.startswith("2 scenes, 7 pictures\n")
    (head, psnr), (ssim_head, ssim) = tables(result.out)
    assert head == ["PSNR (dB)", *COLUMNS]
    assert ssim_head == ["SSIM", *COLUMNS]
    assert psnr["pictures"] == {title: str(len(names)) for title, names in COLUMNS.items()}
    changes = {"raw input": lambda x: x, "root": lambda x: np.rint(255 * (x / 255) ** 0.5).astype(np.uint8)}
    for row, change in changes.items():
        for title, names in COLUMNS.items():
            pairs = [(read_rgb8(folder / REFERENCES[name]), change(read_rgb8(folder / name))) for name in names]
            expected = np.mean([math.inf if (a == b).all() else peak_signal_noise_ratio(a, b) for a, b in pairs])
            assert float(psnr[row][title]) == pytest.approx(expected, abs=2e-3)
    assert psnr["raw input"]["reference"] == "inf"
    assert float(ssim["raw input"]["reference"]) == 1
    assert float(ssim["root"]["reference"]) < 1


def test_several_lists_count_as_one(folder, tmp_path, llie):
    names = [tmp_path / "first.json", tmp_path / "second.json"]
    for name, scene in zip(names, SCENES, strict=True):
        name.write_text(json.dumps({"scenes": [scene]}))
    arguments = ("--enhancer", "none", "--metrics", "psnr")
    both = llie("quality", folder, "--sequences", *names, *arguments)
    assert both.out == llie("quality", folder, "--sequences", tmp_path / "scenes.json", *arguments).out
    assert llie("quality", folder, "--sequences", names[0], *arguments).out.startswith("1 scenes, 3 pictures\n")


def test_the_scores_of_each_picture_are_written(folder, tmp_path, llie):
    command = ["quality", folder, "--sequences", tmp_path / "scenes.json", "--enhancer", "none", "--metrics", "psnr"]
    assert llie(*command, "--out", tmp_path / "scores.json").code == 0
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["metrics"] == {"psnr": "RGB in [0, 1], full size"}
    pictures = {each["name"]: each for each in written["pictures"]}
    assert {name: each["reference"] for name, each in pictures.items()} == REFERENCES
    assert pictures["d.png"]["stops"] == -1.6
    expected = peak_signal_noise_ratio(read_rgb8(folder / "e.png"), read_rgb8(folder / "d.png"))
    assert pictures["d.png"]["scores"]["raw input"]["psnr"] == pytest.approx(expected, abs=1e-3)
    assert pictures["e.png"]["scores"]["raw input"]["psnr"] is None


def test_the_scores_of_pairs_are_written_too(folder, tmp_path, llie):
    out = tmp_path / "scores.json"
    assert llie("quality", folder, folder, "--enhancer", "none", "--metrics", "ssim", "rmse", "--out", out).code == 0
    pictures = json.loads(out.read_text())["pictures"]
    assert [each["name"] for each in pictures] == sorted(str(folder / name) for name in (*REFERENCES, "other.png"))
    assert all(each["scores"] == {"raw input": {"ssim": pytest.approx(1), "rmse": 0}} for each in pictures)


def test_a_bad_picture_leaves_the_others(folder, tmp_path, llie):
    (folder / "d.png").write_bytes(b"")
    result = llie("quality", folder, "--sequences", tmp_path / "scenes.json", "--enhancer", "none")
    assert result.code == 1
    assert result.out.startswith("2 scenes, 6 pictures\n")
    assert "1 of 7 failed" in result.err
    assert "d.png" in result.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], 'expected {"scenes": [...]}'),
        ({"scenes": []}, 'expected {"scenes": [...]}'),
        ({"scenes": ["a.png"]}, "scene 1: expected the keys reference and exposures, got a str"),
        ({"scenes": [{"exposures": {"a.png": 1}}]}, "expected the keys reference and exposures, got exposures"),
        ({"scenes": [{"reference": None, "exposures": {"a": 1}}]}, "expected the name of a picture, got None"),
        ({"scenes": [{"reference": "e.png", "exposures": {}}]}, "expected at least one name with its EV, got {}"),
        ({"scenes": [{"reference": "e.png", "exposures": {"d.png": 0.4}}]}, "d.png: expected an exposure of at least"),
        ({"scenes": [{"reference": "e.png", "exposures": {"d.png": "-1"}}]}, "got '-1'"),
        ({"scenes": [{"reference": "e.png", "exposures": {"d.png": math.nan}}]}, "got nan"),
        ({"scenes": [{"reference": "e.png", "exposures": {"../d.png": -1}}]}, "leads out of the folder"),
        ({"scenes": [{"reference": "e.png", "exposures": {"absent.png": -1}}]}, "absent.png, of "),
        ({"scenes": [SCENES[0], {"reference": "e.png", "exposures": {"day/a.png": -1}}]}, "scene 2: day/a.png is also"),
        ({"scenes": [{"reference": "e.png", "exposures": {"e.png": -1}}]}, "e.png is also in"),
        ({"scenes": [{"reference": "e.png", "exposures": {"d.png": -1, "./d.png": -2}}]}, "./d.png is also in"),
    ],
)
def test_bad_lists_are_refused(folder, tmp_path, llie, content, said):
    (tmp_path / "bad.json").write_text(json.dumps(content))
    one_line(llie("quality", folder, "--sequences", tmp_path / "bad.json", "--enhancer", "none"), "bad.json", said)


def test_calls_that_do_not_fit_are_refused(folder, tmp_path, llie):
    names = ["--sequences", tmp_path / "scenes.json"]
    one_line(llie("quality", folder, folder, *names), "--sequences needs LOW alone")
    (tmp_path / "config.py").write_text("a = 1")
    one_line(llie("quality", "--config", tmp_path / "config.py", *names), "--sequences needs LOW alone")
    (tmp_path / "x2.py").write_text("enhancer = dict(type='Upscale', scale=2)")
    one_line(llie("quality", folder, *names, "--enhancer", f"x2={tmp_path / 'x2.py'}"), "x2 enlarges")
    one_line(llie("quality", folder, "--sequences", tmp_path / "absent.json"), "absent.json")


def test_steps_are_the_nearest_whole_numbers():
    for stops in np.arange(-4.95, 5, 0.1):
        assert abs(whole_step(stops) - stops) <= 0.5
        assert whole_step(-stops) == -whole_step(stops)


def test_exposures_are_read_with_their_scenes(tmp_path):
    (tmp_path / "scenes.json").write_text(json.dumps({"scenes": SCENES}))
    found = read_sequences([tmp_path / "scenes.json"])
    assert [(each.reference, each.exposures) for each in found] == [tuple(scene.values()) for scene in SCENES]
