"""A check that each model family of the installed MMDetection runs behind an enhancer if it runs without one.

``python -m benchmarks.mmdet_zoo [--families F ...] [--enhancer psenet] [--out FILE] [--jobs N] [--timeout S]``
``python -m benchmarks.mmdet_zoo --table FILE``

A family is a folder of configs that MMDetection ships. In each family, the check takes the lightest config that runs,
and gives it random weights and fewer proposals and queries. The model is built and goes through loss, backward and
predict on a generated batch of 128 x 160 pixels. The batch has what the model needs: boxes, masks, segmentation maps,
clips, or the branches of semi-supervised training. The detection losses must give every parameter of a trainable
enhancer a finite gradient that is not zero.

Each family runs in a separate process. The file of ``--out`` is written after each family. Its rows of families that
are not in ``--families`` stay as they are. ``--table`` prints the result in such a file as a page.
"""

from __future__ import annotations

from llie_preproc.commands.program import launch, raise_if_interrupted

if __name__ == "__main__":
    launch("benchmarks.mmdet_zoo")

import argparse
import contextlib
import copy
import io
import json
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import mmdet
import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

# This import must come before mmdet's models: it provides a stand-in for mmcv's operators if those are not compiled.
import llie_preproc  # noqa: F401
from llie_preproc.config_nodes import nodes
from llie_preproc.enhancers.names import enhancer_config
from llie_preproc.files import write_text
from llie_preproc.mm import finder
from llie_preproc.safe_loading import safe_loading

from .timing import machine

CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"
SIZE = (128, 160)
STAGES = ("build", "loss", "backward", "predict")
_OK = "ok"
# At most _TRIES configs of a family are tried. The search ends earlier after _FAULTS different errors.
_TRIES, _FAULTS = 6, 3
_REFUSED = re.compile(r"mmcv's operator '(\w+)' is not compiled")
_HEAVY = re.compile(r"101|152|200|x50|swin|convnext|[-_](l|x|b|m|h\d\d)[-_]|(large|huge|giant)")
_LIGHT = re.compile(r"r18|r34|tiny|nano|mobilenet|[-_](s|t)[-_]|pvt-t|400MF|w18")


def families() -> list[str]:
    """The names of the folders of configs."""
    return sorted(folder.name for folder in CONFIGS.iterdir() if folder.is_dir())


def candidates(family: str) -> list[Path]:
    """The configs of a family, sorted: first those named after the family, and the lighter models before the others."""
    folder = CONFIGS / family / ("models" if family == "_base_" else "")
    found = [*folder.glob("*.py")] or [*folder.rglob("*.py")]
    return sorted(found, key=lambda p: (_plain(family) not in _plain(p.name), _weight(p.name), len(p.name), p.name))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _weight(name: str) -> int:
    return len(_HEAVY.findall(name)) - len(_LIGHT.findall(name))


def shrunk(model: Mapping) -> dict:
    """The model of a config, changed so that it downloads nothing, runs cheaply, and keeps detections of any score."""
    model = copy.deepcopy(model)
    for node in nodes(model):
        for key in ("pretrained", "init_cfg", "teacher_ckpt"):
            if key in node and (key != "init_cfg" or _downloads(node[key])):
                node[key] = None
        if isinstance(node.get("teacher_config"), str):
            node["teacher_config"] = str(CONFIGS / node["teacher_config"].removeprefix("configs/"))
        if str(node.get("type", "")).endswith("SyncBN"):
            node["type"] = "BN"
        if node.get("type") == "BatchFixedSizePad":
            node["size"] = SIZE
        for key, most in (
            ("num_query", 20), ("num_queries", 20), ("num_proposals", 20), ("nms_pre", 100), ("max_per_img", 20),
            ("depth", 50 if "ResNe" in str(node.get("type")) else 1000),
        ):  # fmt: skip
            if isinstance(node.get(key), int) and node[key] > most:
                node[key] = most
        if isinstance(node.get("score_thr"), float):
            node["score_thr"] = 0.0
        if node.get("neck") and node.get("backbone"):
            _make_shallower(node["backbone"], node["neck"])
    return model


def _make_shallower(backbone: dict, neck: Any) -> None:
    """Replace ResNet-50 by ResNet-18 if a plain feature pyramid follows and no block needs a bottleneck."""
    first = neck[0] if isinstance(neck, list) else neck
    plain = backbone["type"] == "ResNet" and backbone.get("depth") == 50 and first["type"] == "FPN"
    if plain and first["in_channels"] == [256, 512, 1024, 2048] and not ({"dcn", "plugins"} & set(backbone)):
        backbone["depth"], first["in_channels"] = 18, [64, 128, 256, 512]


def _downloads(init: Any) -> bool:
    return any(isinstance(i, Mapping) and i.get("checkpoint") for i in (init if isinstance(init, list) else [init]))


def made_batch(model: Mapping, training: bool) -> dict[str, Any]:
    """Raw inputs and samples, as a pipeline packs them for the model's data preprocessor."""
    preprocessor = model.get("data_preprocessor") or {}
    kind = preprocessor.get("type", "")
    if kind == "MultiBranchDataPreprocessor" and training:
        return _branches(model)
    if kind == "TrackDataPreprocessor" and not (training and preprocessor.get("use_det_processor")):
        return _clip(model)
    if kind == "ReIDDataPreprocessor":
        return _identities()
    made = [_picture(model, seed) for seed in range(2 if training else 1)]
    return {"inputs": [image for image, _ in made], "data_samples": [sample for _, sample in made]}


def _picture(model: Mapping, seed: int) -> tuple[Tensor, Any]:
    """A dark uint8 ``(3, H, W)`` image of two objects, and its sample."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    rng = np.random.default_rng(seed)
    height, width = SIZE
    corners = np.array([[10, 12, 74, 92], [60, 40, 140, 120]]) + 2 * seed
    masks = np.zeros((2, height, width), np.uint8)
    image = rng.integers(5, 40, (3, height, width), dtype=np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, corners, strict=True):
        mask[y1:y2, x1:x2] = 1
        image[:, y1:y2, x1:x2] += rng.integers(20, 90, (3, 1, 1), dtype=np.uint8)
    classes = min([n["num_classes"] for n in nodes(model) if isinstance(n.get("num_classes"), int)], default=1)
    shape = dict(img_shape=SIZE, ori_shape=SIZE, scale_factor=(1.0, 1.0), img_id=seed, img_path="", flip=False)
    sample = DetDataSample(metainfo=shape | dict(homography_matrix=np.eye(3, dtype=np.float32)))
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(torch.from_numpy(corners).float()),
        labels=torch.tensor([0, min(1, max(classes, 1) - 1)]),
        masks=BitmapMasks(masks, height, width),
    )
    sample.ignored_instances = InstanceData(bboxes=HorizontalBoxes(torch.zeros(0, 4)), labels=torch.zeros(0).long())
    # Hybrid task cascade needs the segmentation at the stride of its features.
    stride = 8 if any(n.get("type") == "FusedSemanticHead" for n in nodes(model)) else 1
    sample.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(masks[:1, ::stride, ::stride].copy()))
    if model["type"] == "FastRCNN":
        boxes = torch.from_numpy(corners).float()
        sample.proposals = InstanceData(bboxes=torch.cat([boxes, boxes + 5]), scores=torch.ones(4))
    if "language_model" in model or "lang_model_name" in str(model.get("bbox_head")):
        sample.set_metainfo(dict(text=("person", "car"), custom_entities=True))
    return torch.from_numpy(image), sample


def _branches(model: Mapping) -> dict[str, Any]:
    """A batch of semi-supervised training: one labelled picture, and two without labels for teacher and student."""
    (labelled, truth), *others = (_picture(model, seed) for seed in range(3))
    for _, sample in others:
        sample.gt_instances = sample.gt_instances[:0]
    pictures = {
        "sup": [labelled, None, None],
        "unsup_teacher": [None, *(image for image, _ in others)],
        "unsup_student": [None, *(image for image, _ in others)],
    }
    samples = {
        "sup": [truth, None, None],
        "unsup_teacher": [None, *(sample for _, sample in others)],
        "unsup_student": [None, *(copy.deepcopy(sample) for _, sample in others)],
    }
    return {"inputs": pictures, "data_samples": samples}


def _clip(model: Mapping) -> dict[str, Any]:
    """A batch of tracking: a key frame and a reference frame with the same two objects."""
    from mmdet.structures import TrackDataSample

    frames = [_picture(model, seed) for seed in range(2)]
    for i, (_, sample) in enumerate(frames):
        sample.set_metainfo(dict(frame_id=i, video_id=0, video_length=2, ori_video_length=2))
        sample.gt_instances.instances_ids = torch.tensor([0, 1])
        # Pipelines for clips pack plain tensors.
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.tensor
        sample.ignored_instances.bboxes = sample.ignored_instances.bboxes.tensor
    track = TrackDataSample(metainfo=dict(key_frames_inds=[0], ref_frames_inds=[1]))
    track.video_data_samples = [sample for _, sample in frames]
    return {"inputs": [torch.stack([image for image, _ in frames])], "data_samples": [track]}


def _identities() -> dict[str, Any]:
    """A batch of re-identification: crops, each with the label of its person."""
    from mmdet.structures import ReIDDataSample

    crops = torch.randint(0, 90, (4, 3, 64, 32), dtype=torch.uint8)
    samples = [ReIDDataSample(metainfo=dict(img_shape=(64, 32), ori_shape=(64, 32))) for _ in crops]
    for i, sample in enumerate(samples):
        sample.set_gt_label(i // 2)
    return {"inputs": list(crops), "data_samples": samples}


def attempt(model: Mapping, batches: Mapping[str, dict]) -> dict[str, str]:
    """Run a model through the stages.

    Args:
        model: Config of a detector.
        batches: Batches of the data loaders ``'train'`` and ``'test'``.

    Returns:
        ``'ok'``, or the error in one line, for each of :data:`STAGES` that was reached.
    """
    outcome: dict[str, str] = {}
    state: dict[str, Any] = {}
    # Some heads and augmentations ask the runner for the iteration or the epoch.
    for name in ("iter", "epoch"):
        MessageHub.get_current_instance().update_info(name, 1)

    def stage(name: str, run: Callable[[], None]) -> bool:
        try:
            run()
        except Exception as error:
            outcome[name] = _line(error)
        else:
            outcome[name] = _OK
        return outcome[name] == _OK

    def build() -> None:
        from mmdet.registry import MODELS

        torch.manual_seed(0)
        with safe_loading():
            detector = MODELS.build(copy.deepcopy(model))
            detector.init_weights()
        with torch.no_grad():
            for name, parameter in detector.named_parameters():
                # In QueryInst six stages of random steps would end outside the picture, where no mask can be pasted.
                if "fc_reg" in name:
                    parameter.mul_(0.01)
        state["detector"] = detector

    def loss() -> None:
        detector = state["detector"]
        # This is a statement of its own, because the train() of some detectors returns None.
        detector.train()
        data = detector.data_preprocessor(copy.deepcopy(batches["train"]), True)
        state["loss"], _ = detector.parse_losses(detector(**data, mode="loss"))
        if not torch.isfinite(state["loss"]):
            raise ValueError(f"the loss is {state['loss'].item()}")

    def backward() -> None:
        state.pop("loss").backward()
        enhancer = getattr(state["detector"], "enhancer", None)
        if isinstance(enhancer, nn.Module):
            check_gradients(enhancer)

    def predict() -> None:
        state["detector"].eval()
        with torch.no_grad():
            found = state["detector"].test_step(copy.deepcopy(batches["test"]))
        if len(found) != len(batches["test"]["inputs"]):
            raise ValueError(f"{len(found)} predictions for {len(batches['test']['inputs'])} inputs")

    if stage("build", build):
        if stage("loss", loss):
            stage("backward", backward)
        stage("predict", predict)
    return outcome


def check_gradients(module: nn.Module) -> None:
    """Check that the last backward pass reached every parameter.

    Raises:
        ValueError: A gradient is missing, zero or not finite; the message names its parameter.
    """
    for name, parameter in module.named_parameters():
        gradient = parameter.grad
        if gradient is None or not gradient.any():
            raise ValueError(f"no gradient reaches the enhancer's {name}")
        if not gradient.isfinite().all():
            raise ValueError(f"the gradient of the enhancer's {name} is not finite")


def examine(family: str, enhancer: str) -> dict[str, Any]:
    """The row of a family: the config that passes most stages when plain, and its outcomes plain and enhanced."""
    best: tuple[int, Path, Config, dict[str, str]] | None = None
    reasons: list[str] = []
    for path in candidates(family)[:_TRIES]:
        try:
            cfg = load(path)
        except Exception as error:
            reasons.append(_line(error))
            continue
        if "model" not in cfg:
            continue
        plain = attempt(cfg.model, _batches(cfg.model))
        reasons += [v for v in plain.values() if v != _OK]
        passed = sum(v == _OK for v in plain.values())
        if best is None or passed > best[0]:
            best = (passed, path, cfg, plain)
        if passed == len(STAGES) or len(set(reasons)) >= _FAULTS:
            break
    refused = {name for reason in reasons for name in _REFUSED.findall(reason)}
    if best is None:
        reason = reasons[0] if reasons else "no config of a model: settings that others include"
        return dict(family=family, config=None, plain={}, enhanced={}, refused=sorted(refused), reason=reason)
    _, path, cfg, plain = best
    enhanced = attempt(_enhanced(cfg, enhancer), _batches(cfg.model)) if plain["build"] == _OK else {}
    refused |= {name for reason in enhanced.values() for name in _REFUSED.findall(reason)}
    config = path.relative_to(CONFIGS).as_posix()
    reason = next((v for v in [*plain.values(), *enhanced.values()] if v != _OK), "")
    return dict(family=family, config=config, plain=plain, enhanced=enhanced, refused=sorted(refused), reason=reason)


def load(path: Path) -> Config:
    """Read a config, make its model cheap by :func:`shrunk`, and put the data preprocessor into the model."""
    cfg = Config.fromfile(path)
    if "model" in cfg:
        if "data_preprocessor" in cfg:
            cfg.model.setdefault("data_preprocessor", cfg.data_preprocessor)
        cfg.model = shrunk(cfg.model)
    return cfg


def _enhanced(cfg: Config, enhancer: str) -> Mapping:
    from llie_preproc.detection import add_enhancer

    spec = enhancer_config(enhancer)
    return add_enhancer(Config(dict(model=cfg.model)), spec, door="detector", trainable=True).model


def _batches(model: Mapping) -> dict[str, dict]:
    return {"train": made_batch(model, training=True), "test": made_batch(model, training=False)}


def _line(error: BaseException) -> str:
    """The error in one line, without the folders of this machine."""
    said = str(error) or traceback.extract_tb(error.__traceback__)[-1].line
    text = " ".join(f"{type(error).__name__}: {said}".split())
    # After this phrase comes the list of folders that Python searches.
    text = text.partition(", the current sys.path is")[0]
    for folder, name in ((CONFIGS.parents[1], "mmdet"), (Path.cwd(), "."), (Path.home(), "~")):
        text = text.replace(str(folder), name)
    return text if len(text) <= 200 else text[:199] + "…"


def _child(sender: Connection, family: str, enhancer: str) -> None:
    from mmdet.utils import register_all_modules

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        register_all_modules()
        row = examine(family, enhancer)
    sender.send(row)


def run_family(family: str, enhancer: str = "psenet", timeout: float = 180.0) -> dict[str, Any]:
    """The row of a family, computed in a separate process. If the process dies, the row says why."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["llie_preproc.detection", "mmdet.models", "mmdet.datasets"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, family, enhancer), daemon=True)
    process.start()
    sender.close()
    reason = f"no answer within {timeout:g} s"
    try:
        if receiver.poll(timeout):
            return receiver.recv()
    except EOFError:
        # Ctrl-C in a terminal ends the child as well.
        raise_if_interrupted()
        process.join(timeout)
        reason = f"the process ended with status {process.exitcode}"
    finally:
        process.kill()
        process.join()
    return dict(family=family, config=None, plain={}, enhanced={}, refused=[], reason=reason)


def runs(outcome: Mapping[str, str]) -> bool:
    """Whether every stage is ``'ok'``."""
    return all(outcome.get(stage) == _OK for stage in STAGES)


def table(result: Mapping[str, Any]) -> str:
    """The page of a result: the counts, then a row for each family."""
    rows = result["rows"]
    plain, both = [r for r in rows if runs(r["plain"])], [r for r in rows if runs(r["plain"]) and runs(r["enhanced"])]
    wanting = [r for r in rows if r["refused"] and r not in plain]
    passed_over = [r for r in plain if r["refused"]]
    operators = "those of llie_preproc's stand-in" if result["stand_in"] else "compiled"
    lines = [
        "# MMDetection's zoo behind an enhancer",
        "",
        "This page says which detectors of MMDetection run behind an enhancer. It has one config of every family that "
        f"the installed MMDetection ships, with random weights, on generated pictures of {SIZE[0]} x {SIZE[1]} pixels. "
        f"Each config goes through build, loss, backward and predict, plain and behind `{result['enhancer']}` "
        '(`add_enhancer(cfg, enhancer, door="detector", trainable=True)`). For an enhanced config, *runs* also says '
        "that the detection losses gave every parameter of the enhancer a finite gradient that is not zero.",
        "",
        f"The table is of MMDetection {result['mmdet']} on {result['machine']}. mmcv's operators are {operators}. "
        "These commands measure it and print this page:",
        "",
        "```sh",
        "python -m benchmarks.mmdet_zoo --out FILE",
        "python -m benchmarks.mmdet_zoo --table FILE",
        "```",
        "",
        "| | families |",
        "|---|---:|",
        f"| config folders | {len(rows)} |",
        f"| run plain | {len(plain)} |",
        f"| of these run enhanced | {len(both)} |",
        "",
        f"Families that do not run because an mmcv operator is missing: {_list(wanting)}. Families of which one config "
        f"needs a missing operator and another one runs: {_list(passed_over)}.",
        "",
        "| family | config | plain | enhanced | reason |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(_row, rows)]) + "\n"


def _list(refused: list[dict]) -> str:
    return "; ".join(f"{r['family']} ({', '.join(f'`{n}`' for n in r['refused'])})" for r in refused) or "none"


def _row(row: Mapping[str, Any]) -> str:
    config = f"`{row['config']}`" if row["config"] else ""
    reason = row["reason"].replace("|", "\\|").replace("<", "\\<")
    return f"| {row['family']} | {config} | {_verdict(row['plain'])} | {_verdict(row['enhanced'])} | {reason} |"


def _verdict(outcome: Mapping[str, str]) -> str:
    failed = [stage for stage in STAGES if outcome.get(stage, _OK) != _OK]
    return "runs" if runs(outcome) else f"no {', '.join(failed)}" if failed else "–"


def main() -> None:
    """Run the families, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", metavar="F", help="families to run; by default all")
    parser.add_argument("--enhancer", default="psenet")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--jobs", type=int, default=1, help="number of families that run at a time")
    parser.add_argument("--timeout", type=float, default=180.0, help="seconds that a family may take")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the page of this JSON file")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.table.read_text())), end="")
        return
    known = families()
    if unknown := set(args.families or ()) - set(known):
        parser.error(f"unknown families {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    done = json.loads(args.out.read_text())["rows"] if args.out and args.out.exists() else []
    rows = {row["family"]: row for row in done}
    about = dict(
        enhancer=args.enhancer,
        mmdet=mmdet.__version__,
        stand_in=finder.is_stand_in(),
        machine=machine(torch.device("cpu")),
    )
    with ThreadPoolExecutor(args.jobs) as pool, _without_the_rest(pool):
        todo = args.families or known
        for row in pool.map(lambda family: run_family(family, args.enhancer, args.timeout), todo):
            rows[row["family"]] = row
            print(f"{row['family']}: plain {_verdict(row['plain'])}, enhanced {_verdict(row['enhanced'])}", flush=True)
            if args.out:
                ordered = [rows[family] for family in sorted(rows)]
                write_text(args.out, json.dumps(dict(about, rows=ordered), indent=1, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def _without_the_rest(pool: ThreadPoolExecutor) -> Iterator[None]:
    """When the user interrupts, cancel the families that have not begun."""
    try:
        yield
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
