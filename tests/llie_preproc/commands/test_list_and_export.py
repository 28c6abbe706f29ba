"""``llie list`` shows all enhancers and shipped weights; ``llie export`` writes a graph that gives equal results."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from llie_preproc import build_enhancer, enhance
from llie_preproc.checkpoints import shipped_weights
from llie_preproc.enhancers import Identity, PSENet
from llie_preproc.enhancers.names import enhancer_classes
from llie_preproc.ops import scan_backends
from llie_preproc.registry import MODELS
from tests.support.command import Run, one_line


def table(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line) for line in text.splitlines()]


# Listing.


def test_list_shows_every_enhancer_and_its_shipped_weights(llie: Run) -> None:
    result = llie("list", "--macs")
    header, *lines = table(result.out)
    assert header == ["ENHANCER", "PARAMETERS", "MACS@256x256", "SCALE", "WEIGHTS", "LICENCE OF WEIGHTS"]
    rows = {line[0]: line[1:] for line in lines}
    assert rows.keys() == enhancer_classes().keys()
    assert rows["PSENet"][:3] == ["15,251", "149.23 M", "1"]
    assert rows["ZeroDCE"][:3] == ["79,416", "5.19 G", "1"]
    assert rows["Upscale"] == ["0", "0", "2", "not needed", "-"]
    assert rows["CLAHE"] == ["0", "-", "1", "not needed", "-"]
    for shipped in shipped_weights():
        line = next(line for line in lines if shipped.name in line[4].split())
        assert line[0] == shipped.enhancer
        assert line[5] == shipped.licence


@pytest.mark.further
def test_list_counts_multiply_adds_only_when_asked(llie: Run) -> None:
    """Counting takes longer than the rest of the command."""
    short, long = (table(llie("list", *flags).out) for flags in ([], ["--macs"]))
    assert [[*line[:2], *line[3:]] for line in long] == short


@pytest.mark.further
def test_list_shows_an_enhancer_whose_operations_cannot_be_counted(llie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Asking(Identity):
        def forward(self, image: Tensor) -> Tensor:
            return image if image.mean().item() > 0.5 else image**0.5

    monkeypatch.setitem(MODELS._module_dict, "Asking", Asking)
    assert ["Asking", "0", "-", "1", "not needed", "-"] in table(llie("list", "--macs").out)


def test_list_shows_the_backends_of_the_scan(llie: Run) -> None:
    result = llie("list", "--backends")
    assert result.code == 0
    header, *rows = table(result.out)
    assert header == ["BACKEND", "AVAILABLE", "ABOUT"]
    assert rows == [[b.name, "yes" if b.available else "no", b.reason] for b in scan_backends()]
    assert any(row[1] == "yes" for row in rows)


# Exporting.


@pytest.mark.examples(1)
@pytest.mark.parametrize("size", [None, (24, 40)])
def test_an_exported_graph_gives_equal_results(
    llie: Run, tmp_path: Path, weights: Path, size: tuple[int, int] | None
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    target = tmp_path / "new" / "psenet.onnx"
    call = ["export", "--out", target, "--enhancer", f"PSENet@{weights}"]
    if size:
        call += ["--height", size[0], "--width", size[1]]
    result = llie(*call)
    assert (result.code, result.err) == (0, "")
    assert str(target) in result.out
    assert ("24x40" if size else "any size") in result.out
    one_line(llie(*call), "psenet.onnx", "--overwrite")
    assert llie(*call, "--overwrite").code == 0
    image = np.random.default_rng(0).random((24, 40, 3), np.float32)
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    (exported,) = session.run(None, {"image": image.transpose(2, 0, 1)[None]})
    expected = enhance(image, build_enhancer("PSENet", weights))
    assert np.abs(exported[0].transpose(1, 2, 0) - expected).max() < 1e-4


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--out", "{out}", "--enhancer", "CLAHE"], ["CLAHE cannot be exported to ONNX", "OpenCV"]),
        (["--out", "{out}", "--enhancer", "SemiLLIE"], ["SemiLLIE cannot be exported to ONNX", "selective scan"]),
        (["--out", "{out}", "--enhancer", "PSENot"], ["PSENot", "PSENet"]),
        (
            ["--out", "{out}", "--enhancer", "Untrained"],
            ["Untrained has no shipped weights", "--enhancer NAME@WEIGHTS"],
        ),
        (["--out", "{out}", "--enhancer", "PSENet@nowhere.pth"], ["nowhere.pth"]),
        (["--out", "{out}", "--enhancer", "Identity", "--height", "8"], ["--height and --width"]),
        (["--out", "{out}", "--enhancer", "Identity", "--height", "0", "--width", "8"], ["--height", "'0'"]),
        (["--out", "{out}", "--enhancer", "PSENet", "--height", "4", "--width", "8"], ["at least 5", "4x8"]),
        (["--out", "{out}.pt", "--enhancer", "Identity"], [".onnx"]),
        (["--out", "{folder}", "--enhancer", "Identity"], ["folder.onnx is a folder"]),
        (["--out", "{out}"], ["--enhancer"]),
    ],
)
def test_wrong_exports_are_refused(
    llie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], parts: list[str]
) -> None:
    monkeypatch.setitem(MODELS._module_dict, "Untrained", type("Untrained", (PSENet,), {}))
    folder = tmp_path / "folder.onnx"
    folder.mkdir()
    one_line(llie("export", *(a.format(out=tmp_path / "out.onnx", folder=folder) for a in arguments)), *parts)
    assert list(tmp_path.iterdir()) == [folder]
