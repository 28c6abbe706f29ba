"""``python -m detection_eval quality``, and what the shipped weights score under it."""

import json

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")
pytest.importorskip("torchmetrics", reason="needs the extra 'mm'")

import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from detection_eval.__main__ import main
from detection_eval.metrics import image_quality
from llie_preproc.checkpoints import WEIGHTS_DIR, shipped_weights


def picture(seed, low=0, high=256, size=(40, 50)):
    return np.random.default_rng(seed).integers(low, high, (*size, 3), dtype=np.uint8)


def test_scores_agree_with_scikit_image():
    a, b = picture(0), picture(1)
    scores = image_quality(*(torch.from_numpy(x).permute(2, 0, 1) / 255 for x in (a, b)))
    assert scores["psnr"] == pytest.approx(peak_signal_noise_ratio(a, b), abs=1e-3)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = structural_similarity(a, b, channel_axis=2, data_range=255, **gaussian)
    assert scores["ssim"] == pytest.approx(expected, abs=1e-4)


def test_shapes_that_cannot_be_compared_are_named():
    with pytest.raises(ValueError, match=r"at least 11.*\(3, 9, 20\)"):
        image_quality(torch.rand(3, 9, 20), torch.rand(3, 9, 20))
    with pytest.raises(ValueError, match="one shape"):
        image_quality(torch.rand(3, 20, 20), torch.rand(3, 20, 21))


@pytest.fixture
def pairs(tmp_path):
    for folder, brightness in (("low", 60), ("high", 200)):
        (tmp_path / folder / "a").mkdir(parents=True)
        for i in range(2):
            Image.fromarray(picture(i, high=brightness)).save(tmp_path / folder / "a" / f"{i}.png")
    return str(tmp_path / "low"), str(tmp_path / "high")


def test_the_command_prints_a_line_for_the_input_and_each_checkpoint(pairs, capsys):
    assert main(["quality", *pairs, "--enhancer", "GammaCorrection"]) == 0
    out = capsys.readouterr().out
    assert "2 pairs" in out
    raw, enhanced = (float(line.split()[1]) for line in out.splitlines()[1:])
    inputs = [np.asarray(Image.open(f"{folder}/a/{i}.png")) for i in range(2) for folder in pairs]
    expected = np.mean([peak_signal_noise_ratio(inputs[i + 1], inputs[i]) for i in (0, 2)])
    assert raw == pytest.approx(expected, abs=2e-3)
    assert enhanced > raw


def test_the_command_prints_the_metrics_asked_for_and_their_variants(pairs, capsys):
    command = ["quality", *pairs, "--enhancer", "GammaCorrection", "--metrics", "rmse", "loe", "eme"]
    assert main([*command, "--eme-block", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 pairs"
    raw, enhanced = (line.split() for line in lines[1:3])
    assert raw[::2] == ["RMSE", "LOE", "EME", "raw"]
    assert float(raw[3]) == 0
    assert float(enhanced[1]) < float(raw[1])
    assert [line.split(":")[0] for line in lines[3:]] == ["rmse", "loe", "eme"]
    assert "max_p 255" in lines[3]
    assert "variant A" in lines[4]
    assert "blocks of 5x5, 20 ln" in lines[5]


def test_metrics_without_a_reference_need_no_second_folder(pairs, capsys):
    assert main(["quality", pairs[0], "--enhancer", "GammaCorrection", "--metrics", "loe_bimef", "eme"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 pictures\nLOE-BIMEF 0.00  EME ")


def test_matched_brightness_is_named_in_the_table(pairs, capsys):
    assert main(["quality", *pairs, "--enhancer", "Identity", "--metrics", "psnr", "--gt-mean"]) == 0
    assert "\nPSNR-GT-mean " in capsys.readouterr().out
    assert main(["quality", *pairs, "--enhancer", "Identity", "--gt-mean"]) == 0
    assert "SSIM-GT-mean " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--metrics", "psnr", "nique"], "psnr, ssim, "),
        (["--metrics", "niqe"], "niqe_pris_params.npz"),
        (["--metrics", "lpips"], "alexnet-owt-7be5be79.pth"),
        (["--metrics", "fid", "--fid-trunk", "absent.pth"], "no checkpoint at absent.pth"),
        (["--metrics", "eme", "--eme-block", "99"], "block must"),
    ],
)
def test_metrics_that_cannot_be_had_are_named(pairs, capsys, arguments, match):
    assert main(["quality", *pairs, "--enhancer", "Identity", *arguments]) == 2
    assert match in capsys.readouterr().err


def test_a_reference_is_asked_for_where_a_metric_needs_it(pairs, capsys):
    assert main(["quality", pairs[0], "--enhancer", "Identity"]) == 2
    assert "HIGH, the folder of references, must be given for psnr, ssim" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda high: (high / "a" / "1.png").unlink(), "1.png has no pair"),
        (lambda high: Image.fromarray(picture(0, size=(8, 9))).save(high / "a" / "1.png"), "differ in shape"),
        (lambda high: (high / "a" / "1.png").write_bytes(b""), "the file is empty"),
    ],
)
def test_bad_pairs_are_named(pairs, capsys, spoil, match, tmp_path):
    spoil(tmp_path / "high")
    assert main(["quality", *pairs, "--enhancer", "Identity"]) == 2
    assert match in capsys.readouterr().err


def test_shipped_weights_are_small_and_described():
    index = json.loads((WEIGHTS_DIR / "index.json").read_text(encoding="utf-8"))
    assert set(index) == {w.name for w in shipped_weights()}
    for weights in shipped_weights():
        assert weights.path.stat().st_size < 2_000_000
        assert weights.recipe
        assert weights.data
        assert weights.licence
        assert weights.scores
    assert len([w for w in shipped_weights() if w.enhancer == "PSENet" and w.default]) == 1
    assert {p.name for p in WEIGHTS_DIR.glob("*.safetensors")} == {w.file for w in shipped_weights()}


@pytest.mark.slow
def test_shipped_psenet_is_as_good_as_the_official_one(shared_data, capsys):
    folder = shared_data / "lol_v1" / "our485"
    official = str(shared_data / "reference_weights" / "psenet_sice_official.safetensors")
    assert main(["quality", str(folder / "low"), str(folder / "high"), "--checkpoint", "psenet_sice", official]) == 0
    raw, ours, theirs = (float(line.split()[1]) for line in capsys.readouterr().out.splitlines()[1:])
    assert raw == pytest.approx(7.38, abs=0.02)
    assert theirs == pytest.approx(15.97, abs=0.02)
    assert ours > theirs - 0.3
