"""``llie enhance`` writes what ``enhance`` returns for each picture, and refuses wrong arguments in one line."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from llie_preproc import enhance
from llie_preproc.enhancers import Enhancer, Identity, PSENet
from llie_preproc.errors import MissingExtraError
from llie_preproc.pictures import Picture, read_picture, write_picture
from llie_preproc.registry import MODELS
from tests.support.command import Run, one_line
from tests.support.picture_files import files_below, make_picture
from tests.support.random_pictures import levels


def test_the_result_equals_that_of_the_function(llie: Run, tmp_path: Path, weights: Path) -> None:
    source = make_picture(tmp_path / "in.png")
    assert llie("enhance", source, "--out", tmp_path / "out.png", "--enhancer", f"psenet@{weights}").code == 0
    network = PSENet().eval()
    network.load_state_dict(load_file(weights))
    assert np.array_equal(read_picture(tmp_path / "out.png").pixels, enhance(levels(), network))
    assert np.array_equal(read_picture(source).pixels, levels())


def test_a_tree_is_mirrored(llie: Run, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "deep" / "out"
    for seed, name in enumerate(["a.png", "sub/b.PNG", "sub/deeper/c.tif", "sub/d.bmp"]):
        make_picture(source / name, levels(seed, (5 + seed % 2, 7)))
    for name in ["note.txt", "sub/.hidden.png", "film.mp4"]:
        (source / name).write_text("no picture")
    result = llie("enhance", source, "--out", target, "--enhancer", "Identity", "--batch-size", 2)
    assert result.code == 0
    assert "4 enhanced" in result.out
    assert "3 other files" in result.out
    assert files_below(target) == ["a.png", "sub/b.PNG", "sub/d.bmp", "sub/deeper/c.tif"]
    for name in files_below(target):
        assert np.array_equal(read_picture(target / name).pixels, read_picture(source / name).pixels)


@pytest.mark.parametrize("form", ["existing", "trailing slash"])
def test_a_file_into_a_folder_keeps_its_name(llie: Run, tmp_path: Path, form: str) -> None:
    source, folder = make_picture(tmp_path / "in.png"), tmp_path / "out"
    if form == "existing":
        folder.mkdir()
    assert (
        llie("enhance", source, "--out", f"{folder}/" if form != "existing" else folder, "--enhancer", "Identity").code
        == 0
    )
    assert files_below(folder) == ["in.png"]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
def test_format_changes_the_suffix(llie: Run, tmp_path: Path, suffix: str) -> None:
    make_picture(tmp_path / "in" / "a.b.ppm")
    assert (
        llie("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity", "--format", suffix).code
        == 0
    )
    assert files_below(tmp_path / "out") == [f"a.b.{suffix}"]
    with Image.open(tmp_path / "out" / f"a.b.{suffix}") as image:
        assert image.format == {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("grey", [False, True])
def test_depth_grey_and_alpha_are_carried(llie: Run, tmp_path: Path, dtype: type, grey: bool) -> None:
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, top, (6, 8, 3), dtype)
    pixels = pixels[..., :1].repeat(3, axis=2) if grey else pixels
    alpha = np.zeros((6, 8), dtype)
    alpha[:, 4:] = top
    write_picture(tmp_path / "in.png", Picture(pixels, alpha, grey))
    assert llie("enhance", tmp_path / "in.png", "--out", tmp_path / "out.png", "--enhancer", "Upscale").code == 0
    result = read_picture(tmp_path / "out.png")
    assert result.pixels.dtype == dtype
    assert result.pixels.shape == (12, 16, 3)
    if grey:
        assert np.array_equal(result.pixels[..., 0], result.pixels[..., 2])
    assert result.alpha is not None
    assert result.alpha.shape == (12, 16)
    # Alpha is resized but not enhanced, so its halves keep their values.
    assert set(np.unique(result.alpha[:, :6])) == {0}
    assert set(np.unique(result.alpha[:, 10:])) == {top}


@pytest.mark.parametrize("ignore", [False, True])
def test_orientation_is_applied_unless_it_is_ignored(llie: Run, tmp_path: Path, ignore: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(levels()).save(tmp_path / "in.png", exif=exif)
    flags = ["--ignore-orientation"] if ignore else []
    assert (
        llie("enhance", tmp_path / "in.png", "--out", tmp_path / "out.png", "--enhancer", "Identity", *flags).code == 0
    )
    with Image.open(tmp_path / "out.png") as image:
        stored = np.asarray(image)
        assert image.getexif()[0x0112] == (6 if ignore else 1)
    assert np.array_equal(stored, levels() if ignore else np.rot90(levels(), -1))


def test_tiny_palette_and_cmyk_pictures_are_enhanced(llie: Run, tmp_path: Path, weights: Path) -> None:
    folder = tmp_path / "in"
    make_picture(folder / "one.png", levels(size=(1, 1)))
    Image.fromarray(levels()).convert("P").save(folder / "palette.png")
    Image.fromarray(levels()).convert("CMYK").save(folder / "cmyk.jpg")
    assert llie("enhance", folder, "--out", tmp_path / "out", "--enhancer", f"psenet@{weights}").code == 0
    shapes = [read_picture(tmp_path / "out" / name).pixels.shape for name in files_below(tmp_path / "out")]
    assert shapes == [(12, 16, 3), (1, 1, 3), (12, 16, 3)]


def bad_pictures(folder: Path) -> dict[str, str]:
    """Write one unreadable picture of each kind; returns what the command must say about each."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.fromarray(levels(size=(64, 64))).save(buffer, "JPEG")
    (folder / "truncated.jpg").write_bytes(buffer.getvalue()[:600])
    (folder / "zero.png").write_bytes(b"")
    (folder / "text.png").write_text("I am a text")
    (folder / "link.png").symlink_to(folder / "nowhere.png")
    nan = np.full((12, 16, 3), 0.5, np.float32)
    nan[3, 3] = np.nan
    cv2.imwrite(str(folder / "nan.tif"), nan, [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    return {
        "truncated.jpg": "truncated",
        "zero.png": "empty",
        "text.png": "not a picture",
        "link.png": "no such file",
        "nan.tif": "not finite",
    }


def test_bad_files_are_listed_and_the_others_done(llie: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    reasons = bad_pictures(folder)
    for seed in range(3):
        # These pictures have the size of nan.tif, so that they share a batch with it.
        make_picture(folder / f"m{seed}.tif", levels(seed))
    result = llie("enhance", folder, "--out", tmp_path / "out", "--enhancer", "GammaCorrection")
    assert result.code == 1
    assert files_below(tmp_path / "out") == ["m0.tif", "m1.tif", "m2.tif"]
    listed = dict(re.findall(r"^  \S*/(\S+): (.*)$", result.err, re.M))
    assert listed.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert reason in listed[name]


def test_one_batch_holds_equal_sizes_and_bounded_pixels(
    llie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []

    class Watching(Enhancer):
        def forward(self, image: Tensor) -> Tensor:
            seen.append(tuple(image.shape))
            return image

    monkeypatch.setitem(MODELS._module_dict, "Watching", Watching)
    monkeypatch.setattr("llie_preproc.enhance_files.MAX_BATCH_PIXELS", 400)
    for number in range(7):
        make_picture(tmp_path / "in" / f"small{number}.png", levels(number, (4, 5)))
    for number in range(3):
        make_picture(tmp_path / "in" / f"large{number}.png", levels(number, (20, 20)))
    assert (
        llie("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Watching", "--batch-size", 4).code
        == 0
    )
    probe, *batches = seen
    assert probe == (1, 3, 1, 1)
    assert sorted(batches) == [(1, 3, 20, 20)] * 3 + [(3, 3, 4, 5), (4, 3, 4, 5)]
    assert len(files_below(tmp_path / "out")) == 10


# Errors of the user.


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nowhere.png", "--out", "out.png"], ["nowhere.png", "no such file"]),
        (["{in}", "--out", "{out}", "--enhancer", "PSENot"], ["PSENot", "PSENet"]),
        (["{in}", "--out", "{out}", "--enhancer", "psenet@nowhere.pth"], ["nowhere.pth"]),
        (["{in}", "--out", "{out}", "--enhancer", "psenet@{in}"], ["in.png", "tensors"]),
        (["{in}", "--out", "{out}", "--enhancer", "CLAHE@{weights}"], ["CLAHE has no weights"]),
        (
            ["{in}", "--out", "{out}", "--enhancer", "psenet@{weights}", "--precision", "float16"],
            ["PSENet", "float16", "float32"],
        ),
        (
            ["{in}", "--out", "{out}", "--enhancer", "Identity", "--precision", "int8"],
            ["precision", "int8", "bfloat16"],
        ),
        (["{in}", "--out", "{out}", "--enhancer", "psenet@{weights}", "--device", "toaster"], ["--device toaster"]),
        (["{in}", "--out", "{out}", "--enhancer", "psenet@{weights}", "--device", "cuda:99"], ["--device cuda:99"]),
        (["{in}", "--out", "{out}", "--batch-size", "0"], ["--batch-size", "'0'"]),
        (["{in}", "--out", "{out}", "--format", "gif"], ["--format", "gif"]),
        (["{in}", "--out", "out.gif", "--enhancer", "Identity"], ["out.gif", ".png"]),
        (["{in}", "--out", "out.jpg", "--format", "png", "--enhancer", "Identity"], ["--format png", "out.jpg"]),
        (["{empty}", "--out", "{out}", "--enhancer", "Identity"], ["holds no pictures"]),
        (["{empty}", "--out", "{in}", "--enhancer", "Identity"], ["in.png is a file"]),
        (["{in}"], ["--out"]),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(
    llie: Run, tmp_path: Path, weights: Path, arguments: list[str], parts: list[str]
) -> None:
    (tmp_path / "empty").mkdir()
    names = {"in": make_picture(tmp_path / "in.png"), "out": tmp_path / "out.png", "empty": tmp_path / "empty"}
    one_line(llie("enhance", *(a.format(weights=weights, **names) for a in arguments)), *parts)
    assert not (tmp_path / "out.png").exists()


def test_a_network_without_weights_does_not_run_on_random_ones(
    llie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Untrained(PSENet):
        pass

    monkeypatch.setitem(MODELS._module_dict, "Untrained", Untrained)
    result = llie(
        "enhance", make_picture(tmp_path / "in.png"), "--out", tmp_path / "out.png", "--enhancer", "Untrained"
    )
    one_line(result, "Untrained has no shipped weights", "--enhancer NAME@WEIGHTS")


def test_the_default_enhancer_runs_with_the_shipped_weights(llie: Run, tmp_path: Path) -> None:
    result = llie("enhance", make_picture(tmp_path / "in.png"), "--out", tmp_path / "out.png")
    assert result.code == 0
    assert read_picture(tmp_path / "out.png").pixels.shape == levels().shape


def test_a_checkpoint_of_another_network_is_refused(llie: Run, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    call = (
        "enhance",
        make_picture(tmp_path / "in.png"),
        "--out",
        tmp_path / "out.png",
        "--enhancer",
        f"psenet@{tmp_path}/other.safetensors",
    )
    one_line(llie(*call), "other.safetensors", "is not a checkpoint of PSENet", "0 of 62")


def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    llie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Scanning(Identity):
        def __init__(self) -> None:
            raise MissingExtraError("mamba_ssm", "Scanning")

    monkeypatch.setitem(MODELS._module_dict, "Scanning", Scanning)
    result = llie("enhance", make_picture(tmp_path / "in.png"), "--out", tmp_path / "out.png", "--enhancer", "Scanning")
    one_line(result, 'pip install "llie-preproc[mamba]"')
    listed = llie("list")
    assert listed.code == 0
    assert re.search(r"^Scanning .*llie-preproc\[mamba\]", listed.out, re.M)


@pytest.mark.slow
def test_enhance_works_without_any_extra(tmp_path: Path) -> None:
    absent = [
        "mmengine",
        "mmcv",
        "mmdet",
        "pycocotools",
        "torchmetrics",
        "segment_anything",
        "facenet_pytorch",
        "mamba_ssm",
    ]
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({absent}))\n"
        "from llie_preproc.commands.llie import main\nsys.exit(main())"
    )
    call = [
        sys.executable,
        "-c",
        code,
        "enhance",
        str(make_picture(tmp_path / "in.png")),
        "--out",
        str(tmp_path / "out.png"),
    ]
    done = subprocess.run([*call, "--enhancer", "Identity"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(read_picture(tmp_path / "out.png").pixels, levels())


def test_no_thread_is_left_behind(llie: Run, tmp_path: Path) -> None:
    make_picture(tmp_path / "in" / "a.png")
    before = threading.active_count()
    assert llie("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity").code == 0
    assert threading.active_count() <= before
