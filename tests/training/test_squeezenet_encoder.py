"""The SqueezeNet encoder reads files in torchvision's names, equals torchvision's network, and sees Caffe's input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from llie_preproc.checkpoints import read_state_dict, save_state_dict
from llie_preproc.files import file_sha256
from tests.support.random_pictures import images
from tests.support.tiny_encoders import shaken, tiny
from training.feature_encoders import SqueezeNetEncoder
from training.hooks.method_checkpoint_hook import encoder_prefixes
from training.methods.supervised import SupervisedTraining

# Places of the stages in torchvision's sequence, counted by hand.
PLACES = {"conv1": 0, "relu1": 1, "fire2": 3, "fire3": 4, "pool3": 5, "fire5": 7, "fire6": 9, "fire9": 12}
STRIDES = {"relu1": 2, "pool1": 4, "fire3": 4, "pool3": 8, "fire5": 8, "pool5": 16, "fire9": 16}
REAL = "reference_weights/perceptual/squeezenet1_1_caffe_torchvision_keys_fp16.safetensors"


def caffe_input(image: Tensor) -> Tensor:
    """BGR, levels of 0 to 255, less the mean of ImageNet's training pictures."""
    red, green, blue = (255 * image).unbind(1)
    return torch.stack([blue - 104, green - 117, red - 123], dim=1)


def torchvision_input(image: Tensor) -> Tensor:
    return torchvision.transforms.functional.normalize(image, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


INPUTS = {"caffe": caffe_input, "torchvision": torchvision_input}


def public_network(seed: int = 0) -> nn.Module:
    """Torchvision's network with random weights that a file in half precision holds exactly."""
    torch.manual_seed(seed)
    return shaken(torchvision.models.squeezenet1_1(weights=None)).half().float().eval()


@pytest.mark.parametrize("normalisation", INPUTS)
def test_features_equal_those_of_torchvision(normalisation: str, tmp_path: Path) -> None:
    """ReLUs of torchvision work in place, so each stage needs its own pass."""
    network = public_network()
    half = {key: tensor.half() for key, tensor in network.state_dict().items()}
    save_state_dict(half, tmp_path / "squeezenet1_1.safetensors")
    encoder = tiny("squeezenet", tmp_path / "squeezenet1_1.safetensors", normalisation=normalisation)
    image = images(37, 53, 2)
    seen = INPUTS[normalisation](image)
    with torch.no_grad():
        expected = [network.features[: place + 1](seen) for place in PLACES.values()]
    for found, e in zip(encoder(image, list(PLACES)), expected, strict=True):
        torch.testing.assert_close(found, e, rtol=1e-4, atol=1e-5 * float(e.abs().max()))
    assert (expected[0] < 0).any()
    vector = expected[-1].mean((2, 3))
    torch.testing.assert_close(encoder.embed(image), vector, rtol=1e-4, atol=1e-5 * float(vector.abs().max()))


def test_a_file_of_torch_save_with_a_digest_is_read(tmp_path: Path) -> None:
    network = public_network()
    torch.save(network.state_dict(), tmp_path / "squeezenet1_1.pth")
    named = f"{tmp_path / 'squeezenet1_1.pth'}#sha256="
    encoder = tiny("squeezenet", named + file_sha256(tmp_path / "squeezenet1_1.pth"))
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in encoder.state_dict().items())
    with pytest.raises(ValueError, match=r"its sha256 is [0-9a-f]{64}, expected 0{64}"):
        tiny("squeezenet", named + 64 * "0")


def test_parameters_of_the_public_file_fit() -> None:
    with torch.device("meta"):
        public = torchvision.models.squeezenet1_1().state_dict()
        own = SqueezeNetEncoder(checkpoint=None, normalisation="torchvision")
    kept = {k: v.shape for k, v in public.items() if k.startswith("features.")}
    assert {k: v.shape for k, v in own.state_dict().items()} == kept
    assert sum(p.numel() for p in own.parameters()) == 722_496


@pytest.mark.parametrize(("stage", "stride"), STRIDES.items())
@pytest.mark.parametrize("size", [(224, 224), (65, 98), (31, 47)])
def test_stages_have_the_documented_resolution(stage: str, stride: int, size: tuple[int, int]) -> None:
    """The convolution and each pool lose at most one position at the border."""
    shape = tiny("squeezenet")(images(*size), [stage])[0].shape[-2:]
    assert all(n / stride - 2 < found <= n / stride for n, found in zip(size, shape, strict=True))


@pytest.mark.parametrize(("stage", "least"), [("relu1", 3), ("fire3", 5), ("fire5", 9), ("fire9", 17)])
def test_a_picture_too_small_for_a_stage_is_refused(stage: str, least: int) -> None:
    encoder = tiny("squeezenet")
    assert encoder(images(least, least + 1), [stage])[0].shape[-2:] == (1, 1)
    with pytest.raises(ValueError, match=rf"{stage} needs .* at least {least}, got \(1, 3, 40, {least - 1}\)"):
        encoder(images(40, least - 1), [stage])


@pytest.mark.parametrize("normalisation", ["imagenet", "Caffe", "", None, 3])
def test_an_unknown_normalisation_is_refused(normalisation: Any) -> None:
    with pytest.raises(ValueError, match=r"normalisation must be .*caffe.*torchvision"):
        tiny("squeezenet", normalisation=normalisation)


def test_the_normalisation_must_be_named() -> None:
    with pytest.raises(TypeError, match="normalisation"):
        SqueezeNetEncoder(checkpoint=None)  # type: ignore[call-arg]


def test_checkpoints_of_a_training_leave_the_encoder_out() -> None:
    encoder = dict(type="llie_preproc.SqueezeNetEncoder", checkpoint=None, normalisation="caffe")
    loss = dict(type="llie_preproc.PerceptualLoss", encoder=encoder, stages=["fire3", "fire9"])
    method = SupervisedTraining({"type": "ZeroDCE", "channels": 4}, losses={"perceptual": loss})
    kept = [key for key in method.state_dict() if not key.startswith(encoder_prefixes(method))]
    assert kept == [f"enhancer.{key}" for key in method.enhancer.state_dict()]


def test_the_real_file_recognises_pictures_in_caffes_input_only(shared_data: Path) -> None:
    """The classifier of the file, behind the encoder, names what the pictures show."""
    data = pytest.importorskip("skimage.data")
    state = read_state_dict(shared_data / REAL)
    weight, bias = state["classifier.1.weight"].float(), state["classifier.1.bias"].float()
    names = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"]

    def recognised(picture: Any, normalisation: str) -> tuple[str, float]:
        encoder = SqueezeNetEncoder(checkpoint=str(shared_data / REAL), normalisation=normalisation)
        image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255
        image = functional.interpolate(image, (227, 227), mode="bilinear", antialias=True)
        maps = functional.conv2d(encoder(image, ["fire9"])[0], weight, bias).relu()
        share, place = maps.mean((2, 3)).softmax(1)[0].max(0)
        return names[int(place)], float(share)

    cat, cup = data.chelsea()[:, 75:375], data.coffee()[:, 100:500]
    assert recognised(cat, "caffe")[0] in ("Egyptian cat", "tabby", "tiger cat")
    name, share = recognised(cup, "caffe")
    assert (name, share > 0.9) == ("espresso", True)
    assert recognised(cup, "torchvision")[0] != "espresso"
    # The same weights see less in RGB: the channels are in Caffe's order.
    name, swapped = recognised(cup[..., ::-1], "caffe")
    assert name != "espresso" or swapped < share - 0.2
