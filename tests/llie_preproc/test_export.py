"""``export_onnx`` turns every enhancer into an ONNX graph with equal results, or says why it cannot."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from llie_preproc import build_enhancer, enhance
from llie_preproc.checkpoints import default_weights
from llie_preproc.enhancers import Capabilities, Cascade, Enhancer, GammaCorrection, Identity, PSENet, ZeroDCE
from llie_preproc.enhancers.build import DEFAULT_WEIGHTS
from llie_preproc.enhancers.names import enhancer_classes
from llie_preproc.errors import ExportError, MissingExtraError
from llie_preproc.export import export_onnx
from tests.support.marks import slow_where

onnx = pytest.importorskip("onnx", reason="needs the extra 'onnx'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")


def run(path: Path, image: np.ndarray) -> np.ndarray:
    """Result of the graph for a batch ``(N, H, W, 3)``."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"image": image.transpose(0, 3, 1, 2)})
    return result.transpose(0, 2, 3, 1)


def pictures(number: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((number, height, width, 3), np.float32)


@pytest.mark.examples(4)
@pytest.mark.parametrize("name", slow_where({"CollaBA"}, sorted(enhancer_classes())))
def test_every_enhancer_agrees_with_its_graph_or_says_why_not(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_enhancer(name, DEFAULT_WEIGHTS if default_weights(name) else None)
    path = tmp_path / "network.onnx"
    if network.onnx_refusal is not None:
        with pytest.raises(ExportError) as refused:
            export_onnx(network, path)
        assert str(refused.value) == f"{name} cannot be exported to ONNX: {network.onnx_refusal}"
        assert list(tmp_path.iterdir()) == []
        return
    export_onnx(network, path)
    assert list(tmp_path.iterdir()) == [path]
    divisor = network.capabilities.size_divisor
    height, width = (math.ceil(n / divisor) * divisor for n in (37, 53))
    image = pictures(4, height, width)
    result = run(path, image)
    assert np.abs(result - enhance(image, network)).max() < 1e-4
    # If both results were all black or all white, their agreement would prove nothing.
    assert ((result > 0.001) & (result < 0.999)).mean() > 0.1


def test_a_cascade_without_padding_is_one_graph(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Cascade([ZeroDCE(), "Upscale"]).eval()
    export_onnx(network, tmp_path / "network.onnx")
    image = pictures(2, 19, 23)
    assert np.abs(run(tmp_path / "network.onnx", image) - enhance(image, network)).max() < 1e-4


def test_the_graph_holds_its_metadata_and_free_sizes(tmp_path: Path) -> None:
    export_onnx(PSENet(), tmp_path / "network.onnx")
    model = onnx.load(tmp_path / "network.onnx")
    onnx.checker.check_model(model, full_check=True)
    metadata = {p.key: p.value for p in model.metadata_props}
    assert metadata.pop("llie_preproc")
    assert metadata == {
        "enhancer": "PSENet",
        "scale": "1",
        "size_divisor": "1",
        "min_size": "5",
        "channel_order": "rgb",
        "input_range": "[0, 1]",
        "output_range": "[0, 1]",
    }
    dimensions = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert dimensions == ["batch", 3, "height", "width"]
    assert not any(p.external_data for p in model.graph.initializer)


def test_a_graph_of_one_size_refuses_other_sizes(tmp_path: Path) -> None:
    network = PSENet().eval()
    export_onnx(network, tmp_path / "network.onnx", size=(24, 40))
    image = pictures(3, 24, 40)
    assert np.abs(run(tmp_path / "network.onnx", image) - enhance(image, network)).max() < 1e-4
    with pytest.raises(Exception, match="dimensions"):
        run(tmp_path / "network.onnx", pictures(1, 40, 24))


@pytest.mark.parametrize("size", [(4, 16), (24, 8), (20, 16)])
def test_sizes_that_the_network_does_not_take_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    network = Identity()
    network.capabilities = Capabilities(size_divisor=8, min_size=12)
    with pytest.raises(ValueError, match=f"multiples of 8, at least 12, got {size[0]}x{size[1]}"):
        export_onnx(network, tmp_path / "network.onnx", size=size)


def test_exporting_does_not_change_the_network(tmp_path: Path) -> None:
    network = PSENet().train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    export_onnx(network, tmp_path / "network.onnx")
    assert network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_the_graph_is_clamped(tmp_path: Path) -> None:
    class Tripling(Enhancer):
        def forward(self, image: Tensor) -> Tensor:
            return 3 * image - 1

    export_onnx(Tripling(), tmp_path / "network.onnx")
    image = pictures(1, 8, 8)
    assert np.allclose(run(tmp_path / "network.onnx", image), (3 * image - 1).clip(0, 1), atol=1e-6)


class SizeTakenForConstant(Enhancer):
    def forward(self, image: Tensor) -> Tensor:
        return image / float(image.shape[3])


class Unrunnable(Enhancer):
    def forward(self, image: Tensor) -> Tensor:
        return image + torch.zeros(1, 1, image.shape[2], int(image.shape[3]))


class NoCounterpart(Enhancer):
    def forward(self, image: Tensor) -> Tensor:
        return torch.special.i0(image)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (SizeTakenForConstant(), r"result at \(1, 3, 1, 1\) differs"),
        (Unrunnable(), "cannot run the graph at|differs"),
        (NoCounterpart(), "NoCounterpart cannot be exported to ONNX: .*i0"),
    ],
)
def test_a_failure_leaves_an_earlier_file_unchanged(network: Enhancer, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ExportError, match=reason):
        export_onnx(network, path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_a_size_taken_for_constant_is_right_at_that_size(tmp_path: Path) -> None:
    export_onnx(SizeTakenForConstant(), tmp_path / "network.onnx", size=(8, 16))
    image = pictures(2, 8, 16)
    assert np.allclose(run(tmp_path / "network.onnx", image), image / 16)


@pytest.mark.parametrize("module", ["onnx", "onnxruntime"])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf'needs the package .{module}.*pip install "llie-preproc\[onnx\]"'):
        export_onnx(GammaCorrection(), tmp_path / "network.onnx")
    assert list(tmp_path.iterdir()) == []
