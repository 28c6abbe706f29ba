"""``read_checkpoint`` reads the logs of runs whole; a function that the file names is never called."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch._weights_only_unpickler import _get_allowed_globals

from llie_preproc.checkpoints import read_state_dict
from llie_preproc.errors import CheckpointError
from llie_preproc.message_hub import answers
from llie_preproc.mm.runner_parts import read_checkpoint
from tests.support.hostile_files import comes_back
from tests.support.hostile_pickles import (
    BUFFER,
    GETATTR,
    REBUILD,
    array,
    buffer,
    built,
    call,
    dtype,
    logged,
    mapping,
    name,
    new,
    number,
    raw,
    row,
    runs_code,
    text,
    write,
    write_tar,
)

# PyTorch warns of pickles that it would not have written itself.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

METHODS = {"min": HistoryBuffer.min, "max": HistoryBuffer.max, "current": HistoryBuffer.current}
METHODS["mean"] = HistoryBuffer.mean
FUNCTION = name(*REBUILD)
EMPTY = call(name("collections", "OrderedDict"))
TENSOR_LIKE = name("torch._tensor", "_rebuild_from_type_v2")
HOSTILE = {
    "an attribute of a function": call(name(*GETATTR), FUNCTION, text("__globals__")),
    "an attribute of getattr": call(name(*GETATTR), name(*GETATTR), text("__self__")),
    "an attribute of a buffer's method": call(
        name(*GETATTR), call(name(*GETATTR), name(*BUFFER), text("min")), text("__globals__")
    ),
    "a function": FUNCTION,
    "getattr itself": name(*GETATTR),
    "the class of buffers": name(*BUFFER),
    "a buffer without its state": new(name(*BUFFER)),
    "a buffer that is called": call(name(*BUFFER), b"]", b"]"),
    "a buffer with another attribute": buffer(mean=FUNCTION),
    "a buffer without an attribute": built(new(name(*BUFFER)), mapping((text("max_length"), number(9)))),
    "a buffer of texts": buffer(_log_history=array(dtype("U1"), (2,), raw("a\0\0\0b\0\0\0"))),
    "a buffer of a list": buffer(_log_history=b"]" + FUNCTION + b"a"),
    "a buffer of histories that differ": buffer(_log_history=array(dtype("f8"), (1,), raw("\0" * 8))),
    "a buffer built twice": built(buffer(), mapping((text("mean"), FUNCTION))),
    "an array of objects": array(dtype("O8"), (1,), b"]" + FUNCTION + b"a"),
    "a scalar of objects": call(name("numpy.core.multiarray", "scalar"), dtype("O8"), FUNCTION),
    "an array without its state": call(
        name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), row(number(2**40)), raw("b")
    ),
    "an array larger than its bytes": array(dtype("f8"), (2**20, 2**20), raw("\0" * 16)),
    "an array of a negative length": array(dtype("f8"), (-1, -2), raw("\0" * 16)),
    "a record": array(dtype("V8", number(3), text("|"), b"N", b"N", b"N", number(8), number(1)), (1,), raw("\0" * 8)),
    "a dtype with fields": array(
        dtype("f8", number(3), text("<"), b"N", row(text("a")), b"}", number(8), number(8), number(0)), (2,), raw("a")
    ),
    "bytes of a length": call(name("builtins", "bytes"), number(2**30)),
    "a dtype alone": dtype("f8"),
    "a dictionary with methods of the file": built(EMPTY, mapping((text("items"), FUNCTION))),
    "metadata that is a function": built(EMPTY, mapping((text("_metadata"), FUNCTION))),
    "an array as a key": mapping((array(dtype("f8"), (2,), raw("\0" * 16)), b"N")),
    "an attribute that the file sets on a dictionary": call(
        TENSOR_LIKE, name("collections", "OrderedDict"), name("collections", "OrderedDict"), b")",
        mapping((text("keys"), FUNCTION)),
    ),
}  # fmt: skip


@pytest.fixture
def _as_before() -> Any:
    """Assert that reading a file changes nothing of PyTorch and of MMEngine."""
    HistoryBuffer()
    rebuild = torch._utils._rebuild_tensor
    methods, listed = dict(HistoryBuffer._statistics_methods), set(torch.serialization.get_safe_globals())
    yield
    changed = torch._utils._rebuild_tensor is not rebuild
    # This restores the function for other tests, if the file did replace it.
    torch._utils._rebuild_tensor = rebuild
    assert not changed
    assert HistoryBuffer._statistics_methods == methods
    assert set(torch.serialization.get_safe_globals()) == listed


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("case", HOSTILE)
def test_values_that_are_not_plain_are_refused(tmp_path: Path, case: str) -> None:
    path = write(tmp_path / "a.pth", logged(HOSTILE[case]))
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        read_checkpoint(path)


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("attribute", sorted({*dir(HistoryBuffer), "__globals__", "__code__"} - set(METHODS)))
def test_only_the_statistics_of_a_buffer_are_allowed(tmp_path: Path, attribute: str) -> None:
    asked = call(name(*GETATTR), name(*BUFFER), text(attribute))
    with pytest.raises(CheckpointError, match=attribute):
        read_checkpoint(write(tmp_path / "a.pth", logged(buffer(statistics_methods=mapping((text("mean"), asked))))))


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("method", [FUNCTION, name("_codecs", "encode"), name("collections", "OrderedDict")])
def test_a_buffers_methods_never_come_from_the_file(tmp_path: Path, method: bytes) -> None:
    methods = mapping((text("mean"), method), (text("worst"), method))
    content = logged(buffer(statistics_methods=methods))
    found = read_checkpoint(write(tmp_path / "a.pth", content))["message_hub"]["log_scalars"]["train/loss"]
    assert type(found) is HistoryBuffer
    assert vars(found).keys() == vars(HistoryBuffer()).keys()
    assert found._statistics_methods == METHODS
    assert found.mean() == 0 or np.isnan(found.mean())


@pytest.mark.usefixtures("_as_before")
def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = write(tmp_path / "a.pth", runs_code(marker))
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not marker.exists()


def test_pytorchs_list_of_safe_globals_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MMEngine puts getattr on the list while it reads, and users add what they trust."""
    marker = tmp_path / "ran"
    path = write(tmp_path / "a.pth", runs_code(marker))
    theirs = [getattr, HistoryBuffer, np.ndarray]
    before = torch.serialization.get_safe_globals()
    monkeypatch.setattr(torch._utils, "_rebuild_tensor", torch._utils._rebuild_tensor)
    torch.serialization.add_safe_globals(theirs)
    try:
        for reader in (read_checkpoint, read_state_dict):
            with pytest.raises(CheckpointError):
                reader(path)
        assert not marker.exists()
        assert set(theirs) <= set(torch.serialization.get_safe_globals())
        # The same file does run if getattr is listed, so the checks here can fail.
        with pytest.raises(Exception, match=r".+"):
            torch.load(path, weights_only=True)
        assert marker.exists()
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def listed_names() -> list[str]:
    """Names that the unpickler allows while a run's checkpoint is read."""
    return sorted({*_get_allowed_globals(), *(f"{each.__module__}.{each.__qualname__}" for each in answers())})


def test_the_allowed_names_are_torchs_or_stand_ins() -> None:
    for each in answers():
        kind = type(each.func) if hasattr(each, "func") else each
        assert (each.func.__module__ if hasattr(each, "func") else kind.__mro__[1].__module__) == (
            "llie_preproc.message_hub"
        )
    builtins = [n for n in listed_names() if n.startswith("builtins.")]
    assert set(builtins) <= {
        "builtins.getattr",
        "builtins.bytes",
        "builtins.bytearray",
        "builtins.set",
        "builtins.complex",
    }


@pytest.mark.examples(20)
@pytest.mark.parametrize("listed", listed_names())
def test_no_allowed_name_is_a_value_of_a_checkpoint(tmp_path: Path, listed: str) -> None:
    """Each name that the installed PyTorch allows is tried as a value, as an attribute and as a key."""
    value = name(*listed.rpartition(".")[::2])
    for place in (value, built(EMPTY, mapping((text("items"), value))), mapping((value, b"N"))):
        path = write(tmp_path / "a.pth", logged(place))
        try:
            found = read_checkpoint(path)["message_hub"]["log_scalars"]["train/loss"]
        except CheckpointError:
            continue
        assert isinstance(next(iter(found)) if isinstance(found, dict) else found, torch.dtype), listed


@pytest.mark.parametrize("reader", [read_checkpoint, read_state_dict])
def test_archives_that_are_not_pytorchs_are_refused(tmp_path: Path, reader: Any) -> None:
    with pytest.raises(CheckpointError, match="tar format"):
        reader(write_tar(tmp_path / "old.pth"))
    content = mapping((text("a"), row(*[number(0)] * 10_000)))
    with pytest.raises(CheckpointError, match="compressed"):
        reader(write(tmp_path / "bomb.pth", content, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("reader", [read_checkpoint, read_state_dict])
def test_records_that_share_bytes_are_refused(tmp_path: Path, reader: Any) -> None:
    path = tmp_path / "shared.pth"
    torch.save({"state_dict": {"a": torch.zeros(4)}}, path)
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(3):
            again = copy.copy(archive.infolist()[0])
            again.filename += str(number)
            archive.filelist.append(again)
        archive._didModify = True  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match="records overlap"):
        reader(path)


@pytest.mark.parametrize("asked", [("builtins", "getattr"), ("numpy", "dtype")])
def test_an_endless_name_is_not_printed(tmp_path: Path, asked: tuple[str, str]) -> None:
    """Forty nested lists, each of which holds the next one twice, have a text of a trillion characters."""
    doubled = b"".join(b"0](h" + bytes([n]) + b"h" + bytes([n]) + b"eq" + bytes([n + 1]) for n in range(1, 41))
    arguments = [name("numpy", "dtype")] * (asked[1] == "getattr") + [b"]q\x01" + doubled]
    path = write(tmp_path / "endless.pth", call(name(*asked), *arguments))
    with comes_back(10), pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_a_tar_with_an_archive_behind_it_is_refused(tmp_path: Path) -> None:
    """PyTorch looks at the first bytes of a file, zip programs at the last."""
    both = tmp_path / "both.pth"
    archive = write(tmp_path / "a.pth", mapping((text("a"), b"N"))).read_bytes()
    both.write_bytes(write_tar(tmp_path / "b.pth").read_bytes() + archive)
    assert zipfile.is_zipfile(both)
    with pytest.raises(CheckpointError, match="tar format"):
        read_checkpoint(both)


def hub() -> MessageHub:
    messages = MessageHub(f"hub of {__name__}")
    for step in range(7):
        messages.update_scalar("train/loss", 0.5 * step)
        messages.update_scalar("train/count", step, count=2)
    messages.update_info("best", np.float32(0.25))
    messages.update_info("table", np.arange(6, dtype=np.int16).reshape(2, 3).T)
    messages.update_info("big", np.arange(3, dtype=">f8"))
    messages.update_info("names", np.array(["one", "three"]))
    messages.update_info("nothing", np.zeros((0, 4), np.uint8))
    return messages


def test_a_message_hub_is_read_whole(tmp_path: Path) -> None:
    saved = {"message_hub": hub().state_dict(), "meta": {"ids": (1, np.arange(3)), "flag": np.bool_(True)}}
    torch.save(copy.deepcopy(saved), tmp_path / "a.pth")
    for _ in range(2):
        # The second time, the file holds what was read the first time.
        read = read_checkpoint(tmp_path / "a.pth")
        for key, value in saved["message_hub"]["log_scalars"].items():
            found = read["message_hub"]["log_scalars"][key]
            assert type(found) is HistoryBuffer
            assert found.max_length == value.max_length
            assert all(np.array_equal(a, b) for a, b in zip(found.data, value.data, strict=True))
            assert (found.mean(3), found.max(), found.current()) == (value.mean(3), value.max(), value.current())
        for key, value in saved["message_hub"]["runtime_info"].items():
            found = read["message_hub"]["runtime_info"][key]
            assert type(found) is type(value)
            assert np.array_equal(found, value)
            assert getattr(found, "dtype", None) == getattr(value, "dtype", None)
        assert read["meta"]["ids"][0] == 1
        assert np.array_equal(read["meta"]["ids"][1], np.arange(3))
        torch.save(read, tmp_path / "a.pth")


def test_a_resumed_hub_continues_the_log(tmp_path: Path) -> None:
    torch.save({"message_hub": hub().state_dict()}, tmp_path / "a.pth")
    resumed = MessageHub("resumed")
    resumed.load_state_dict(read_checkpoint(tmp_path / "a.pth")["message_hub"])
    resumed.update_scalar("train/loss", 9.0)
    log, counts = resumed.get_scalar("train/loss").data
    assert log.tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 9]
    assert counts.tolist() == [1] * 8
    assert resumed.get_scalar("train/loss").statistics("current") == 9


@pytest.mark.parametrize("value", [[], {}, ()])
def test_containers_that_hold_themselves_are_read(tmp_path: Path, value: Any) -> None:
    holder: dict[str, Any] = {"a": value}
    holder["self"] = holder
    torch.save(holder, tmp_path / "a.pth")
    read = read_checkpoint(tmp_path / "a.pth")
    assert read["self"] is read
    assert read["a"] == value


def test_deeply_nested_content_is_a_checkpoint_error(tmp_path: Path) -> None:
    deep = b"]" * 100_000 + b"a" * 99_999
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        read_checkpoint(write(tmp_path / "a.pth", mapping((text("a"), deep))))
