"""ARMBench's defect images as samples: crops, sequences of one induct, and reference pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS
from numpy.typing import NDArray
from torch import Tensor

from robollm.core.errors import ConfigError, FrameError
from robollm.data.armbench_defects import IMAGE_ROOT, LABELS, Image
from robollm.data.armbench_defects_scan import (
    read_mask,
    read_split,
    scan_images,
    split_inducts,
    worst,
)
from robollm.data.images import read_image
from robollm.data.problems import Problem
from robollm.train.defects.references import References
from robollm.train.engine.augment import MEAN_COLOUR, Augment
from robollm.train.engine.draws import Sample, TaskData

CROPS = ("box", "mask", "image")


def _chw(rgb: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))


def find_root(data_root: Path | str) -> Path:
    """The folder with `train.csv`: `armbench-defects-image-0.1` in `data_root`, or itself.

    Raises:
        ConfigError: if there is none.
    """
    for root in (Path(data_root) / IMAGE_ROOT, Path(data_root)):
        if (root / "train.csv").is_file():
            return root
    raise ConfigError(
        f"{data_root or 'no folder'} is given as data, want a folder that holds {IMAGE_ROOT}",
        fix="give the folder with --data",
    )


@DATASETS.register_module()
class DefectData(TaskData):
    """Images of ARMBench's defect folder, or sequences of the images of one induct.

    A sample's `inputs` are `images` (T, 3, S, S) uint8 RGB, `present` (T,) bool, and with
    `reference` also `reference` (3, S, S) uint8 and `has_reference` () bool. What is absent is 0.
    Its `data_samples` are a dict: `label`, `induct`, `induct_labels` (those of all images of the
    induct, ascending), `images` (names of those present, in order of time), `frame_labels` (of
    those). Labels are indices of `LABELS`.

    Validation is `val.csv` if there is one; else about a share of the inducts of `train.csv`, the
    same for the same seed (`split_inducts`). An induct is never in two splits.

    Args:
        data_root: folder that holds `armbench-defects-image-0.1`.
        split: "train", "val" or "test".
        size: side S of the square input, px.
        crop: "box": the annotated box; "mask": the box, and what is outside of the polygons gets
            the mean colour; "image": the whole image.
        margin: widens the box on every side by this share of the box's own side.
        loose: in training half of the crops are wider: by up to this share of the box's side, on
            each side another one. A cell whose cameras don't know where the object is sees such
            pictures.
        frames: most images of an induct in a sample. 1: every image is a sample with its own
            label. More: every induct is one, its label the worst of all its images (any defect
            over nominal, the more frequent of two defects, a tie to the first of `LABELS`).
            Of an induct with more images, training sees a random choice, of which at least one
            carries the label, evaluation images evenly spread over time, whatever they show.
        reference: give the product's reference picture, too: a random one in training, the
            first in evaluation.
        drop_reference: chance that training leaves it out, so that the model learns to do without.
        val_share: of the inducts of `train.csv`, where there is no `val.csv`.
        split_seed: of that choice.
        fit: "letterbox" or "stretch", onto the square; RoboLLM stretches.
        augment: settings of `Augment` beside `size` and `fit`; None: no augmentation.
        seed: of the augmentations.

    Raises:
        ConfigError: for a setting out of range, a missing list, an induct in two splits, or
            nothing usable.
    """

    def __init__(
        self,
        data_root: str,
        split: str = "train",
        *,
        size: int = 224,
        crop: str = "box",
        margin: float = 0.0,
        loose: float = 0.0,
        frames: int = 1,
        reference: bool = False,
        drop_reference: float = 0.0,
        val_share: float = 0.1,
        split_seed: int = 0,
        fit: str = "stretch",
        augment: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__("defects", seed)
        if (
            crop not in CROPS
            or not (0 <= margin <= 10 and 0 <= loose <= 10)
            or (loose and crop == "image")
            or not (0 <= drop_reference <= 1 and 0 < val_share < 1)
            or frames < 1
        ):
            raise ConfigError(
                f"crop {crop!r}, margin {margin}, loose {loose}, frames {frames}, drop_reference "
                f"{drop_reference}, val_share {val_share}; want crop of {', '.join(CROPS)}, margin "
                "and loose 0 to 10 (loose only with a crop of box or mask), frames >= 1, "
                "drop_reference 0 to 1, val_share between 0 and 1",
                fix="correct the dataset's settings",
            )
        self.root = find_root(data_root)
        self._crop, self._margin, self._frames = crop, margin, frames
        self._drop, self._loose = drop_reference, loose
        self._view = Augment(size, fit=fit, **dict(augment or {}))
        found = self._inducts(split, val_share, split_seed)
        self._items: list[list[Image]] = (
            [[image] for images in found.values() for image in images]
            if frames == 1
            else list(found.values())
        )
        self.problems.refuse_if_empty(
            len(self._items), f"{self.root}, split {split}", "check the folder and its lists"
        )
        self._induct_labels = {
            induct: sorted({LABELS.index(image.label) for image in images})
            for induct, images in found.items()
        }
        self.labels = np.array([self._label(item) for item in self._items], np.int64)
        ids = {induct: number for number, induct in enumerate(found)}
        self.groups = np.array([ids[item[0].induct] for item in self._items], np.int64)
        self.references = References(self.root.parent, found, self.problems) if reference else None

    def _inducts(self, split: str, share: float, seed: int) -> dict[str, list[Image]]:
        ids, final = read_split(self.root, split, self.problems)
        found = scan_images(self.root, ids, self.problems, boxes=self._crop != "image")
        if final:
            return found
        labels = {one: worst([i.label for i in images]) for one, images in found.items()}
        train, val = split_inducts(labels, share, seed)
        return {one: found[one] for one in (train if split == "train" else val)}

    @staticmethod
    def _label(item: Sequence[Image]) -> int:
        return LABELS.index(worst([image.label for image in item]))

    @property
    def inducts(self) -> list[str]:
        """The induct of every sample."""
        return [item[0].induct for item in self._items]

    def __len__(self) -> int:
        return len(self._items)

    def load(self, index: int, rng: np.random.Generator | None) -> Sample:
        """See `TaskData.load`. Of a sequence, what can't be read is absent, and noted.

        Raises:
            FrameError: if no image of the sample can be used; in training, none with its label.
        """
        problems: list[Problem] = []
        label = LABELS[self.labels[index]]
        chosen = self._choice(self._items[index], label, rng)
        shown = self._shown(chosen, "" if rng is None else label, rng, problems)
        images = torch.zeros(self._frames, 3, self._view.size, self._view.size, dtype=torch.uint8)
        for place, (_, pixels) in enumerate(shown):
            images[place] = pixels
        inputs = {"images": images, "present": torch.arange(self._frames) < len(shown)}
        first = self._items[index][0]
        if self.references is not None:
            picture = self._reference(first.induct, rng, problems)
            inputs["reference"] = torch.zeros_like(images[0]) if picture is None else picture
            inputs["has_reference"] = torch.tensor(picture is not None)
        return {
            "inputs": inputs,
            "data_samples": {
                "label": int(self.labels[index]),
                "induct": first.induct,
                "induct_labels": self._induct_labels[first.induct],
                "images": [image.path.stem for image, _ in shown],
                "frame_labels": [LABELS.index(image.label) for image, _ in shown],
            },
            "name": str(first.path) if self._frames == 1 else first.induct,
            "problems": problems,
        }

    def _choice(
        self, item: Sequence[Image], label: str, rng: np.random.Generator | None
    ) -> list[Image]:
        """The images of a sample that are to be shown."""
        if len(item) <= self._frames:
            return list(item)
        if rng is None:
            chosen = np.linspace(0, len(item) - 1, self._frames).round().astype(int)
        else:
            chosen = rng.choice(len(item), self._frames, replace=False)
            if not any(item[i].label == label for i in chosen):
                carriers = [i for i, image in enumerate(item) if image.label == label]
                chosen[0] = rng.choice(carriers)
        return [item[i] for i in sorted(chosen)]

    def _shown(
        self,
        item: Sequence[Image],
        wanted: str,
        rng: np.random.Generator | None,
        problems: list[Problem],
    ) -> list[tuple[Image, Tensor]]:
        """The images that can be read.

        Args:
            item: those to be read.
            wanted: a label that has to be among them; "": any.
            rng: see `load`.
            problems: gets those that can't.

        Raises:
            FrameError: if there is none, or none with the wanted label.
        """
        shown: list[tuple[Image, Tensor]] = []
        missed: FrameError | None = None
        for image in item:
            try:
                shown.append((image, _chw(self._view(self._cut(image, rng), rng))))
            except FrameError as e:
                if wanted in ("", image.label):
                    missed = e
                where = f"induct {image.induct}"
                problems.append(Problem(e.kind, where, e.what, "frame left out"))
        if missed and not any(wanted in ("", image.label) for image, _ in shown):
            raise missed
        return shown

    def _cut(self, image: Image, rng: np.random.Generator | None = None) -> NDArray[np.uint8]:
        """What is held; in training sometimes with more around it.

        Returns:
            (h, w, 3) uint8, RGB.
        """
        rgb = read_image(image.path)
        height, width = rgb.shape[:2]
        if self._crop == "mask":
            mask = read_mask(image, (height, width))
            rgb = np.where(mask[..., None], rgb, np.uint8(MEAN_COLOUR))
        if self._crop == "image" or image.box is None:
            return rgb
        x1, y1, x2, y2 = image.box
        wider = np.full(4, float(self._margin))
        if rng is not None and self._loose and rng.random() < 0.5:
            wider += rng.uniform(0, self._loose, 4)
        left, up, right, down = np.rint(wider * np.array([x2 - x1, y2 - y1] * 2)).astype(int)
        return np.ascontiguousarray(
            rgb[
                max(y1 - up, 0) : min(y2 + down, height), max(x1 - left, 0) : min(x2 + right, width)
            ]
        )

    def _reference(
        self, induct: str, rng: np.random.Generator | None, problems: list[Problem]
    ) -> Tensor | None:
        assert self.references is not None
        files = self.references.of(induct)
        if not files or (rng is not None and rng.random() < self._drop):
            return None
        file = files[0 if rng is None else int(rng.integers(len(files)))]
        try:
            return _chw(self._view(read_image(file), rng))
        except FrameError as e:
            problems.append(Problem(e.kind, f"induct {induct}", e.what, "no reference"))
            return None
