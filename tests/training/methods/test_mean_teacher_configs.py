"""The shipped configs of the mean teacher build every row of the paper's tables, read their sets, train and resume."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from PIL import Image

from llie_preproc.commands.llie import main, parse_args
from llie_preproc.registry import DATA_SAMPLERS, DATASETS, MODELS, PARAM_SCHEDULERS, TRANSFORMS
from tests.support.ablations import ablation_rows
from tests.support.configs import read_config
from tests.support.mean_teachers import TERMS, images, samples, untouched
from tests.support.training_runs import apart
from training.run_checkpoints import read_run

pytestmark = pytest.mark.usefixtures("after_the_ramp")

# An option for tests in which the network does not matter: gradients of the selective scan compile slowly.
UNET = "model.enhancer.type=llie_preproc.IAMLUNet"
# Sizes that make the encoders of the shipped configs quick to build.
TINY = {
    "RAMEncoder": dict(image_size=64, window_size=4, embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2)),
    "VGGEncoder": dict(width=2),
    "SqueezeNetEncoder": {},
    "CLIPEncoder": dict(projection=6, embed_dim=16, depth=1, num_heads=2, img_size=32, patch_size=8),
    "SAMEncoder": dict(
        embed_dim=16,
        depth=1,
        num_heads=2,
        img_size=64,
        patch_size=8,
        window_size=3,
        out_chans=8,
        global_attn_indexes=(0,),
    ),
}


def cases(paper, table):
    return [pytest.param(options, id=name) for name, options in ablation_rows(f"{paper}, {table}").items()]


def changed(config, options):
    """A shipped config with the options of a row, and with small networks and encoders."""
    cfg = read_config(f"mm_configs/enhancers/{config}.py")
    cfg.merge_from_dict(
        parse_args(["train", "config.py", "--cfg-options", *options.split()]).cfg_options if options else {}
    )
    sizes = {"SemiLLIE": {"width": 4, "groups": 1}, "IAMLUNet": {"width": 4, "depth": 2}}
    cfg.model.enhancer.update(sizes.get(cfg.model.enhancer.type.split(".")[1], {}))
    for loss in (cfg.model.get("contrastive"), cfg.model.losses.get("perceptual")):
        if loss is not None:
            loss.encoder.update(TINY[loss.encoder.type.split(".")[1]] | {"checkpoint": None})
    return cfg


def built(config, options):
    torch.manual_seed(0)
    return MODELS.build(changed(config, options).model)


@pytest.mark.examples(4)
@pytest.mark.parametrize("config", ["semi_llie_lsrw", "semi_llie_visdrone"])
@pytest.mark.parametrize("options", cases("Semi-LLIE", "Table III"))
def test_options_of_table_iii_build_their_rows(config, options, request):
    model = built(config, options)
    row = request.node.callspec.id.split("-semi")[0]
    whole = row == "#7 Semi-LLIE"
    assert (model.enhancer.estimator is not None) == ("IE" in row or whole)
    assert (len(model.enhancer.groups[0].blocks[0].module.local) == 2) == ("MS" in row or whole)
    assert ("contrastive" in model.contrastive) == ("SCL" in row or whole)
    assert set(model.losses) == {"l1", "gradient"} | ({"perceptual"} if "RP" in row or whole else set())
    assert all(torch.isfinite(t) for t in model.loss(images(), samples()).values())


@pytest.mark.parametrize("options", cases("Semi-LLIE", "Table IV"))
def test_options_of_table_iv_build_their_rows(options, request):
    model = built("semi_llie_lsrw", f"{UNET} {options}")
    encoder = model.contrastive["contrastive"].encoder
    assert type(encoder).__name__ == f"{request.node.callspec.id}Encoder"
    assert type(model.losses["perceptual"].encoder).__name__ == "RAMEncoder"
    apart(model).loss(images(), samples())["loss_contrastive"].backward()
    assert all(p.grad is not None for p in model.enhancer.parameters() if p.requires_grad)
    assert untouched(encoder)


@pytest.mark.examples(2)
@pytest.mark.parametrize("options", cases("Semi-LLIE", "Table V"))
def test_options_of_table_v_build_their_rows(options, request):
    model = built("semi_llie_lsrw", options)
    named = {"MambaIR": "SemiLLIE", "Ours": "SemiLLIE", "Zero-DCE": "ZeroDCE"}
    row = request.node.callspec.id
    assert type(model.enhancer).__name__ == named.get(row, row)
    assert list(model.loss(images(), samples())) == [TERMS[i] for i in (0, 1, 2, 3, 4, 5)]


@pytest.mark.parametrize("options", cases("Semi-LLIE", "Table VI"))
def test_options_of_table_vi_build_their_rows(options, request):
    strong = changed("semi_llie_visdrone", options).train_dataloader.dataset.strong
    row = request.node.callspec.id
    steps = [] if strong is None else TRANSFORMS.build(strong).steps
    assert len(steps) == {"Baseline": 0, "All": 3}.get(row, 1)
    kinds = {"w/ Color Jitter": "ColorJitter", "w/ Grayscale Conversion": "RandomGrayscale", "w/ Gaussian Blur": "blur"}
    assert kinds.get(row, "") in str(steps)


@pytest.mark.parametrize("options", cases("Semi-LLIE", "where its public code differs from the paper"))
def test_options_of_the_public_code_give_finite_losses(options):
    assert all(torch.isfinite(t) for t in built("semi_llie_lsrw", options).loss(images(), samples()).values())


@pytest.mark.parametrize("options", cases("Semi-LLIE", "without RAM"))
def test_both_losses_train_the_student_through_another_encoder(options, request):
    model = built("semi_llie_lsrw", f"{UNET} {options}")
    encoders = [model.contrastive["contrastive"].encoder, model.losses["perceptual"].encoder]
    assert {f"{type(encoder).__name__}" for encoder in encoders} == {f"{request.node.callspec.id}Encoder"}
    for term in ("loss_contrastive", "loss_perceptual"):
        model.zero_grad()
        apart(model).loss(images(), samples())[term].backward()
        assert all(p.grad is not None and p.grad.any() for p in model.enhancer.parameters() if p.requires_grad)
    assert all(untouched(encoder) for encoder in encoders)


def test_the_learning_rate_is_constant_for_100_epochs_and_then_falls_to_0():
    cfg = read_config("mm_configs/enhancers/semi_llie_lsrw.py")
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2e-4)
    [scheduler] = [PARAM_SCHEDULERS.build(s, default_args={"optimizer": optimiser}) for s in cfg.param_scheduler]
    rates = []
    for _ in range(cfg.train_cfg.max_epochs + 1):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    assert rates == pytest.approx([2e-4] * 100 + [2e-4 * (1 - k / 100) for k in range(101)], abs=1e-12)


def pictures(folder, names, size=(40, 36), brightest=256):
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        pixels = np.random.default_rng(i).integers(0, brightest, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)


@pytest.fixture
def lsrw(tmp_path):
    """A folder with pictures in the layout of LSRW in ``lsrw``, and dark pictures in ``night``."""
    for split in ("Training data", "Eval"):
        for camera in ("Huawei", "Nikon"):
            for kind in ("low", "high"):
                pictures(tmp_path / "lsrw" / split / camera / kind, ["1.jpg", "2.jpg"])
    pictures(tmp_path / "night", [f"{i}.png" for i in range(4)], brightest=60)
    return tmp_path


def test_the_shipped_sets_of_visdrone_are_built(tmp_path):
    """Pairs are darkened day pictures, the same at each validation; unpaired pictures are those of the night list."""
    cfg = read_config("mm_configs/enhancers/semi_llie_visdrone.py")
    names = [f"{i}.jpg" for i in range(4)]
    pictures(tmp_path / "VisDrone2019-DET-train" / "images", names, size=(300, 320))
    for name, chosen in {"day_train": names[:2], "day_val": names[2:3], "night_train": names[3:]}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(chosen))
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    for dataset, name in ((train.paired, "day_train"), (train.unpaired, "night_train"), (val, "day_val")):
        dataset.update(root=str(tmp_path), names=str(tmp_path / f"{name}.txt"))
    train, val = DATASETS.build(train), DATASETS.build(val)
    train.check()
    sample = train[0]["data_samples"]
    assert Path(sample.unpaired_path).name == "3.jpg"
    assert Path(sample.img_path).name in names[:2]
    assert {sample.target.shape, sample.unpaired.shape, sample.strong.shape} == {(3, 256, 256)}
    draws = [list(DATA_SAMPLERS.build(cfg.val_dataloader.sampler, default_args={"dataset": val})) for _ in range(2)]
    first, second = (val[d[0]] for d in draws)
    assert torch.equal(first["inputs"], second["inputs"])
    assert first["inputs"].float().mean() < first["data_samples"].target.float().mean() / 1.5


@pytest.mark.slow
def test_the_shipped_config_trains_and_resumes(lsrw):
    """Only the network, the crops and the number of epochs are smaller than shipped."""
    cfg = changed("semi_llie_lsrw", UNET)
    root = {"root": str(lsrw / "lsrw")}
    crops = [{"size": 36}, {"size": 32}, {}]
    small = {"batch_size": 2, "num_workers": 0, "persistent_workers": False}
    cfg.merge_from_dict({"train_dataloader": small, "val_dataloader": {"num_workers": 0, "persistent_workers": False}})
    cfg.merge_from_dict({"train_dataloader.dataset.paired": root, "val_dataloader.dataset": root})
    for transform, size in zip(cfg.train_dataloader.dataset.paired.transforms, crops, strict=True):
        transform.update(size)
    cfg.train_dataloader.dataset.unpaired.update(folder=str(lsrw / "night"))
    cfg.train_dataloader.dataset.unpaired.transforms[0].size = 32
    cfg.model.discriminator.width = 8
    cfg.train_cfg.update(max_epochs=2, val_interval=2)
    cfg.dump(lsrw / "config.py")
    work = lsrw / "work"
    arguments = [str(lsrw / "config.py"), "--out", str(work)]
    assert main(["train", *arguments, "--cfg-options", "train_cfg.max_epochs=1"]) == 0
    first = {p.stem: p.read_bytes() for p in work.glob("*.safetensors")}
    assert main(["train", *arguments, "--resume"]) == 0
    second = {p.stem: p.read_bytes() for p in work.glob("*.safetensors")}
    assert set(first) == set(second) == {"enhancer", "student"}
    assert second["enhancer"] != second["student"]
    assert first["enhancer"] != second["enhancer"]
    assert read_run(work / "epoch_2.pth")["state_dict"]["updates"] == 4
