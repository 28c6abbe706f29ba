"""The function and the transform photograph pictures in the same way, and a kept result equals that of a new call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from llie_preproc import exposures
from llie_preproc.errors import ImageError
from llie_preproc.exposures import Exposure, photographed
from llie_preproc.ops.sensor import SENSOR, Sensor, photograph
from llie_preproc.pictures import Picture, read_picture, write_picture

LEVELS = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
QUIET = Sensor(full_well=1e9, read_noise=0.0)


def noise_of(picture: np.ndarray, exposure: Exposure) -> np.ndarray:
    """What the noise changed, against a sensor with almost none."""
    silent = Exposure(exposure.stops, QUIET, exposure.noise_seed)
    return exposure.photograph(picture).astype(int) - silent.photograph(picture)


def test_without_noise_a_level_is_that_of_the_standard_at_other_light() -> None:
    """The standard's curve is applied to one number at a time; rounding may differ at a half."""

    def decode(level: int) -> float:
        value = level / 255
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    def encode(light: float) -> float:
        light = min(light, 1.0)
        return 255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055)

    for stops in (-6.0, -3.0, 1.5):
        made = Exposure(stops, QUIET).photograph(LEVELS)[..., 0].ravel()
        expected = [encode(decode(level) * 2**stops) for level in range(256)]
        np.testing.assert_allclose(made, expected, atol=0.51)


def test_no_exposure_gives_the_picture_as_it_is(tmp_path: Path) -> None:
    for stops in (0, 0.0, -0.0):
        assert Exposure(stops).photograph(LEVELS) is LEVELS
        assert photographed(LEVELS, Exposure(stops), tmp_path / "kept") is LEVELS
    assert not (tmp_path / "kept").exists()


def test_noise_follows_from_picture_exposure_and_seed_alone() -> None:
    other = LEVELS.copy()
    other[0, 0, 0] = 9
    dark = Exposure(-4.0)
    first = [dark.photograph(picture) for picture in (LEVELS, other)]
    np.random.seed(3)
    second = [dark.photograph(picture) for picture in (other, LEVELS)][::-1]
    np.testing.assert_array_equal(first, second)
    noises = [
        noise_of(LEVELS, dark),
        noise_of(other, dark),
        noise_of(LEVELS, Exposure(-4.0, noise_seed=1)),
        noise_of(LEVELS, Exposure(-4.25)),
    ]
    assert all(np.abs(noise).sum() > 100 for noise in noises)
    # Pixels that are equal have other noise too, so that the noise of a set is no fixed pattern.
    for noise in noises[1:]:
        assert (noise[1:] != noises[0][1:]).mean() > 0.2


def test_the_camera_is_the_one_of_the_project() -> None:
    """Mean and spread of one level are those of the camera's own function with another source of noise."""
    grey = np.full((200, 200, 3), 128, np.uint8)
    own = Exposure(-4.0).photograph(grey).astype(float)
    drawn = photograph(grey, -4.0, SENSOR, np.random.default_rng(11)).astype(float)
    # Five standard errors; each picture has 120,000 draws with a deviation of about 2 levels.
    assert own.mean() == pytest.approx(drawn.mean(), abs=5 * drawn.std() * (2 / drawn.size) ** 0.5)
    assert own.std() == pytest.approx(drawn.std(), rel=0.03)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(stops=float("nan")), "exposure must be a number of at least -20 and of at most 20, got nan"),
        (dict(stops=21.0), "exposure must be a number"),
        (dict(stops=-1.0, sensor=Sensor(0.0)), r"full_well must be a number above 0 and of at most 1e\+09, got 0.0"),
        (dict(stops=-1.0, sensor=Sensor()), "full_well must be a number"),
        (dict(stops=-1.0, sensor=Sensor(3000.0, -1.0)), "read_noise must be a number of at least 0"),
        (dict(stops=-1.0, noise_seed=-1), "noise_seed must be a whole number of at least 0"),
    ],
)
def test_numbers_out_of_range_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Exposure(**settings)


@pytest.mark.parametrize("picture", [LEVELS[..., 0], LEVELS / 255, LEVELS.astype(np.uint16), np.dstack([LEVELS] * 2)])
def test_other_pictures_are_refused(picture: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"needs a colour picture \(H, W, 3\) of uint8, got .*"):
        Exposure(-1.0).photograph(picture)


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A list that gets the exposure of each photograph that is taken."""
    taken: list[float] = []

    def take(scene: np.ndarray, stops: float, *others: Any) -> np.ndarray:
        taken.append(stops)
        return photograph(scene, stops, *others)

    monkeypatch.setattr(exposures, "photograph", take)
    return taken


def test_a_picture_is_photographed_once_for_each_setting(tmp_path: Path, camera: list[float]) -> None:
    settings = [
        Exposure(-3.0),
        Exposure(-4.0),
        Exposure(-3.0, Sensor(1000.0, 3.0)),
        Exposure(-3.0, Sensor(3000.0, 2.0)),
        Exposure(-3.0, noise_seed=1),
    ]
    pictures = [LEVELS, LEVELS[::-1], LEVELS.reshape(8, 32, 3)]
    made = {(i, j): photographed(p, e, tmp_path) for i, p in enumerate(pictures) for j, e in enumerate(settings)}
    assert len(camera) == len(list(tmp_path.rglob("*.png"))) == 15
    for (i, j), before in made.items():
        np.testing.assert_array_equal(photographed(pictures[i], settings[j], tmp_path), before)
    assert len(camera) == 15
    for (i, j), kept in made.items():
        np.testing.assert_array_equal(settings[j].photograph(pictures[i]), kept)


def test_another_version_of_the_code_photographs_anew(
    tmp_path: Path, camera: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    photographed(LEVELS, Exposure(-3.0), tmp_path)
    monkeypatch.setattr(exposures, "__version__", "another")
    exposures._code.cache_clear()
    photographed(LEVELS, Exposure(-3.0), tmp_path)
    exposures._code.cache_clear()
    assert len(camera) == 2


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _smaller(path: Path) -> None:
    write_picture(path, Picture(LEVELS[:4]))


def _linked(path: Path) -> None:
    write_picture(path.parent.parent / "other.png", Picture(LEVELS))
    path.unlink()
    path.symlink_to(path.parent.parent / "other.png")


@pytest.mark.parametrize("damage", [_truncated, _smaller, _linked, Path.unlink])
def test_a_damaged_result_is_made_again(tmp_path: Path, camera: list[float], damage: Callable[[Path], None]) -> None:
    first = photographed(LEVELS, Exposure(-3.0), tmp_path)
    (path,) = tmp_path.rglob("*.png")
    damage(path)
    np.testing.assert_array_equal(photographed(LEVELS, Exposure(-3.0), tmp_path), first)
    assert len(camera) == 2
    np.testing.assert_array_equal(read_picture(path).pixels, first)
    assert not path.is_symlink()


@pytest.fixture
def loaded() -> Callable[..., dict]:
    """Run MMDetection's loader and the transform on a file."""
    pytest.importorskip("mmdet", reason="needs the extra 'mm'")
    from mmcv.transforms import Compose

    import llie_preproc.detection  # noqa: F401  which registers the transform

    def load(path: Path, loader: dict | None = None, **settings: Any) -> dict:
        steps = [dict(type="LoadImageFromFile", **(loader or {})), dict(type="llie_preproc.Photograph", **settings)]
        return Compose(steps)(dict(img_path=str(path)))

    return load


def test_the_transform_equals_the_function(loaded: Callable[..., dict], tmp_path: Path) -> None:
    """Colour, grey and 16-bit pictures reach the camera as MMDetection loads them."""
    colours = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    write_picture(tmp_path / "colours.png", Picture(colours))
    cv2.imwrite(str(tmp_path / "grey.png"), colours[..., 0])
    cv2.imwrite(str(tmp_path / "deep.png"), colours[..., ::-1].astype(np.uint16) * 257)
    grey = np.repeat(colours[..., :1], 3, axis=2)
    dark = Exposure(-3.0, Sensor(500.0, 2.0), 4)
    settings: dict = dict(exposure=-3.0, full_well=500.0, read_noise=2.0, noise_seed=4)
    for name, picture in (("colours", colours), ("grey", grey), ("deep", colours)):
        for cache in (None, tmp_path / "kept", tmp_path / "kept"):
            found = loaded(tmp_path / f"{name}.png", cache_dir=cache, **settings)["img"]
            np.testing.assert_array_equal(found[..., ::-1], dark.photograph(picture))
    # A deep picture of the same 8-bit levels is the same picture.
    assert len(list((tmp_path / "kept").rglob("*.png"))) == 2
    as_is = loaded(tmp_path / "colours.png", exposure=0, cache_dir=tmp_path / "none")["img"]
    np.testing.assert_array_equal(as_is[..., ::-1], colours)


def test_a_turned_picture_stays_in_the_frame_of_its_loader(loaded: Callable[..., dict], tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.full((10, 30, 3), 90, np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    assert loaded(tmp_path / "turned.jpg", exposure=-2.0)["img"].shape == (30, 10, 3)
    stored = loaded(tmp_path / "turned.jpg", dict(color_type="color_ignore_orientation"), exposure=-2.0)
    assert stored["img"].shape == (10, 30, 3)


@pytest.mark.parametrize("loader", [dict(color_type="grayscale"), dict(to_float32=True)])
def test_a_loader_that_gives_other_pictures_is_named(loaded: Callable[..., dict], tmp_path: Path, loader: dict) -> None:
    write_picture(tmp_path / "a.png", Picture(LEVELS))
    with pytest.raises(ImageError, match=r"a\.png: .*: load with color_type='color' and to_float32=False"):
        loaded(tmp_path / "a.png", loader, exposure=-1.0)


def test_a_folder_that_cannot_be_written_is_named(loaded: Callable[..., dict], tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file has the folder's name")
    write_picture(tmp_path / "a.png", Picture(LEVELS))
    with pytest.raises(OSError, match="kept"):
        loaded(tmp_path / "a.png", exposure=-1.0, cache_dir=tmp_path / "kept")
