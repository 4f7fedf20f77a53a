"""ARMBench's segmentation splits as samples for the detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS
from mmengine.structures import InstanceData
from numpy.typing import NDArray

from robollm.core.errors import ConfigError, FrameError
from robollm.data.armbench_instances import ImageRecord, Instance, read_instances
from robollm.data.armbench_segmentation import MIX, ROOT, SUBSETS
from robollm.data.images import read_image
from robollm.data.problems import Problem
from robollm.metrics.rle import exact_rle
from robollm.train.detector import ops
from robollm.train.detector.mixing import Mixer, Picture
from robollm.train.detector.paste import MIX_OPTIONS, Mix, Part
from robollm.train.detector.tote_view import Jitter, Pixels, letterbox
from robollm.train.engine.draws import Sample, TaskData

ops.prepare()
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402

CLASSES = {
    "agnostic": {"tote": 0, "object": 0, "other": 0},
    "two": {"tote": 0, "object": 1},
    "object": {"object": 0},
}
"""How categories become labels. RoboLLM's code is "agnostic" and takes every category; ARMBench's
devkit counts "two"."""
KNOWN, OTHER = ("tote", "object"), "other"
_REDRAWS = 5
MASKS = {"polygons": "{}.json", "rle": "{}-rle.json"}


def class_count(classes: str) -> int:
    """How many classes a model for `classes` tells apart.

    Raises:
        ConfigError: for another key than those of `CLASSES`.
    """
    if classes not in CLASSES:
        raise ConfigError(f"classes is {classes!r}, want one of {', '.join(CLASSES)}")
    return max(CLASSES[classes].values()) + 1


@DATASETS.register_module()
class ToteData(TaskData):
    """Totes with the masks of what lies in them.

    A sample's `inputs` are (3, height, width) uint8 RGB; its `data_samples` a `DetDataSample`: in
    training with `gt_instances` and `ignored_instances` on the canvas, in evaluation with
    `instances` (metainfo): the truth in source px, which `InstanceMetric` reads.

    Args:
        data_root: folder that holds `armbench-segmentation-0.1`, or that folder.
        subset: one or several of ARMBench's subsets. The published numbers of the two transfer
            sets are zero-shot, from training on mix-object-tote alone.
        split: "train", "val" or "test".
        masks: "polygons" (`SPLIT.json`, ARMBench's own) or "rle" (`SPLIT-rle.json`, exact).
        classes: a key of `CLASSES`.
        names: which of the file's categories are "tote" and "object", for example {"Item":
            "object"}; Tote and Object are so anyway. Case doesn't matter. Other categories are
            noted (`unknown_category`): "agnostic" uses them, "two" and "object" leave them out.
        canvas_hw: (height, width) of the model's input, px.
        jitter: settings of `Jitter` beside the canvas, and of `Mix`; None: training sees the
            letterbox.
        min_area: smaller masks are ignored, in training and evaluation, source px.
        min_visible: what is smaller than this after the jitter is ignored, canvas px.
        fraction: share of the images to use, the same for the same `choice_seed`.
        limit: at most so many images; 0: all.
        choice_seed: of that choice.
        seed: of the augmentations.

    Raises:
        ConfigError: for a setting out of range, a missing file, or nothing usable; if a class has
            no instance, while there are categories of other names.
    """

    def __init__(
        self,
        data_root: str,
        subset: str | Sequence[str] = MIX,
        split: str = "train",
        *,
        masks: str = "polygons",
        classes: str = "agnostic",
        names: Mapping[str, str] | None = None,
        canvas_hw: Sequence[int] = (1024, 1024),
        jitter: Mapping[str, Any] | None = None,
        min_area: float = 0.0,
        min_visible: float = 16.0,
        fraction: float = 1.0,
        limit: int = 0,
        choice_seed: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__("segmentation", seed)
        subsets = [subset] if isinstance(subset, str) else list(subset)
        if masks not in MASKS or not subsets or not set(subsets) <= set(SUBSETS):
            raise ConfigError(
                f"masks {masks!r}, subset {subset!r}; want masks of {', '.join(MASKS)}, subset of "
                f"{', '.join(SUBSETS)}",
                fix="correct the dataset's settings",
            )
        if not 0 < fraction <= 1 or limit < 0 or len(canvas_hw) != 2 or min(canvas_hw) < 32:
            raise ConfigError(
                f"fraction {fraction}, limit {limit}, canvas_hw {tuple(canvas_hw)}; want a share "
                "in (0, 1], a count, and two sides of 32 px and more",
                fix="correct the dataset's settings",
            )
        class_count(classes)
        self.classes, self._labels = classes, CLASSES[classes]
        if not set((names or {}).values()) <= set(KNOWN):
            raise ConfigError(f"names are {dict(names or {})}, want {' or '.join(KNOWN)} for each")
        self._names = {name: name for name in KNOWN}
        self._names |= {name.lower(): kind for name, kind in (names or {}).items()}
        self.canvas_hw = (int(canvas_hw[0]), int(canvas_hw[1]))
        options = dict(jitter or {"scale": (1, 1), "flip": 0.0})
        mix = {name: options.pop(name) for name in MIX_OPTIONS if name in options}
        self._jitter = Jitter(self.canvas_hw, **options)
        self._min_area = min_area
        self._mixer = Mixer(
            Mix(**mix),
            self.canvas_hw,
            category=self._category,
            labels=self._labels,
            min_area=min_area,
            min_visible=min_visible,
        )
        root = Path(data_root) / ROOT
        root = root if root.is_dir() else Path(data_root)
        missing = [one for one in subsets if not (root / one).is_dir()]
        if missing:
            raise ConfigError(
                f"{root} has no {', '.join(missing)}, want {ROOT} or a folder that holds it",
                fix="give another data folder, or the subsets that you have",
            )
        records: list[ImageRecord] = []
        for one in subsets:
            records += read_instances(root / one / MASKS[masks].format(split), self.problems)
        self._check_names(records, f"{root}, {', '.join(subsets)}, {split}")
        self.records = self._chosen(records, fraction, limit, choice_seed)
        self.problems.refuse_if_empty(
            len(self.records), f"{root}, {', '.join(subsets)}, {split}", "check the folder"
        )
        self._name_unknown()

    def _chosen(
        self, records: list[ImageRecord], fraction: float, limit: int, seed: int
    ) -> list[ImageRecord]:
        count = max(1, round(len(records) * fraction)) if records else 0
        count = min(count, limit or count)
        order = np.random.default_rng([seed, 2]).permutation(len(records))[:count]
        return [records[i] for i in sorted(order)]

    def _category(self, one: Instance) -> str:
        return self._names.get(one.category.lower(), OTHER)

    def _check_names(self, records: list[ImageRecord], where: str) -> None:
        seen = {one.category for record in records for one in record.instances}
        other = sorted(name for name in seen if name.lower() not in self._names)
        have = {self._names.get(name.lower()) for name in seen}
        lost = [kind for kind in self._labels if kind in KNOWN and kind not in have]
        if self.classes != "agnostic" and lost and other:
            raise ConfigError(
                f"{where}: no instance is a {' or '.join(lost)}; categories are "
                f"{', '.join(sorted(seen))}",
                fix=f"say which they are, for example names={{{other[0]!r}: {lost[0]!r}}}",
            )

    def _name_unknown(self) -> None:
        for record in self.records:
            for one in record.instances:
                if self._category(one) == OTHER:
                    self.problems.note(
                        "unknown_category",
                        f"{record.path}: annotation {one.id}",
                        f"has the category {one.category!r}, want Tote or Object",
                        "used" if OTHER in self._labels else "skipped",
                    )

    def __len__(self) -> int:
        return len(self.records)

    def load(self, index: int, rng: np.random.Generator | None) -> Sample:
        """See `TaskData.load`.

        Raises:
            FrameError: for a picture that is missing, damaged, or not of the size that the
                annotations are for; for a mask that can't be decoded; if a training view has
                ignored instances alone.
        """
        record = self.records[index]
        rgb = self._read(record)
        problems: list[Problem] = []
        try:
            pixels, sample = (
                self._truth(record, rgb) if rng is None else self._drawn(index, rgb, rng, problems)
            )
        except FrameError as e:
            raise FrameError(f"{record.path}: {e.what}", kind=e.kind, fix=e.fix) from e
        sample.set_metainfo(
            {
                "img_id": record.id,
                "img_path": str(record.path),
                "ori_shape": record.hw,
                "pad_shape": self.canvas_hw,
                "batch_input_shape": self.canvas_hw,
            }
        )
        inputs = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        name = str(record.path)
        return {"inputs": inputs, "data_samples": sample, "name": name, "problems": problems}

    def _read(self, record: ImageRecord) -> Pixels:
        rgb = read_image(record.path)
        if rgb.shape[:2] != record.hw:
            raise FrameError(
                f"{record.path} is {rgb.shape[1]}x{rgb.shape[0]} px, its annotations are for "
                f"{record.hw[1]}x{record.hw[0]}",
                kind="wrong_size",
                fix="fetch picture and annotations from the same place",
            )
        return rgb

    def _truth(self, record: ImageRecord, rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Any]:
        pixels, box = letterbox(rgb, self.canvas_hw)
        truth = [
            {
                "category": self._category(one),
                "bbox": one.box,
                "mask": exact_rle(one, record.hw),
                "crowd": one.crowd,
                "ignore": one.area < self._min_area,
            }
            for one in record.instances
        ]
        # Of the pixels as they were resized, to whole rows and columns: boxes are divided by it.
        scale = (box.inner_hw[1] / record.hw[1], box.inner_hw[0] / record.hw[0])
        meta = {"img_shape": box.inner_hw, "scale_factor": scale, "instances": truth}
        return pixels, DetDataSample(metainfo=meta)

    def _drawn(
        self, index: int, rgb: Pixels, rng: np.random.Generator, problems: list[Problem]
    ) -> tuple[Pixels, Any]:
        """A jittered view; without any truth MMDetection takes what is ignored for background.

        Raises:
            FrameError: `only_ignored`, if several views have ignored instances alone.
        """
        record = self.records[index]

        def other() -> Picture:
            step = int(rng.integers(1, max(2, len(self))))
            there = self.records[(index + step) % len(self)]
            return Picture(there, self._read(there))

        for _ in range(_REDRAWS):
            pixels, place = self._jitter.place(rgb, rng)
            pixels, parts = self._mixer(record, pixels, place, other, rng, problems)
            pixels = self._jitter.finish(pixels, rng)
            good = [p for p in parts if not p.ignored]
            if good or not parts:
                scale = tuple(abs(a) for a in place.a)
                sample = DetDataSample(
                    metainfo={"img_shape": place.inner_hw, "scale_factor": scale}
                )
                sample.gt_instances = self._instances(good)
                sample.ignored_instances = self._instances([p for p in parts if p.ignored])
                return pixels, sample
        raise FrameError(
            f"{_REDRAWS} views show ignored instances alone",
            kind="only_ignored",
            fix="lower min_area and min_visible, or narrow the jitter's scale",
        )

    def _instances(self, found: Sequence[Part]) -> Any:
        boxes = np.zeros((len(found), 4), np.float32)
        masks = np.zeros((len(found), *self.canvas_hw), np.uint8)
        for i, mask in enumerate(p.mask for p in found):
            ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            boxes[i] = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
            masks[i, : mask.shape[0], : mask.shape[1]] = mask
        return InstanceData(
            bboxes=torch.from_numpy(boxes),
            labels=torch.tensor([p.label for p in found], dtype=torch.int64),
            masks=BitmapMasks(masks, *self.canvas_hw),
        )
