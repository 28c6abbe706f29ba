"""The cache of ``Enhance`` uses an entry only for its image, network and settings, and replaces any other file."""

import os
import pickle
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

from llie_preproc import build_enhancer
from llie_preproc.detection import Enhance
from llie_preproc.detection.enhancement_cache import EnhancedCache
from llie_preproc.fingerprints import fingerprint
from tests.support.random_pictures import levels


def test_an_entry_is_used_only_for_its_own_image(tmp_path):
    enhance = Enhance("PSENet", checkpoint=None, cache_dir=tmp_path)
    first = enhance({"img": levels()})["img"]
    entries = list(tmp_path.rglob("*.npy"))
    assert len(entries) == 1
    np.save(entries[0], first // 2)
    assert np.array_equal(enhance({"img": levels()})["img"], first // 2)
    assert not np.array_equal(enhance({"img": levels(1)})["img"], first // 2)
    assert len(list(tmp_path.rglob("*.npy"))) == 2


def test_a_damaged_entry_is_replaced(tmp_path):
    enhance = Enhance("Identity", cache_dir=tmp_path)
    expected = enhance({"img": levels()})["img"]
    entry = next(tmp_path.rglob("*.npy"))
    entry.write_bytes(entry.read_bytes()[:-20])
    assert np.array_equal(enhance({"img": levels()})["img"], expected)
    assert np.array_equal(np.load(entry), expected)


def as_zip(path, array):
    """Write an archive, which NumPy would open, under the entry's name."""
    with path.open("wb") as file:
        np.savez(file, array)


def declaring(shape, length=None):
    """A writer of an entry whose header declares another shape, or is ``length`` bytes long."""

    def write(path, array):
        described = {"descr": "|u1", "fortran_order": False, "shape": shape or array.shape}
        header = repr(described).encode().ljust(length or 117) + b"\n"
        path.write_bytes(b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + array.tobytes())

    return write


def saving(change):
    return lambda path, array: np.save(path, change(array), allow_pickle=True)


def padded(path, array):
    np.save(path, array)
    with path.open("ab") as file:
        file.write(b"more")


def linked(path, array):
    elsewhere = path.with_name("elsewhere.npy")
    np.save(elsewhere, array)
    path.symlink_to(elsewhere)


# Files that may stand in place of an entry. Each has other values than the entry, so that a test notices if it is read.
FALSE_ENTRIES = {
    "zip": as_zip,
    "objects": saving(lambda array: array.astype(object)),
    "terabytes": declaring((1 << 21, 1 << 21, 3)),
    "negative": declaring((-1, 16, 3)),
    "long header": declaring(None, 20_000_000),
    "header beyond the file": lambda path, _: path.write_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"),
    "Fortran order": saving(np.asfortranarray),
    "another shape": saving(lambda array: array[:-1]),
    "turned": saving(lambda array: array.transpose(1, 0, 2)),
    "another dtype": saving(lambda array: array.view(np.int8)),
    "floats": saving(lambda array: array.astype(np.float32)),
    "fields": saving(lambda array: array.view([("r", "u1"), ("g", "u1"), ("b", "u1")])),
    "cut": lambda path, array: (np.save(path, array), os.truncate(path, path.stat().st_size - 1)),
    "trailing bytes": padded,
    "empty": lambda path, _: path.write_bytes(b""),
    "link": linked,
    "link to nothing": lambda path, _: path.symlink_to(path.with_name("nothing.npy")),
    "pipe": lambda path, _: os.mkfifo(path),
}


@pytest.mark.parametrize("damage", FALSE_ENTRIES.values(), ids=FALSE_ENTRIES)
def test_a_file_that_is_not_the_entry_is_replaced(damage, tmp_path):
    enhance = Enhance("Identity", cache_dir=tmp_path)
    expected = enhance({"img": levels()})["img"]
    entry = next(tmp_path.rglob("*.npy"))
    entry.unlink()
    damage(entry, expected // 2)
    tracemalloc.start()
    try:
        assert np.array_equal(enhance({"img": levels()})["img"], expected)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert entry.is_file()
    assert not entry.is_symlink()
    assert np.array_equal(np.load(entry), expected)


def test_an_entry_with_values_that_are_not_finite_is_replaced(tmp_path):
    enhance = Enhance("Identity", cache_dir=tmp_path, keep_dtype=False)
    expected = enhance({"img": levels()})["img"]
    entry = next(tmp_path.rglob("*.npy"))
    np.save(entry, np.full_like(expected, np.nan))
    assert np.array_equal(enhance({"img": levels()})["img"], expected)


@pytest.mark.parametrize(("scale", "keep"), [(1, True), (2, True), (2, False)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_entries_of_every_size_and_dtype_are_found_again(scale, keep, dtype, tmp_path, monkeypatch):
    enhance = Enhance({"type": "Upscale", "scale": scale}, cache_dir=tmp_path, keep_dtype=keep)
    first = enhance({"img": levels().astype(dtype)})["img"]
    monkeypatch.setattr(enhance, "_enhance", lambda image: pytest.fail("the entry was not used"))
    again = enhance({"img": levels().astype(dtype)})["img"]
    assert again.dtype == first.dtype
    assert np.array_equal(again, first)


def test_a_folder_in_place_of_an_entry_is_named_in_the_error(tmp_path):
    enhance = Enhance("Identity", cache_dir=tmp_path)
    enhance({"img": levels()})
    entry = next(tmp_path.rglob("*.npy"))
    entry.unlink()
    entry.mkdir()
    with pytest.raises(IsADirectoryError, match=entry.name):
        enhance({"img": levels()})


def test_the_key_covers_network_settings_weights_and_parameters(tmp_path):
    made = [
        build_enhancer("Identity"),
        build_enhancer({"type": "GammaCorrection", "gamma": 0.5}),
        build_enhancer({"type": "GammaCorrection", "gamma": 0.6}),
        build_enhancer("PSENet", checkpoint=None),
        build_enhancer("PSENet", checkpoint=None),
    ]
    paths = {EnhancedCache(tmp_path, e, order).path(levels()) for e in made for order in ("bgr", "rgb")}
    assert len(paths) == 2 * len(made)
    assert fingerprint(made[3]) == fingerprint(pickle.loads(pickle.dumps(made[3])))


def test_a_transform_pickles_for_spawned_workers(tmp_path):
    enhance = Enhance("PSENet", checkpoint=None, cache_dir=tmp_path)
    again = pickle.loads(pickle.dumps(enhance))
    assert np.array_equal(again({"img": levels()})["img"], enhance({"img": levels()})["img"])
