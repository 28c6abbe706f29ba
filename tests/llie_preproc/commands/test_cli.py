from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from llie_preproc import enhance
from llie_preproc.checkpoints import default_weights
from llie_preproc.enhancers import CollaBA, Enhancer, Identity, PSENet
from llie_preproc.errors import MissingExtraError
from llie_preproc.pictures import Picture, read_picture, write_picture
from llie_preproc.registry import MODELS
from llie_preproc.video import enhance_video
from tests.support.command import Run, one_line
from tests.support.processes import Programs
from tests.support.programs import command_line


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A checkpoint of a PSENet with seeded weights."""
    torch.manual_seed(0)
    save_file(PSENet().state_dict(), tmp_path / "psenet.safetensors")
    return tmp_path / "psenet.safetensors"


def levels(seed: int = 0, size: tuple[int, int] = (12, 16)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def make(path: Path, pixels: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, Picture(levels() if pixels is None else pixels))
    return path


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


# pictures and trees


def test_a_picture_is_enhanced_as_by_the_function(llie: Run, tmp_path: Path, weights: Path) -> None:
    source = make(tmp_path / "in.png")
    assert llie("enhance", source, "--out", tmp_path / "out.png", "--enhancer", f"psenet@{weights}").code == 0
    network = PSENet().eval()
    network.load_state_dict(load_file(weights))
    assert np.array_equal(read_picture(tmp_path / "out.png").pixels, enhance(levels(), network))
    assert np.array_equal(read_picture(source).pixels, levels())


def test_a_tree_is_mirrored(llie: Run, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "deep" / "out"
    for seed, name in enumerate(["a.png", "sub/b.PNG", "sub/deeper/c.tif", "sub/d.bmp"]):
        make(source / name, levels(seed, (5 + seed % 2, 7)))
    for name in ["note.txt", "sub/.hidden.png", "film.mp4"]:
        (source / name).write_text("no picture")
    result = llie("enhance", source, "--out", target, "--enhancer", "Identity", "--batch-size", 2)
    assert result.code == 0
    assert "4 enhanced" in result.out
    assert "3 other files" in result.out
    assert files(target) == ["a.png", "sub/b.PNG", "sub/d.bmp", "sub/deeper/c.tif"]
    for name in files(target):
        assert np.array_equal(read_picture(target / name).pixels, read_picture(source / name).pixels)


@pytest.mark.parametrize("form", ["existing", "trailing slash"])
def test_a_file_into_a_folder_keeps_its_name(llie: Run, tmp_path: Path, form: str) -> None:
    source, folder = make(tmp_path / "in.png"), tmp_path / "out"
    if form == "existing":
        folder.mkdir()
    assert (
        llie("enhance", source, "--out", f"{folder}/" if form != "existing" else folder, "--enhancer", "Identity").code
        == 0
    )
    assert files(folder) == ["in.png"]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
def test_format_changes_the_suffix(llie: Run, tmp_path: Path, suffix: str) -> None:
    make(tmp_path / "in" / "a.b.ppm")
    assert (
        llie("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity", "--format", suffix).code
        == 0
    )
    assert files(tmp_path / "out") == [f"a.b.{suffix}"]
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
    # Not enhanced, only resized: the halves stay what they are.
    assert set(np.unique(result.alpha[:, :6])) == {0}
    assert set(np.unique(result.alpha[:, 10:])) == {top}


@pytest.mark.parametrize("ignore", [False, True])
def test_orientation(llie: Run, tmp_path: Path, ignore: bool) -> None:
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


def test_tiny_palette_and_cmyk_pictures(llie: Run, tmp_path: Path, weights: Path) -> None:
    folder = tmp_path / "in"
    make(folder / "one.png", levels(size=(1, 1)))
    Image.fromarray(levels()).convert("P").save(folder / "palette.png")
    Image.fromarray(levels()).convert("CMYK").save(folder / "cmyk.jpg")
    assert llie("enhance", folder, "--out", tmp_path / "out", "--enhancer", f"psenet@{weights}").code == 0
    shapes = [read_picture(tmp_path / "out" / name).pixels.shape for name in files(tmp_path / "out")]
    assert shapes == [(12, 16, 3), (1, 1, 3), (12, 16, 3)]


def bad_pictures(folder: Path) -> dict[str, str]:
    """Makes one of each kind; returns what is said about each."""
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
        # Of the size of nan.tif, and so in one batch with it.
        make(folder / f"m{seed}.tif", levels(seed))
    result = llie("enhance", folder, "--out", tmp_path / "out", "--enhancer", "GammaCorrection")
    assert result.code == 1
    assert files(tmp_path / "out") == ["m0.tif", "m1.tif", "m2.tif"]
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
        make(tmp_path / "in" / f"small{number}.png", levels(number, (4, 5)))
    for number in range(3):
        make(tmp_path / "in" / f"large{number}.png", levels(number, (20, 20)))
    assert (
        llie("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Watching", "--batch-size", 4).code
        == 0
    )
    probe, *batches = seen
    assert probe == (1, 3, 1, 1)
    assert sorted(batches) == [(1, 3, 20, 20)] * 3 + [(3, 3, 4, 5), (4, 3, 4, 5)]
    assert len(files(tmp_path / "out")) == 10


# never over an input


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("form", ["same", "spelled differently", "symlink", "hard link", "folder"])
def test_a_picture_is_never_its_own_result(llie: Run, tmp_path: Path, form: str, overwrite: bool) -> None:
    source = make(tmp_path / "in.png")
    before = source.read_bytes()
    target = {"same": source, "folder": tmp_path, "spelled differently": tmp_path / "x" / ".." / "in.png"}.get(
        form, tmp_path / "other.png"
    )
    (tmp_path / "x").mkdir()
    if form == "symlink":
        target.symlink_to(source)
    if form == "hard link":
        target.hardlink_to(source)
    flags = ["--overwrite"] if overwrite else []
    one_line(llie("enhance", source, "--out", target, "--enhancer", "GammaCorrection", *flags), "is an input")
    assert source.read_bytes() == before


@pytest.mark.parametrize("form", ["same", "symlink", "dots"])
def test_a_folder_is_never_its_own_result(llie: Run, tmp_path: Path, form: str) -> None:
    source = make(tmp_path / "in" / "a.png").parent
    target = {"same": source, "symlink": tmp_path / "link", "dots": source / ".." / "in"}[form]
    if form == "symlink":
        target.symlink_to(source)
    before = (source / "a.png").read_bytes()
    one_line(
        llie("enhance", source, "--out", target, "--enhancer", "GammaCorrection", "--overwrite"), str(target), "inputs"
    )
    assert (source / "a.png").read_bytes() == before


def test_a_result_that_is_another_input_is_refused(llie: Run, tmp_path: Path) -> None:
    make(tmp_path / "in" / "a.png")
    make(tmp_path / "in" / "in" / "a.png", levels(1))
    result = llie("enhance", tmp_path / "in" / "in", "--out", tmp_path / "in", "--enhancer", "Identity", "--overwrite")
    assert result.code == 0
    make(tmp_path / "in" / "in" / "in" / "a.png", levels(2))
    result = llie("enhance", tmp_path / "in" / "in", "--out", tmp_path / "in", "--enhancer", "Identity", "--overwrite")
    one_line(result, "is an input")


def test_results_inside_the_source_are_not_read_again(llie: Run, tmp_path: Path) -> None:
    make(tmp_path / "a.png")
    make(tmp_path / "b" / "c.png")
    for _ in range(2):
        assert llie("enhance", tmp_path, "--out", tmp_path / "out", "--enhancer", "Identity", "--overwrite").code == 0
    assert files(tmp_path / "out") == ["a.png", "b/c.png"]


def test_links_to_files_are_followed_and_those_to_folders_of_the_tree_are_not(llie: Run, tmp_path: Path) -> None:
    make(tmp_path / "elsewhere" / "a.png")
    make(tmp_path / "in" / "sub" / "b.png")
    (tmp_path / "in" / "linked.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in" / "sub")
    (tmp_path / "in" / "back").symlink_to(tmp_path / "in")
    assert llie("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity").code == 0
    assert files(tmp_path / "out") == ["linked.png", "sub/b.png"]


def test_a_clash_is_reported_before_anything_starts(llie: Run, tmp_path: Path) -> None:
    make(tmp_path / "in" / "a.png")
    make(tmp_path / "in" / "a.jpg")
    result = llie("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity", "--format", "png")
    one_line(result, "a.jpg", "a.png")
    assert not (tmp_path / "out").exists()


def test_existing_results_need_a_decision(llie: Run, tmp_path: Path) -> None:
    for seed, name in enumerate(["a.png", "b.png", "c.png"]):
        make(tmp_path / "in" / name, levels(seed))
    old = make(tmp_path / "out" / "b.png", np.zeros((12, 16, 3), np.uint8)).read_bytes()
    call = ("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity")
    one_line(llie(*call), "b.png", "--resume", "--overwrite")
    assert files(tmp_path / "out") == ["b.png"]
    result = llie(*call, "--resume")
    assert result.code == 0
    assert "2 enhanced; 1 existed already" in result.out
    assert (tmp_path / "out" / "b.png").read_bytes() == old
    assert llie(*call, "--overwrite").code == 0
    assert np.array_equal(read_picture(tmp_path / "out" / "b.png").pixels, levels(1))
    assert llie(*call, "--resume").out.startswith("0 enhanced; 3 existed already")
    assert llie(*call, "--resume", "--overwrite").code == 2


# interruption


@pytest.fixture
def interrupting(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """An enhancer that sends a signal to this process when it meets its third batch."""
    state = SimpleNamespace(signal=signal.SIGTERM, batches=0)

    class Interrupting(Identity):
        def forward(self, image: Tensor) -> Tensor:
            # The command's own probe is the first.
            state.batches += 1
            if state.batches == 4:
                os.kill(os.getpid(), state.signal)
            return image

    monkeypatch.setitem(MODELS._module_dict, "Interrupting", Interrupting)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield state
    signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_can_be_resumed(
    llie: Run, tmp_path: Path, interrupting: SimpleNamespace, number: signal.Signals
) -> None:
    interrupting.signal = number
    before = signal.getsignal(signal.SIGTERM)
    for seed in range(6):
        make(tmp_path / "in" / f"{seed}.png", levels(seed))
    call = ("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Interrupting", "--batch-size", 1)
    result = llie(*call)
    assert result.code == 130
    assert "interrupted" in result.err
    assert "--resume" in result.out
    assert signal.getsignal(signal.SIGTERM) is before
    done = files(tmp_path / "out")
    assert done == ["0.png", "1.png"]
    assert llie(*call, "--resume").code == 0
    assert files(tmp_path / "out") == [f"{seed}.png" for seed in range(6)]
    for seed in range(6):
        assert np.array_equal(read_picture(tmp_path / "out" / f"{seed}.png").pixels, levels(seed))


def test_an_interrupted_video_leaves_nothing(llie: Run, tmp_path: Path, interrupting: SimpleNamespace) -> None:
    source = film(tmp_path / "in.mp4", frames=8)
    result = llie(
        "enhance", source, "--out", tmp_path / "out" / "v.mp4", "--enhancer", "Interrupting", "--batch-size", 1
    )
    assert result.code == 130
    assert interrupting.batches == 4
    assert files(tmp_path / "out") == []


@pytest.mark.slow
def test_the_command_itself_ends_with_130(tmp_path: Path, programs: Programs) -> None:
    picture = make(tmp_path / "in" / "0.png", levels(size=(256, 256)))
    for number in range(1, 600):
        (tmp_path / "in" / f"{number}.png").symlink_to(picture)
    options = ["--enhancer", "CLAHE", "--batch-size", "1"]
    process = programs.start(*command_line("enhance", tmp_path / "in", "--out", tmp_path / "out", *options))
    deadline = time.monotonic() + 100
    while not (tmp_path / "out" / "0.png").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    done = files(tmp_path / "out")
    assert 0 < len(done) < 600
    assert all(read_picture(tmp_path / "out" / name).pixels.shape == (256, 256, 3) for name in done)


# errors of the user


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
def test_errors_take_one_line(llie: Run, tmp_path: Path, weights: Path, arguments: list[str], parts: list[str]) -> None:
    (tmp_path / "empty").mkdir()
    names = {"in": make(tmp_path / "in.png"), "out": tmp_path / "out.png", "empty": tmp_path / "empty"}
    one_line(llie("enhance", *(a.format(weights=weights, **names) for a in arguments)), *parts)
    assert not (tmp_path / "out.png").exists()


def test_a_network_without_weights_does_not_run_on_random_ones(
    llie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Untrained(PSENet):
        pass

    monkeypatch.setitem(MODELS._module_dict, "Untrained", Untrained)
    result = llie("enhance", make(tmp_path / "in.png"), "--out", tmp_path / "out.png", "--enhancer", "Untrained")
    one_line(result, "Untrained has no shipped weights", "--enhancer NAME@WEIGHTS")


def test_the_default_enhancer_runs_once_its_weights_are_shipped(llie: Run, tmp_path: Path) -> None:
    result = llie("enhance", make(tmp_path / "in.png"), "--out", tmp_path / "out.png")
    if default_weights("PSENet") is None:
        one_line(result, "PSENet has no shipped weights")
    else:
        assert result.code == 0
        assert read_picture(tmp_path / "out.png").pixels.shape == levels().shape


def test_a_checkpoint_of_another_network_is_refused(llie: Run, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    call = (
        "enhance",
        make(tmp_path / "in.png"),
        "--out",
        tmp_path / "out.png",
        "--enhancer",
        f"psenet@{tmp_path}/other.safetensors",
    )
    one_line(llie(*call), "other.safetensors", "is not a checkpoint of PSENet", "0 of 62")


# further commands


def test_a_missing_extra_is_named_with_its_cure(llie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Scanning(Identity):
        def __init__(self) -> None:
            raise MissingExtraError("mamba_ssm", "Scanning")

    monkeypatch.setitem(MODELS._module_dict, "Scanning", Scanning)
    result = llie("enhance", make(tmp_path / "in.png"), "--out", tmp_path / "out.png", "--enhancer", "Scanning")
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
    call = [sys.executable, "-c", code, "enhance", str(make(tmp_path / "in.png")), "--out", str(tmp_path / "out.png")]
    done = subprocess.run([*call, "--enhancer", "Identity"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(read_picture(tmp_path / "out.png").pixels, levels())


# convert


def test_converted_public_weights_reproduce_the_public_outputs(llie: Run, tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "reference_weights"
    target = tmp_path / "new" / "psenet.safetensors"
    result = llie("convert", folder / "psenet_sice_official.safetensors", "--out", target, "--enhancer", "PSENet")
    assert result.code == 0
    assert "62 of 62 tensors matched" in result.out
    network = PSENet().eval()
    network.load_state_dict(load_file(target))
    reference = np.load(folder / "psenet_reference_outputs.npz")
    enhanced = enhance(reference["image"].astype(np.float32) / 255, network)
    assert np.abs(enhanced - reference["sice"].transpose(1, 2, 0)).max() < 1e-5


def test_a_training_checkpoint_converts(llie: Run, tmp_path: Path) -> None:
    network = PSENet()
    state = {f"enhancer.{k}": v for k, v in network.state_dict().items()}
    torch.save({"state_dict": state, "meta": {"epoch": 3}}, tmp_path / "epoch_3.pth")
    call = ("convert", tmp_path / "epoch_3.pth", "--out", tmp_path / "a.safetensors", "--enhancer", "PSENet")
    assert llie(*call).code == 0
    converted = load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(v, converted[k]) for k, v in network.state_dict().items())
    one_line(llie(*call), "a.safetensors", "--overwrite")
    assert llie(*call, "--overwrite").code == 0


def test_wrong_conversions_are_refused(llie: Run, tmp_path: Path, weights: Path) -> None:
    before = weights.read_bytes()
    one_line(llie("convert", weights, "--out", weights, "--enhancer", "PSENet", "--overwrite"), "is an input")
    one_line(llie("convert", weights, "--out", tmp_path / "a.pth", "--enhancer", "PSENet"), "a.pth", ".safetensors")
    one_line(
        llie("convert", weights, "--out", tmp_path / "a.safetensors", "--enhancer", "CLAHE"), "CLAHE has no weights"
    )
    one_line(
        llie("convert", tmp_path / "nowhere.pth", "--out", tmp_path / "a.safetensors", "--enhancer", "PSENet"),
        "nowhere",
    )
    assert weights.read_bytes() == before
    assert not (tmp_path / "a.safetensors").exists()


# video


def film(path: Path, frames: int = 7, size: tuple[int, int] = (48, 32), rate: float = 24.0) -> Path:
    """Frames of growing brightness."""
    codec = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, size)
    for number in range(frames):
        writer.write(np.full((size[1], size[0], 3), (40, 30 * number, 80), np.uint8))
    writer.release()
    return path


def frames_of(path: Path) -> tuple[float, np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return capture.get(cv2.CAP_PROP_FPS), np.stack(frames)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi"])
@pytest.mark.parametrize("rate", [24.0, 29.97])
def test_video_keeps_frames_rate_and_colours(llie: Run, tmp_path: Path, suffix: str, rate: float) -> None:
    source = film(tmp_path / f"in{suffix}", rate=rate)
    target = tmp_path / "out" / f"v{suffix}"
    assert llie("enhance", source, "--out", target, "--enhancer", "Identity", "--batch-size", 3).code == 0
    (rate_in, frames_in), (rate_out, frames_out) = frames_of(source), frames_of(target)
    assert rate_out == pytest.approx(rate_in, abs=1e-3) == pytest.approx(rate, abs=1e-2)
    assert frames_out.shape == frames_in.shape
    # Encoded twice, each time with loss.
    assert np.abs(frames_out.astype(int) - frames_in).mean() < 3
    assert files(tmp_path / "out") == [f"v{suffix}"]


def test_video_is_scaled_and_changes_container(llie: Run, tmp_path: Path) -> None:
    source = film(tmp_path / "in.avi")
    assert llie("enhance", source, "--out", tmp_path / "out.mp4", "--enhancer", "Upscale").code == 0
    assert frames_of(tmp_path / "out.mp4")[1].shape == (7, 64, 96, 3)


def test_video_colours_are_not_swapped(tmp_path: Path) -> None:
    class Reddening(Enhancer):
        def forward(self, image: Tensor) -> Tensor:
            red = torch.zeros_like(image)
            red[:, 0] = 1
            return red

    enhance_video(film(tmp_path / "in.avi"), tmp_path / "out.avi", Reddening())
    blue, _, red = frames_of(tmp_path / "out.avi")[1].mean(axis=(0, 1, 2))
    assert red > 240
    assert blue < 15


def damaged_video(kind: str, folder: Path) -> Path:
    whole = film(folder / "whole.avi", frames=40).read_bytes()
    if kind == "no frame":
        return film(folder / "bad.avi", frames=0)
    path = folder / ("bad.mp4" if kind == "text" else "bad.avi")
    path.write_bytes({"empty": b"", "text": b"I am a text", "short": whole[: len(whole) * 3 // 4]}[kind])
    return path


@pytest.mark.parametrize(("kind", "reason"), [("empty", "empty"), ("text", "open"), ("no frame", "open|no frame")])
def test_damaged_videos_are_refused(llie: Run, tmp_path: Path, kind: str, reason: str) -> None:
    source = damaged_video(kind, tmp_path)
    result = llie("enhance", source, "--out", tmp_path / "out" / source.name, "--enhancer", "Identity")
    one_line(result, str(source))
    assert re.search(reason, result.err)
    assert not (tmp_path / "out").exists() or files(tmp_path / "out") == []


def test_a_video_that_ends_short_is_an_error(llie: Run, tmp_path: Path) -> None:
    result = llie(
        "enhance", damaged_video("short", tmp_path), "--out", tmp_path / "out" / "v.avi", "--enhancer", "Identity"
    )
    one_line(result, "bad.avi", "of 40 frames")
    assert files(tmp_path / "out") == []


def test_videos_follow_the_rules_of_files(llie: Run, tmp_path: Path) -> None:
    source = film(tmp_path / "in.mp4")
    before = source.read_bytes()
    one_line(llie("enhance", source, "--out", source, "--enhancer", "Identity", "--overwrite"), "is an input")
    one_line(
        llie("enhance", source, "--out", tmp_path / "out.wmv", "--enhancer", "Identity"), "out.wmv", ".avi", ".mp4"
    )
    one_line(llie("enhance", source, "--out", tmp_path / "out.png", "--enhancer", "Identity"), "out.png")
    one_line(
        llie("enhance", source, "--out", tmp_path / "out.mp4", "--enhancer", "Identity", "--format", "png"), "--format"
    )
    assert source.read_bytes() == before
    (tmp_path / "out.mp4").write_bytes(b"old")
    one_line(llie("enhance", source, "--out", tmp_path / "out.mp4", "--enhancer", "Identity"), "out.mp4", "--resume")
    assert llie("enhance", source, "--out", tmp_path / "out.mp4", "--enhancer", "Identity", "--resume").code == 0
    assert (tmp_path / "out.mp4").read_bytes() == b"old"
    assert llie("enhance", source, "--out", tmp_path / "out.mp4", "--enhancer", "Identity", "--overwrite").code == 0
    assert len(frames_of(tmp_path / "out.mp4")[1]) == 7


def test_no_thread_is_left_behind(llie: Run, tmp_path: Path) -> None:
    make(tmp_path / "in" / "a.png")
    before = threading.active_count()
    assert llie("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity").code == 0
    assert threading.active_count() <= before


# several processes


_SHARING = """
import sys
from pathlib import Path
from llie_preproc.commands.llie import main
from llie_preproc.work_sharing import join_ranks

folder, checkpoint = Path(sys.argv[1]), sys.argv[2]
options = ["--enhancer", f"CollaBA@{checkpoint}", "--batch-size", "3", "--launcher", "pytorch"]
call = ["enhance", str(folder / "in"), "--out", str(folder / "out"), *options]
codes = [main(call)]
with join_ranks("pytorch") as ranks:
    if ranks.main:
        (folder / "out" / "4.png").unlink()
codes += [main([*call, "--resume"]), main(call)]
film = ["enhance", str(folder / "in.avi"), "--out", str(folder / "out.avi")]
film += ["--enhancer", "Identity", "--launcher", "pytorch"]
codes += [main(film)]
(folder / f"codes{ranks.rank}").write_text(str(codes))
"""


@pytest.mark.slow
def test_two_processes_write_what_one_writes(llie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.manual_seed(0)
    save_file(CollaBA().state_dict(), tmp_path / "collaba.safetensors")
    for seed in range(9):
        # Sixteen bits, and a network whose rounding depends on who runs beside: only the same batches give the same.
        make(tmp_path / "in" / f"{seed}.png", levels(seed, (16, 16 + 8 * (seed % 2))).astype(np.uint16) * 257)
    broken = tmp_path / "in" / "2.png"
    broken.write_bytes(broken.read_bytes()[:200])
    film(tmp_path / "in.avi")
    script = tmp_path / "sharing.py"
    script.write_text(_SHARING)
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    done = subprocess.run(
        [*call, str(tmp_path), str(tmp_path / "collaba.safetensors")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [(tmp_path / f"codes{rank}").read_text() for rank in range(2)] == ["[1, 1, 2, 0]"] * 2
    # One report a call, of everybody's pictures; an error of the call is everybody's.
    reports = ["8 enhanced; 1 failed", "1 enhanced; 1 failed; 7 existed already", "7 frames enhanced"]
    assert all(report in line for report, line in zip(reports, done.stdout.splitlines(), strict=True))
    assert done.stderr.count("1 of 9 failed:") == 1
    assert done.stderr.count("1 of 2 failed:") == 1
    single = torch.get_num_threads()
    torch.set_num_threads(1)
    options = ["--enhancer", f"CollaBA@{tmp_path}/collaba.safetensors", "--batch-size", 3]
    one = llie("enhance", tmp_path / "in", "--out", tmp_path / "one", *options)
    torch.set_num_threads(single)
    assert one.code == 1
    assert files(tmp_path / "one") == files(tmp_path / "out") == [f"{n}.png" for n in range(9) if n != 2]
    shared = {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "one")}
    # The one that was done again ran in another batch.
    different = [name for name in shared if (tmp_path / "one" / name).read_bytes() != shared[name]]
    assert set(different) <= {"4.png"}


def test_a_launcher_that_did_not_start_it_is_refused(
    llie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    source = make(tmp_path / "in.png")
    result = llie("enhance", source, "--out", tmp_path / "out.png", "--enhancer", "Identity", "--launcher", "slurm")
    one_line(result, "SLURM_PROCID is not set", "srun")
    assert not (tmp_path / "out.png").exists()
