"""``read_array`` and ``read_archive`` read files that hold the expected arrays, and refuse all others."""

from __future__ import annotations

import io
import os
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from llie_preproc.array_files import read_archive, read_array, write_array

SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, max_side=5)
DTYPES = st.sampled_from([np.uint8, np.float32, np.float64, np.float16, np.int64, np.bool_])


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(DTYPES, SHAPES))
def test_a_written_array_is_read_here_and_by_numpy(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("array") / "a.npy"
    with path.open("wb") as file:
        write_array(file, array.T)
    found = read_array(path, array.T.shape, array.dtype)
    np.testing.assert_array_equal(found, array.T)
    np.testing.assert_array_equal(np.load(path), array.T)
    assert found.flags.writeable


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_changed_byte_of_a_header_is_noticed(tmp_path_factory, data):
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    buffer = io.BytesIO()
    write_array(buffer, array)
    content = bytearray(buffer.getvalue())
    content[data.draw(st.integers(0, len(content) - array.nbytes - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("array") / "a.npy"
    path.write_bytes(content)
    assert read_array(path, array.shape, array.dtype) is None


FIELDS = {"names": ("U", 1), "boxes": ("f", 2)}


def archive(path, compression=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)


def as_bytes(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


def header(shape, descr="<f4"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


NAMES, BOXES = np.array(["a", "bc"]), np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_of_numpy_are_read(save, tmp_path):
    save(tmp_path / "a.npz", names=NAMES, boxes=np.asfortranarray(BOXES), other=np.array([{}], dtype=object))
    found = read_archive(tmp_path / "a.npz", FIELDS)
    assert found["names"].tolist() == ["a", "bc"]
    np.testing.assert_array_equal(found["boxes"], BOXES)
    assert found["boxes"].flags.writeable


HOSTILE = {
    "objects": as_bytes(np.array([[{}]], dtype=object), allow_pickle=True),
    "terabytes": header((1 << 20, 1 << 20)),
    "more than there is": header((2, 4)) + b"1234",
    "trailing": as_bytes(BOXES) + b"1",
    "negative": header((-2, -4)) + BOXES.tobytes(),
    "another dtype": as_bytes(BOXES.astype(np.int32)),
    "another rank": as_bytes(BOXES[0]),
    "long header": b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little") + b" " * 5_000_000,
    "nested header": b"\x93NUMPY\x01\x00" + (60_000).to_bytes(2, "little") + b"(" * 60_000,
    "endless number": b"\x93NUMPY\x01\x00\x60\xea{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1" * 59_900,
    "short nested header": b"\x93NUMPY\x01\x00" + (9_000).to_bytes(2, "little") + b"(" * 9_000,
    "no array": b"text",
    "nothing": b"",
}


@pytest.mark.parametrize("boxes", HOSTILE.values(), ids=HOSTILE)
def test_hostile_members_are_refused_with_little_memory(boxes, tmp_path):
    archive(tmp_path / "a.npz", names=as_bytes(NAMES), boxes=boxes)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="not an archive of the arrays names, boxes: "):
            read_archive(tmp_path / "a.npz", FIELDS)
        assert tracemalloc.get_traced_memory()[1] < 1 << 21
    finally:
        tracemalloc.stop()


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    for content in (b"", b"text", as_bytes(BOXES)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not an archive"):
            read_archive(path, FIELDS)
    archive(path, names=as_bytes(NAMES))
    with pytest.raises(ValueError, match="boxes"):
        read_archive(path, FIELDS)
    path.unlink()
    for make in (path.mkdir, lambda: os.mkfifo(path)):
        make()
        with pytest.raises(OSError, match=r"a\.npz"):
            read_archive(path, FIELDS)
        path.rmdir() if path.is_dir() else path.unlink()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_archive_is_refused_or_read_whole(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("archive") / "a.npz"
    np.savez(path, names=NAMES, boxes=BOXES)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        found = read_archive(path, FIELDS)
    except ValueError:
        return
    np.testing.assert_array_equal(found["boxes"], BOXES)
