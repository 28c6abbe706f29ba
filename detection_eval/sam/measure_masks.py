"""SAM's masks for all rows of the table. They are made once, and measured on the pictures that succeed for all rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from llie_preproc import InferenceOptions, build_enhancer
from llie_preproc.pictures import picture_size, read_rgb8
from llie_preproc.segmentation import EnhancedImage, EnhancedSamAutomaticMaskGenerator, EnhancedSamPredictor

from ..metrics.masks import ItemScores, encode_masks, match_scores, prompt_scores, stability_scores
from ..shared.enhancers import NONE, Spec, identity_of, label_of, network_config
from ..shared.resume import digests_of, holds_files, reason, require_resume, require_some
from .kept_masks import Found, Kept
from .prompted_pictures import PictureSet
from .sam_choice import SamChoice

AUTOMATIC, BOXES = "automatic", "boxes"
REFERENCE = "reference"

# Number of masks that are decoded at once. It is small, because each needs four bytes for each pixel of the picture.
_PROMPTS = 16


@dataclass(frozen=True)
class Request:
    """Settings of a measurement.

    Attributes:
        pictures: Pictures with their references and prompts.
        sam: Model.
        generator: Parameters of automatic masks (:func:`detection_eval.sam.sam_choice.generator_parameters`).
        oversize: Treatment of pictures that are larger than SAM's input (:mod:`llie_preproc.segmentation`).
        enhancers: Labels in the order of the rows, ``'none'`` for raw.
        specs: Descriptions of the other enhancers (:func:`detection_eval.shared.enhancers.enhancer_specs`), by label.
        folder: Folder for all results.
        options: Options that the enhancers run with.
        resume: Whether to keep the masks of an earlier run in the folder, and to make only the others.
    """

    pictures: PictureSet
    sam: SamChoice
    generator: Mapping[str, Any]
    oversize: str
    enhancers: Sequence[str]
    specs: Mapping[str, Spec]
    folder: Path
    options: InferenceOptions = InferenceOptions()  # noqa: RUF009  (it is frozen)
    resume: bool = False

    @property
    def tasks(self) -> list[str]:
        """Tasks of each row: automatic masks, box prompts, or both."""
        asked = {AUTOMATIC: self.pictures.references, BOXES: self.pictures.prompts}
        return [task for task, given in asked.items() if given is not None]

    @property
    def looks(self) -> list[list[Stage]]:
        """Stages grouped by enhancer: the masks of the references, then the masks of each row."""
        references = [[Stage(REFERENCE, NONE)]] if self.pictures.references is not None else []
        return references + [[Stage(task, label) for task in self.tasks] for label in self.enhancers]

    @property
    def masks(self) -> Path:
        """Folder of the kept masks."""
        return self.folder / "kept"

    def kept(self, stage: Stage, sam_made_with: Mapping[str, Any]) -> Kept:
        """Return the folder of kept masks of a stage."""
        own = identity_of(None if stage.enhancer == NONE else self.specs[stage.enhancer])
        made_with = dict(sam_made_with, oversize=self.oversize, **own)
        if stage.task != BOXES:
            made_with["generator"] = dict(self.generator)
        folder = self.masks / stage.task
        return Kept(folder if stage.task == REFERENCE else folder / stage.enhancer, made_with)


class Stage(NamedTuple):
    """Masks that are kept together: those of one task and one enhancer."""

    task: str
    enhancer: str


@dataclass
class Result:
    """Result of a measurement.

    Attributes:
        names: Names of the pictures that were measured, the same for all rows.
        found: Masks in the raw frame, by stage and name.
        items: Values for each reference mask or prompt, by enhancer, picture and score.
        scores: Scores by enhancer.
        sam: Description of the SAM model, in words.
        failed: Message for each picture that is left out.
    """

    names: list[str]
    found: Mapping[Stage, Mapping[str, Found]]
    items: dict[str, dict[str, dict[str, np.ndarray]]]
    scores: dict[str, ItemScores]
    sam: str
    failed: list[str] = field(default_factory=list)


class Looker:
    """SAM behind an enhancer.

    Args:
        sam: Model of segment-anything.
        spec: Description of the enhancer; None for raw.
        request: Settings of the measurement.
    """

    def __init__(self, sam: Any, spec: Spec | None, request: Request) -> None:
        enhancer = build_enhancer("Identity" if spec is None else network_config(spec), device=request.sam.device)
        options = {} if spec is None else request.options.keywords()
        self.predictor = EnhancedSamPredictor(sam, enhancer, oversize=request.oversize, **options)
        self._generator = EnhancedSamAutomaticMaskGenerator(
            sam, enhancer, oversize=request.oversize, output_mode="coco_rle", **request.generator, **options
        )

    def everything(self, seen: EnhancedImage) -> Found:
        """Make automatic masks."""
        # If its threshold of stability is 0, SAM also gives empty masks. They match nothing, not even themselves.
        records = [each for each in self._generator.generate(seen) if each["area"]]
        scores = np.array([[each["predicted_iou"], each["stability_score"]] for each in records]).reshape(-1, 2)
        return Found(encode_masks([each["segmentation"] for each in records]), *scores.T)

    @torch.no_grad()
    def prompted(self, seen: EnhancedImage, boxes: np.ndarray) -> Found:
        """Make a mask for each box ``(n, 4)`` left, top, width, height in the raw frame."""
        if not len(boxes):
            return Found([], np.zeros(0), np.zeros(0))
        self.predictor.set_image(seen)
        corners = torch.from_numpy(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)).float()
        asked = self.predictor.transform.apply_boxes_torch(corners, seen.shape[:2]).to(self.predictor.device)
        parts = [self._decoded(asked[i : i + _PROMPTS]) for i in range(0, len(asked), _PROMPTS)]
        self.predictor.reset_image()
        masks = [mask for part in parts for mask in part.masks]
        return Found(masks, *(np.concatenate(each) for each in zip(*(part[1:] for part in parts), strict=True)))

    def _decoded(self, boxes: torch.Tensor) -> Found:
        logits, predicted, _ = self.predictor.predict_torch(
            None, None, boxes, multimask_output=False, return_logits=True
        )
        levels, threshold = logits[:, 0].float().cpu().numpy(), self.predictor.model.mask_threshold
        return Found(
            encode_masks(levels > threshold),
            predicted[:, 0].double().cpu().numpy(),
            stability_scores(levels, threshold),
        )


def measure(request: Request) -> Result:
    """Make the masks that are not on disk yet, and measure all masks.

    Raises:
        ValueError: The folder has masks of an earlier run and ``resume`` is false, kept masks were made with other
            settings or are damaged, or no picture could be processed.
        OSError: The folder cannot be written to.
        CheckpointError, FileNotFoundError: SAM cannot be built.
    """
    require_resume(request.folder, holds_files(request.masks), request.resume)
    sam = request.sam.build()
    work = _Work(request, sam)
    # A folder that cannot be written to must fail now, not after hours of work.
    request.masks.mkdir(parents=True, exist_ok=True)
    for stages in request.looks:
        work.look(stages)
    names = [name for name in request.pictures.files if name not in work.failed]
    require_some(names, len(request.pictures.files), work.failed)
    found = {stage: {name: masks[name] for name in names} for stage, masks in work.found.items()}
    items = {label: {name: _items(request, found, label, name) for name in names} for label in request.enhancers}
    scores = {label: ItemScores(each) for label, each in items.items()}
    failed = [*work.failed.values(), *request.pictures.problems]
    return Result(names, found, items, scores, request.sam.described(sam), failed)


class _Work:
    """Masks that exist so far.

    Attributes:
        found: Masks by stage and picture.
        failed: Reason why a picture failed, by name. A failed picture is left out of all later stages.

    Raises:
        ValueError: Kept masks were made with other settings, or are damaged.
    """

    def __init__(self, request: Request, sam: Any) -> None:
        self.request, self.pictures, self.sam = request, request.pictures, sam
        self.digests, self.failed = digests_of(self.pictures.files)
        references = {} if self.pictures.references is None else self.pictures.references
        self.reference_digests, failed = digests_of({name: references[name] for name in self.digests if references})
        self.failed |= failed
        self._require_frames()
        made_with = request.sam.made_with(sam)
        self.kept = {stage: request.kept(stage, made_with) for stages in request.looks for stage in stages}
        self.found = {stage: self._found(stage) for stage in self.kept}

    def look(self, stages: Sequence[Stage]) -> None:
        """Make and keep the missing masks of stages that have the same enhancer."""
        lacking = {name: [s for s in stages if name not in self.found[s]] for name in self._open()}
        lacking = {name: each for name, each in lacking.items() if each}
        if not lacking:
            return
        enhancer = stages[0].enhancer
        looker = Looker(self.sam, self.request.specs.get(enhancer), self.request)
        title = REFERENCE if stages[0].task == REFERENCE else label_of(enhancer)
        for name, missing in tqdm(lacking.items(), desc=title, unit="picture"):
            try:
                made = self._made(looker, name, missing)
            # Networks raise these for pictures that are too small, or too large for them or for the memory.
            except (OSError, ValueError, RuntimeError) as error:
                self.failed[name] = reason(self.pictures.files[name], error)
                continue
            for stage, masks in made.items():
                self.found[stage][name] = masks
                self.kept[stage].write(name, self._made_of(stage, name), masks)

    def _require_frames(self) -> None:
        """Check the frames of prompts, whose annotations may have changed since masks were kept."""
        prompts = self.pictures.prompts or {}
        for name in self._open() if prompts else ():
            path = self.pictures.files[name]
            try:
                width, height = picture_size(path)
                prompts[name].require_frame((height, width))
            except (OSError, ValueError) as error:
                self.failed[name] = reason(path, error)

    def _found(self, stage: Stage) -> dict[str, Found]:
        """Read the kept masks of a stage."""
        masks = {name: self.kept[stage].read(name, self._made_of(stage, name)) for name in self._open()}
        return {name: each for name, each in masks.items() if each is not None}

    def _open(self) -> list[str]:
        return [name for name in self.pictures.files if name not in self.failed]

    def _made_of(self, stage: Stage, name: str) -> dict[str, Any]:
        made_of: dict[str, Any] = dict(picture=self.digests[name])
        if stage.task == REFERENCE:
            made_of["reference"] = self.reference_digests[name]
        if stage.task == BOXES:
            made_of["boxes"] = (self.pictures.prompts or {})[name].boxes.tolist()
        return made_of

    def _made(self, looker: Looker, name: str, stages: Sequence[Stage]) -> dict[Stage, Found]:
        path = self.pictures.files[name]
        if stages[0].task == REFERENCE:
            seen = read_reference((self.pictures.references or {})[name], picture_size(path))
            return {stages[0]: looker.everything(seen)}
        image = read_rgb8(path)
        prompts = (self.pictures.prompts or {}).get(name)
        seen = looker.predictor.enhance(image)
        return {
            stage: looker.everything(seen) if prompts is None or stage.task == AUTOMATIC
            else looker.prompted(seen, prompts.boxes)
            for stage in stages
        }  # fmt: skip


def read_reference(path: Path, size: tuple[int, int]) -> EnhancedImage:
    """Read a reference picture. Its masks will be given in the frame of the raw picture.

    Args:
        path: File of the reference.
        size: Width and height of the raw picture. Those of the reference must be a whole multiple of them.

    Raises:
        OSError, ImageError: The file cannot be read.
        ValueError: The reference has another size.
    """
    pixels = read_rgb8(path)
    height, width = pixels.shape[:2]
    scale = width // size[0]
    if scale < 1 or (width, height) != (scale * size[0], scale * size[1]):
        raise ValueError(
            f"the reference {path} has {width}x{height} pixels, expected the picture's {size[0]}x{size[1]} or a whole "
            "multiple of both sides"
        )
    return EnhancedImage(pixels, scale)


def _items(
    request: Request, found: Mapping[Stage, Mapping[str, Found]], label: str, name: str
) -> dict[str, np.ndarray]:
    """Score each reference mask or prompt of a picture, by the names of the scores."""
    items: dict[str, np.ndarray] = {}
    if request.pictures.references is not None:
        items |= match_scores(found[Stage(AUTOMATIC, label)][name].masks, found[Stage(REFERENCE, NONE)][name].masks)
    if request.pictures.prompts is not None:
        prompts, masks = request.pictures.prompts[name], found[Stage(BOXES, label)][name]
        items |= prompt_scores(masks.masks, prompts.boxes, masks.predicted_iou, masks.stability_score, prompts.masks)
    return items
