"""LPIPS and FID equal their libraries and their definitions, here on networks with random weights."""

import pickle
import sys
from importlib import resources

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")
pytest.importorskip("torchmetrics", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from torchmetrics.functional.image import lpips as library_lpips
from torchvision.models import alexnet

from detection_eval.metrics import frechet_distance, inception_features, lpips, read_inception, read_lpips
from llie_preproc.errors import CheckpointError, MissingExtraError
from tests.support.random_pictures import planes

SIZE = (64, 72)


@pytest.fixture(scope="module")
def features():
    torch.manual_seed(0)
    return alexnet(weights=None).features


@pytest.fixture(scope="module")
def network(features, tmp_path_factory):
    path = tmp_path_factory.mktemp("trunk") / "alexnet.pth"
    torch.save({f"features.{k}": v for k, v in features.state_dict().items()}, path)
    return read_lpips(path)


def test_lpips_equals_the_library_on_the_same_trunk(network, features, monkeypatch):
    monkeypatch.setattr(library_lpips, "_get_tv_model_features", lambda net, pretrained: features)
    first, second = planes(0, SIZE), planes(1, SIZE)
    signed = [x[None] / 127.5 - 1 for x in (first, second)]
    expected = library_lpips.learned_perceptual_image_patch_similarity(*signed, net_type="alex").item()
    assert expected > 0.01
    assert lpips(first, second, network) == pytest.approx(expected, rel=1e-5)
    assert lpips(first / 255, second / 255, network) == pytest.approx(expected, rel=1e-5)


def test_lpips_equals_the_formula_of_the_paper(network, features):
    """Eq. 1: squared differences of unit features after each of five ReLUs, weighted by heads, averaged over space."""
    first, second = planes(0, SIZE), planes(1, SIZE)
    with resources.as_file(resources.files("torchmetrics") / "functional/image/lpips_models/alex.pth") as path:
        heads = torch.load(path, map_location="cpu", weights_only=True)
    shift, scale = (torch.tensor(x)[:, None, None] for x in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
    total, maps = 0.0, [(x / 127.5 - 1 - shift) / scale for x in (first, second)]
    with torch.no_grad():
        for stage, (start, end) in enumerate(((0, 2), (2, 5), (5, 8), (8, 10), (10, 12))):
            maps = [features[start:end](x[None])[0] for x in maps]
            unit = [x / x.norm(dim=0) for x in maps]
            total += (heads[f"lin{stage}.model.1.weight"][0] * (unit[0] - unit[1]).square()).sum(0).mean().item()
    assert lpips(first, second, network) == pytest.approx(total, rel=1e-3)


def test_lpips_is_symmetric_and_zero_for_equal_pictures(network):
    first, second = planes(0, SIZE), planes(1, SIZE)
    assert lpips(first, first, network) == 0
    assert lpips(first, second, network) == pytest.approx(lpips(second, first, network), rel=1e-6)


def test_lpips_needs_31_pixels_a_side(network):
    assert lpips(planes(0, (31, 31)), planes(1, (31, 31)), network) > 0
    with pytest.raises(ValueError, match="at least 31"):
        lpips(planes(0, (30, 60)), planes(1, (30, 60)), network)


def test_no_trunk_is_downloaded(features, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    torch.save({f"features.{k}": v for k, v in features.state_dict().items()}, tmp_path / "alexnet.pth")
    read_lpips(tmp_path / "alexnet.pth")
    assert not (tmp_path / "hub").exists()


def test_weights_of_another_network_are_refused_for_lpips(features, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        read_lpips(tmp_path / "absent.pth")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"10 of 10.*features\.0\.weight of \(64, 3, 11, 11\).*alexnet-owt"):
        read_lpips(tmp_path / "other.pth")
    (tmp_path / "unsafe.pth").write_bytes(pickle.dumps(print, protocol=2))
    with pytest.raises(CheckpointError, match="refused"):
        read_lpips(tmp_path / "unsafe.pth")


def gaussian_features(seed, number, width, scale=1.0):
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(number, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)


def by_square_root(first, second):
    """The Frechet distance by its definition, with the matrix square root."""
    covariances = [np.cov(x, rowvar=False) for x in (first, second)]
    root = linalg.sqrtm(covariances[0] @ covariances[1])
    apart = first.mean(axis=0) - second.mean(axis=0)
    return apart @ apart + np.trace(covariances[0] + covariances[1] - 2 * root.real)


@pytest.mark.parametrize(("numbers", "width"), [((60, 45), 8), ((200, 9), 8), ((20, 30), 20)])
def test_frechet_distance_equals_its_definition(numbers, width):
    first, second = (gaussian_features(i, n, width) for i, n in enumerate(numbers))
    assert frechet_distance(first, second) == pytest.approx(by_square_root(first, second), rel=1e-6)


def test_frechet_distance_equals_torch_fidelity():
    library = pytest.importorskip("torch_fidelity.metric_fid", reason="needs the extra 'metrics'")
    for numbers in ((90, 70), (12, 15)):
        sets = [gaussian_features(i, n, 30) for i, n in enumerate(numbers)]
        statistics = [library.fid_features_to_statistics(torch.from_numpy(x)) for x in sets]
        expected = library.fid_statistics_to_metric(*statistics, verbose=False)[library.KEY_METRIC_FID]
        assert frechet_distance(*sets) == pytest.approx(expected, rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(shift=st.floats(-5, 5), scale=st.floats(0.1, 4), number=st.integers(3, 30))
def test_frechet_distance_of_a_moved_and_scaled_set_has_a_closed_form(shift, scale, number):
    """The covariances commute, so the distance is ``|m1 - m2|^2 + (1 - s)^2 tr C``."""
    first = gaussian_features(0, number, 6)
    mean = first.mean(axis=0)
    second = mean + scale * (first - mean) + shift
    expected = 6 * shift**2 + (1 - scale) ** 2 * np.trace(np.cov(first, rowvar=False))
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_sets_without_a_distance_are_refused():
    with pytest.raises(ValueError, match=r"2 pictures or more.*\(1, 5\)"):
        frechet_distance(np.zeros((1, 5)), np.zeros((9, 5)))
    with pytest.raises(ValueError, match=r"\(9, 5\), \(9, 6\)"):
        frechet_distance(np.zeros((9, 5)), np.zeros((9, 6)))


@pytest.mark.further
def test_inception_runs_with_weights_from_a_file(inception_trunk):
    """The features equal those of the library's network for the 8-bit picture."""
    network = read_inception(inception_trunk)
    image = planes(0, SIZE)
    found = inception_features(image / 255, network)
    assert found.shape == (2048,)
    assert found.std() > 0
    assert np.array_equal(found, network(image[None])[0][0].numpy())
    assert not any(p.requires_grad for p in network.parameters())


def test_fid_without_its_library_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(MissingExtraError, match=r"llie-preproc\[metrics\]"):
        read_inception(tmp_path / "any.pth")


def test_weights_of_another_network_are_refused_for_fid(tmp_path):
    pytest.importorskip("torch_fidelity", reason="needs the extra 'metrics'")
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth is no Inception trunk.*pt_inception"):
        read_inception(tmp_path / "other.pth")
