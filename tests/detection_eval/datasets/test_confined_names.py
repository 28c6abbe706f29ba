"""No reader of annotations or lists opens a picture outside the given folder, whatever names the file holds."""

import contextlib
import json
import sys

import pytest
from PIL import Image

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")

from detection_eval.compare.comparison_store import Comparison
from detection_eval.datasets.coco import to_coco
from detection_eval.datasets.fddb import picture_sizes, read_fddb
from detection_eval.datasets.formats.darkface import darkface
from detection_eval.datasets.formats.exdark import exdark
from detection_eval.datasets.formats.visdrone import visdrone
from detection_eval.datasets.formats.wider_face import wider_face
from detection_eval.datasets.labels import Problems
from detection_eval.datasets.splits import select
from detection_eval.faces.protocols.fddb_rates import Fddb
from detection_eval.sam.prompted_pictures import read_pictures
from llie_preproc.coco_json import require_inside
from llie_preproc.commands.llie import parse_args
from llie_preproc.detection.coco_sets import CocoSet, set_classes
from training.datasets import MaskedPairs, PairedFolders

# {root} has two folders: readers are given 'images'; the pictures in 'outside' have another size.
HOSTILE = {
    "absolute": "{root}/outside/a",
    "upwards": "../outside/a",
    "down and upwards": "sub/../../outside/a",
    "backslashes": "..\\outside\\a",
    "a drive": "C:\\outside\\a",
    "a null": "a\0b",
    "a linked folder": "link/a",
}
INSIDE, OUTSIDE = (60, 40), (64, 48)


@pytest.fixture
def root(tmp_path):
    for folder, size in (("images", INSIDE), ("images/sub", INSIDE), ("outside", OUTSIDE)):
        (tmp_path / folder).mkdir()
        for suffix in ("jpg", "png"):
            Image.new("RGB", size).save(tmp_path / folder / f"{'a' if folder == 'outside' else 'good'}.{suffix}")
    (tmp_path / "images" / "link").symlink_to(tmp_path / "outside")
    return tmp_path


def coco(root, name):
    box = dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 5, 5], area=25, segmentation=[[1, 1, 6, 1, 6, 6]])
    image = dict(id=1, file_name=f"{name}.png", width=OUTSIDE[0], height=OUTSIDE[1])
    path = root / "set.json"
    path.write_text(json.dumps(dict(images=[image], annotations=[box], categories=[dict(id=1, name="face")])))
    return path


def sizes_of(truth):
    return {(each["width"], each["height"]) for each in truth["images"]}


def one_picture(root):
    """Delete all pictures but one, since some formats compare names without folder and suffix."""
    for path in (root / "images").rglob("good.*"):
        if path != root / "images" / "good.png":
            path.unlink()


def sizes_from_fddb(root, name):
    (root / "FDDB-fold-01-ellipseList.txt").write_text(f"{name}\n1\n8 6 0.5 20 15 1\ngood\n1\n8 6 0.5 20 15 1\n")
    return picture_sizes(read_fddb(root, [1]), root / "images").values()


def sizes_from_faces(root, name):
    for fold in range(1, 11):
        (root / f"FDDB-fold-{fold:02d}-ellipseList.txt").write_text("")
    (root / "FDDB-fold-01-ellipseList.txt").write_text(f"{name}\n1\n8 6 0.5 20 15 1\ngood\n1\n8 6 0.5 20 15 1\n")
    protocol = Fddb(root / "images", root, None, [500])
    assert all((root / "images") in path.resolve().parents for path in protocol.files.values())
    return protocol.sizes.values()


def sizes_from_wider_face(root, name):
    (root / "list.txt").write_text(f"{name}.png\n1\n1 1 5 5 0 0 0 0 0 0\ngood.png\n1\n1 1 5 5 0 0 0 0 0 0\n")
    return sizes_of(to_coco(wider_face(root / "images", root / "list.txt"), Problems(skip_bad=True)))


def sizes_from_pseudo_labels(root, name):
    one_picture(root)
    (root / "list.txt").write_text(f"{name}.png 1 1 1 5 5 1\ngood.png 1 1 1 5 5 1\n")
    return sizes_of(to_coco(darkface(root / "images", root / "list.txt"), Problems(skip_bad=True)))


def sizes_from_exdark(root, name):
    one_picture(root)
    (root / "labels").mkdir()
    (root / "labels" / "good.txt").write_text("% bbGt version=3\nBus 1 1 5 5 0 0 0 0 0 0 0\n")
    (root / "classes.txt").write_text(f"Name | Class\n{name}.png 1 1 1 1\ngood.png 1 1 1 1\n")
    labels = exdark(root / "images", root / "labels", root / "classes.txt", part="train")
    return sizes_of(to_coco(labels, Problems(skip_bad=True)))


def sizes_from_visdrone(root, name):
    # VisDrone's annotations hold no names: each belongs to the picture whose file has the same name.
    one_picture(root)
    (root / "annotations").mkdir()
    (root / "annotations" / "good.txt").write_text("1,1,5,5,1,4,0,0\n")
    return sizes_of(to_coco(visdrone(root), Problems(skip_bad=True)))


def sizes_from_a_list(root, name):
    (root / "list.txt").write_text(f"{name}\n")
    keys = [path.relative_to(root / "images").as_posix() for path in (root / "images").glob("*.png")]
    return [
        Image.open(root / "images" / key).size for key in select(root / "list.txt", {k: k for k in keys}, Problems())
    ]


def sizes_from_training_names(root, name):
    pairs = PairedFolders(root / "images", root / "images", names=[f"{name}.png"])
    return [tuple(pairs[0]["inputs"].shape[:0:-1])]


def sizes_from_masked_pairs(root, name):
    return [tuple(MaskedPairs(root / "images", coco(root, name))[0]["inputs"].shape[:0:-1])]


def sizes_from_sam(root, name):
    return [Image.open(path).size for path in read_pictures(root / "images", None, coco(root, name)).files.values()]


def sizes_from_a_coco_set(root, name):
    set_classes(CocoSet(coco(root, name), root / "images"))
    return []


def sizes_from_gamma_shift(root, name):
    args = ["gamma-shift", root / "images", "--out", root / "out", "--gammas", "1", "--annotations", coco(root, name)]
    args = parse_args([str(each) for each in args])
    args.run(args)
    return [Image.open(path).size for path in (root / "out").rglob("*.png")]


def sizes_from_a_comparison(root, name):
    folder = root / "comparison"
    folder.mkdir()
    (folder / "comparison.json").write_text(json.dumps(dict(image_root=str(root / "images"))))
    path = Comparison(folder).picture(dict(file_name=f"{name}.png"))
    return [Image.open(path).size]


READERS = [value for name, value in globals().copy().items() if name.startswith("sizes_from_")]
# These readers follow a linked folder, as MMDetection does, since only the user can have put the link there.
JOINING = (sizes_from_masked_pairs, sizes_from_a_coco_set, sizes_from_gamma_shift, sizes_from_a_comparison)


CASES = [
    pytest.param(reader, HOSTILE[kind], id=f"{reader.__name__}-{kind}")
    for reader in READERS
    for kind in HOSTILE
    if not (reader in JOINING and kind == "a linked folder")
]


@pytest.mark.examples(30)
@pytest.mark.parametrize(("reader", "name"), CASES)
def test_no_name_leads_out_of_the_folder(root, reader, name):
    sizes = []
    # A reader may refuse the name, or find no picture of that name.
    with contextlib.suppress(ValueError, FileNotFoundError):
        sizes = list(reader(root, name.format(root=root)))
    assert set(sizes) <= {INSIDE}


@pytest.mark.parametrize("name", ["a.jpg", "sub/a.jpg", "a b.jpg", ".hidden/a", "a..jpg", "ä/字.png"])
def test_names_of_files_below_the_folder_are_accepted(name):
    require_inside(name, "file_name")


@pytest.mark.parametrize("name", ["", ".", "..", "/", "/a", "a/../b", "a\\..\\b", "\\a", "C:a", "//server/a", "a\0"])
def test_names_that_lead_out_of_the_folder_are_refused(name):
    with pytest.raises(ValueError, match=r"^x: file_name "):
        require_inside(name, "x: file_name")


@pytest.mark.skipif(sys.platform == "win32", reason="a backslash separates folders on Windows")
def test_a_name_inside_the_folder_is_read(root):
    # Some readers refuse a folder that holds a link out of it, whatever the names are.
    (root / "images" / "link").unlink()
    for reader in (sizes_from_fddb, sizes_from_faces, sizes_from_wider_face, sizes_from_training_names):
        assert set(reader(root, "sub/good")) == {INSIDE}, reader.__name__
    assert set(sizes_from_a_list(root, "good")) == {INSIDE}
    # These formats compare names without folders. The list also names a missing picture, which is skipped.
    for reader in (sizes_from_pseudo_labels, sizes_from_exdark):
        assert set(reader(root, "other")) == {INSIDE}, reader.__name__
    assert set(sizes_from_visdrone(root, "good")) == {INSIDE}
