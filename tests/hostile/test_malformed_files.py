"""A malformed file of annotations, detections, names or weights ends a command with one line that names the file."""

import copy
import json
import re
import shutil
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.places import ROOT

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")


import torch

from detection_eval.sam.prompted_pictures import read_pictures
from llie_preproc.commands.llie import main
from tests.support.made_detections import made_scene, with_rows
from tests.support.tiny_detection import write_config
from training.datasets import MaskedPairs

SIZE = (300, 200)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with pictures and all files that the commands read; and the content of its two JSON files."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "images").mkdir()
    truth, found = made_scene(3, images=3, classes=10)
    with_rows(truth)
    for image in truth["images"]:
        Image.fromarray(np.full((SIZE[1], SIZE[0], 3), 20, np.uint8)).save(folder / "images" / image["file_name"])
    for each in truth["annotations"]:
        x, y, w, h = each["bbox"]
        each["segmentation"] = [[x, y, x + w, y, x + w, y + h]]
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps(found))
    write_config(folder / "tiny.py")
    (folder / "comparison").mkdir()
    return folder, truth, found


def read_mask_pairs(file, folder):
    """Report the ValueError of a data set as a command would."""
    try:
        MaskedPairs(folder / "images", file)
    except ValueError as error:
        print(f"llie: error: {error}", file=sys.stderr)
        return 2
    return 0


def read_sam_prompts(file, folder):
    try:
        read_pictures(folder / "images", None, file)
    except ValueError as error:
        print(f"llie: error: {error}", file=sys.stderr)
        return 2
    return 0


def write_report(file, folder):
    shutil.copy(file, folder / "comparison" / "comparison.json")
    return main(["report", str(folder / "comparison")])


# The commands and readers that take a JSON file of a user: functions of that file and of the folder from ``files``.
DOORS = {
    "score, annotations": lambda file, folder: main(
        ["score", str(file), str(folder / "found.json"), "--resamples", "0"]
    ),
    "score, detections": lambda file, folder: main(
        ["score", str(folder / "truth.json"), str(file), "--resamples", "0"]
    ),
    "gamma-shift": lambda file, folder: main(
        ["gamma-shift", str(folder / "images"), "--out", str(folder / "shifted"), "--annotations", str(file),
         "--overwrite"]
    ),
    "compare": lambda file, folder: main(
        ["compare", "--detector", str(folder / "tiny.py"), "--enhancer", "none", "--out", str(folder / "out"),
         "--train", str(file), str(folder / "images"), "--test", str(file), str(folder / "images")]
    ),
    "finetune": lambda file, folder: main(
        ["finetune", "--detector", str(folder / "tiny.py"), "--enhancer", "psenet", "--out", str(folder / "work"),
         "--train", str(file), str(folder / "images")]
    ),
    "sam": read_sam_prompts,
    "masked pairs": read_mask_pairs,
    "report": write_report,
}  # fmt: skip

MALFORMED = {
    "empty": b"",
    "no text": b"\xff\xfe\xfd\x00",
    "half a file": b'{"images": [',
    "nested too deeply": b"[" * 200_000,
    "nested objects": b'{"images":' * 100_000,
    "a list": b"[]",
    "a number": b"17",
    "a text": b'"images"',
    "nothing": b"null",
    "not a number": b"NaN",
    "infinity": b"[Infinity]",
    "a number of 5000 digits": b"[" + b"9" * 5000 + b"]",
    "a number that is infinite": b'[{"image_id": 1e999}]',
    "a key twice": b'{"images": [], "images": [], "categories": [], "annotations": []}',
    "half a pair of surrogates": b'{"images": [{"id": "\\ud800"}], "categories": [], "annotations": []}',
    "surrogates as bytes": b'{"images": "\xed\xa0\x80"}',
    "missing keys": b'{"images": [{}], "categories": [{}], "annotations": [{}]}',
    "entries of wrong types": b'{"images": [1], "categories": ["a"], "annotations": [null]}',
    "fields that are not lists": b'{"images": {}, "categories": 1, "annotations": "x"}',
}


def require_one_line(code, err, *names):
    """Assert that a command succeeded, or ended with status 2 and one line that names one of the files."""
    assert code in (0, 2)
    lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
    if code == 2:
        assert len(lines) == 1
        assert lines[0].startswith("llie: error: ")
        assert any(str(name) in lines[0] for name in names), lines[0]


@pytest.mark.examples(40)
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_malformed_json_gives_one_line_with_the_file(files, capsys, door, content, request):
    folder, *_ = files
    path = folder / "bad.json"
    path.write_bytes(content)
    code = door(path, folder)
    err = re.sub(r"^shifting.*$\n?", "", capsys.readouterr().err, flags=re.MULTILINE)
    # An empty list is valid: a detector that finds nothing writes it.
    assert code == (0 if "[a list-score, detections]" in request.node.name else 2)
    require_one_line(code, err, "bad.json", "comparison.json")


# Values that every reader of the field refuses with a message that names file, entry and field.
BAD_VALUES = [
    ("annotations", "iscrowd", ["0", "1", 2, -1, 0.5, None, [], float("nan")]),
    ("annotations", "bbox", ["1234", [1, 2, "3", 4], [1, 2, True, 4], [1, 2, 3], [1, 2, None, 4], [1, 2, 10**400, 4]]),
    ("annotations", "bbox", [[1, 2, float("nan"), 4], [1, 2, float("inf"), 4], [1, 2, -3, 4], [[1], 2, 3, 4], None]),
    ("annotations", "area", ["9", True, None, float("nan"), float("inf"), -1, 10**400, [9]]),
    ("annotations", "image_id", [True, 3.0, "3", None, 10**400, 77, [3]]),
    ("annotations", "category_id", [True, 1.0, "1", None, 10**400, 77, {}]),
    ("annotations", "id", [True, 1.5, None, 10**400, []]),
    ("images", "id", [True, 1.5, None, 10**400, []]),
    ("categories", "id", [True, 1.5, None, 10**400]),
    ("categories", "name", [None, 3, "", " ", ["car"]]),
]
CASES = [(kind, field, value) for kind, field, values in BAD_VALUES for value in values]


@pytest.mark.examples(60)
@pytest.mark.parametrize(("kind", "field", "value"), CASES, ids=lambda each: repr(each)[:20])
@pytest.mark.parametrize("door", ["score, annotations", "compare", "finetune", "sam", "gamma-shift"])
def test_a_value_of_another_kind_is_refused_with_file_and_entry(files, capsys, door, kind, field, value):
    folder, truth, _ = files
    bad = copy.deepcopy(truth)
    bad[kind][1][field] = value
    path = folder / "bad.json"
    path.write_text(json.dumps(bad))
    assert DOORS[door](path, folder) == 2
    err = capsys.readouterr().err
    require_one_line(2, err, "bad.json")
    # After a bad id the error may be at an annotation that refers to the old id.
    assert re.search(rf"bad\.json: ({kind}\[1\]:? .*{field}|annotations\[\d+\]: (image|category)_id)", err)


BAD_SCORES = ["0.9", True, False, None, float("nan"), float("inf"), 10**400, [0.5], {}]


@pytest.mark.parametrize("value", BAD_SCORES, ids=lambda each: repr(each)[:20])
def test_a_score_must_be_a_finite_number(files, capsys, value):
    folder, _, found = files
    bad = copy.deepcopy(found)
    bad[2]["score"] = value
    (folder / "bad.json").write_text(json.dumps(bad))
    assert DOORS["score, detections"](folder / "bad.json", folder) == 2
    err = capsys.readouterr().err
    require_one_line(2, err, "bad.json[2]: score")


@pytest.mark.parametrize("crowd", [False, True])
def test_flags_may_be_booleans_or_0_and_1(files, capsys, crowd):
    folder, truth, _ = files
    printed = []
    for value in (crowd, int(crowd)):
        same = copy.deepcopy(truth)
        for each in same["annotations"]:
            each["iscrowd"] = value
        (folder / "same.json").write_text(json.dumps(same))
        assert DOORS["score, annotations"](folder / "same.json", folder) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


# Of these, only coco_json.py decodes files of users; the others read files that this project has written.
OWN = {
    "detection_eval/demo/small_detector.py",
    "detection_eval/faces/kept_detections.py",
    "detection_eval/shared/resume.py",
    "llie_preproc/coco_json.py",
    "llie_preproc/checkpoints.py",
    "llie_preproc/stored_arguments.py",
    "llie_preproc/work_sharing.py",
}


def test_one_module_reads_the_json_of_users():
    root = ROOT
    found = {
        path.relative_to(root).as_posix()
        for package in ("llie_preproc", "detection_eval", "training")
        for path in (root / package).rglob("*.py")
        if re.search(r"\bjson\.loads?\(|JSONDecoder", path.read_text(encoding="utf-8"))
    }
    assert found <= OWN


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400) | st.just("0"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
DELETE = object()


def places(value, path=()):
    """Paths to every value in a tree of lists and objects, the root first."""
    yield path
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(each, (*path, key))


def changed(value, path, new):
    """A copy of the tree with ``new`` at a path, or without the value there."""
    if not path:
        return None if new is DELETE else new
    value = copy.deepcopy(value)
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    if new is DELETE:
        del parent[path[-1]]
    else:
        parent[path[-1]] = new
    return value


@st.composite
def mutations(draw, value):
    """A copy of the tree with one or two of its values deleted or replaced."""
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(list(places(value))))
        value = changed(value, path, draw(JUNK | st.just(DELETE)))
    return value


FUZZED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SMALL_TRUTH, SMALL_FOUND = made_scene(8, images=2, classes=2, objects=2, found=2)
with_rows(SMALL_TRUTH)


@FUZZED
@given(mutations(SMALL_TRUTH), mutations(SMALL_FOUND), st.booleans())
def test_score_names_a_mutated_file(files, capsys, truth, found, both):
    folder, *_ = files
    (folder / "t.json").write_text(json.dumps(truth))
    (folder / "f.json").write_text(json.dumps(found if both else SMALL_FOUND))
    code = main(["score", str(folder / "t.json"), str(folder / "f.json"), "--resamples", "0", "--by-class",
                 "--metrics", "coco", "visdrone", "visdrone-coco"])  # fmt: skip
    require_one_line(code, capsys.readouterr().err, "t.json", "f.json")


@pytest.mark.further
@FUZZED
@given(mutations(SMALL_TRUTH))
def test_readers_of_annotations_name_a_mutated_file(files, capsys, truth):
    folder, *_ = files
    (folder / "t.json").write_text(json.dumps(truth))
    for door in ("sam", "masked pairs", "gamma-shift"):
        code = DOORS[door](folder / "t.json", folder)
        err = re.sub(r"^.*shifting.*$\n?", "", capsys.readouterr().err, flags=re.MULTILINE)
        require_one_line(code, err, "t.json", str(folder / "images"))


BYTES = st.binary(max_size=12) | st.sampled_from(
    [b"9" * 400, b"9" * 5000, b"1e999", b"-", b"\x00", b"\xff", b"\n", b"nan"]
)


@st.composite
def damaged(draw, text):
    """The bytes of a text with some of them replaced by others."""
    start = draw(st.integers(0, len(text)))
    return text[:start] + draw(BYTES) + text[start + draw(st.integers(0, 12)) :]


LINES = {
    "visdrone": (b"10,5,20,8,1,4,0,1\n", ["{root}"], "annotations/a.txt"),
    "exdark": (b"% bbGt version=3\nBus 10 5 20 8 0 0 0 0 0 0 0\n", ["{root}/images", "{root}/labels"], "labels/a.txt"),
    "darkface": (b"1\n10 5 29 12\n", ["{root}/images", "{root}/labels"], "labels/a.txt"),
    "wider-face": (b"a.png\n1\n10 5 20 8 0 0 0 0 0 0\n", ["{root}/images", "{root}/list.txt"], "list.txt"),
    "yolo": (b"1 0.3125 0.1875 0.3125 0.1666\n", ["{root}/images", "{root}/labels", "--classes", "car", "bus"],
             "labels/a.txt"),
    "yaml": (b"names:\n  0: car\n  1: bus\n", ["{root}/images", "{root}/good", "--classes", "{root}/data.yaml"],
             "data.yaml"),
}  # fmt: skip


@pytest.mark.examples(4)
@pytest.mark.parametrize("bounds", ["clip", "error"])
@pytest.mark.parametrize("name", LINES)
@settings(FUZZED, max_examples=25)
@given(data=st.data())
def test_annotations_names_a_damaged_file(tmp_path_factory, capsys, name, bounds, data):
    good, sources, file = LINES[name]
    root = tmp_path_factory.mktemp("set")
    for folder in ("images", "annotations", "labels", "good"):
        (root / folder).mkdir()
    Image.new("RGB", (64, 48)).save(root / "images" / "a.png")
    (root / "good" / "a.txt").write_bytes(LINES["yolo"][0])
    (root / file).write_bytes(data.draw(damaged(good)))
    format_ = "yolo" if name == "yaml" else name
    given_ = [each.format(root=root) for each in sources]
    code = main(["annotations", format_, *given_, "--out", str(root / "out.json"), "--out-of-bounds", bounds])
    require_one_line(code, capsys.readouterr().err, root / file, root / "images" / "a.png", root / "good")


@FUZZED
@given(damaged(b"2002/a\n1\n8 6 0.5 20 15  1\n"), damaged(b"2002/a\n1\n8 6 20 15 0.5\n"), st.booleans())
def test_fddb_names_a_damaged_file(tmp_path_factory, capsys, fold, found, both):
    root = tmp_path_factory.mktemp("fddb")
    for number in range(1, 11):
        (root / f"FDDB-fold-{number:02d}-ellipseList.txt").write_bytes(b"")
    (root / "FDDB-fold-01-ellipseList.txt").write_bytes(fold)
    (root / "found.txt").write_bytes(found if both else b"2002/a\n1\n8 6 20 15 0.5\n")
    code = main(["fddb", str(root), str(root / "found.txt"), "--out", str(root / "out")])
    require_one_line(code, capsys.readouterr().err, root)


@FUZZED
@given(damaged(b"a.png\nb.png\n"), st.booleans())
def test_night_names_a_damaged_list(tmp_path_factory, capsys, names, parts):
    root = tmp_path_factory.mktemp("night")
    (root / "images").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (64, 48)).save(root / "images" / f"{name}.png")
    (root / "list.txt").write_bytes(names)
    options = ["--split", "0.5"] if parts else []
    code = main(
        ["night", str(root / "images"), "--out", str(root / "night.txt"), "--names", str(root / "list.txt"), *options]
    )
    require_one_line(code, capsys.readouterr().err, root / "list.txt", "leaves one part empty")


CHECKPOINT = {"state_dict": {"detector.w": 0.0, "enhancer.w": 0.0, "losses.x": 1.0}, "meta": {"epoch": 1, "iter": 2}}


def with_tensors(value):
    """A copy of the tree with tensors in place of its floats."""
    if isinstance(value, dict):
        return {key: with_tensors(each) for key, each in value.items()}
    if isinstance(value, list):
        return [with_tensors(each) for each in value]
    return torch.tensor([value]) if isinstance(value, float) else value


@FUZZED
@given(mutations(CHECKPOINT))
def test_split_names_a_mutated_checkpoint(files, capsys, content):
    folder, *_ = files
    torch.save(with_tensors(content), folder / "checkpoint.pth")
    code = main(["split", str(folder / "checkpoint.pth"), "--out", str(folder / "parts"), "--overwrite"])
    require_one_line(code, capsys.readouterr().err, "checkpoint.pth")
