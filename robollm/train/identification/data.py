"""ARMBench's picks with reference images of their products, for training and for retrieval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS
from numpy.typing import NDArray

from robollm.core.errors import ConfigError, FrameError
from robollm.data import armbench_identification as armbench
from robollm.data.armbench_files import VIEWS
from robollm.data.images import read_image
from robollm.data.problems import Problem
from robollm.train.engine.augment import Augment, Pixels
from robollm.train.engine.draws import Sample, TaskData
from robollm.train.identification.families import families, mislabel, note_large

SPLITS = ("train", "val", "test")
CROPS = ("image", "segment")
GALLERIES = ("manifests", "all")
_MARGIN = 0.05


@DATASETS.register_module()
class PickData(TaskData):
    """Picks and reference images.

    A training sample is a pick: `inputs` = dict(views (V, 3, S, S) uint8, present (V,) bool,
    reference (3, S, S) uint8), `data_samples` = dict(kind "pick", pick, product (index into
    `products`), product_id). A missing or dropped view is all 0 and not present.

    For evaluation the picks of the split come first, then the reference images of the gallery:
    `inputs` = dict(views, present); a reference image is the first view. `data_samples` has kind
    "pick" or "reference", product_id, and manifest and usable, or image. A pick without a usable
    view stays, with nothing present: it counts as wrong.

    Args:
        data_root: the folder `armbench.ROOT` or the one around it.
        split: "train", "val" or "test"; the first two are ARMBench's training products, see
            `armbench.split_products`.
        size: side of the square canvas, px.
        views: names of `VIEWS`, in the order that the head expects.
        fit: how pictures are fitted into the canvas; RoboLLM stretches.
        crop: "image": the whole picture, as RoboLLM and the devkit; "segment": the box of the
            annotated outline and 5 % around it (the whole picture where there is no outline).
        view_dropout: chance, per view that is there, of being left out in training; one stays.
        augment: options of `Augment` for views in training.
        reference_augment: the same for references; None: as `augment`.
        label_noise: share of training picks with a wrong product (for studies); see `noisy`.
        confusable: wrong products look alike (`families.mislabel`), else any.
        noise_seed: of the wrong labels.
        gallery: references in evaluation: of the products in the picks' "manifests", or "all".
        val_picks: in split "val", so many picks at most, drawn with `split_seed`; 0: all. For
            choosing a checkpoint; the other splits are always whole.
        val_distractors: in split "val", so many other products at most in a manifest, drawn with
            `split_seed`; 0: all.
        val_share: see `armbench.split_products`, where there is no validation file.
        split_seed: the same.
        seed: of the augmentations.

    Attributes:
        picks: those that are used, as they are on disk; in training without manifests.
        products: all Product-IDs of the split and of its picks, sorted.
        labels: (len(picks),) int64, index into `products`, wrong ones included.
        noisy: Pick-ID -> (true product, given product).
        titles: Product-ID -> title, from the picks' containers.

    Raises:
        ConfigError: for a setting out of range, a damaged split, or if no pick can be used.
    """

    def __init__(
        self,
        data_root: str | Path,
        split: str = "train",
        *,
        size: int = 224,
        views: Sequence[str] = ("PickRGB",),
        fit: str = "stretch",
        crop: str = "image",
        view_dropout: float = 0.0,
        augment: Mapping[str, Any] | None = None,
        reference_augment: Mapping[str, Any] | None = None,
        label_noise: float = 0.0,
        confusable: bool = True,
        noise_seed: int = 0,
        gallery: str = "manifests",
        val_picks: int = 0,
        val_distractors: int = 0,
        val_share: float = 0.1,
        split_seed: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__("identification", seed)
        _one_of("split", split, SPLITS)
        _one_of("crop", crop, CROPS)
        _one_of("gallery", gallery, GALLERIES)
        for one in views:
            _one_of("view", one, VIEWS)
        if not views or len(set(views)) != len(views) or not 0 <= view_dropout < 1:
            raise ConfigError(
                f"views {tuple(views)}, view_dropout {view_dropout}; want different views, at "
                "least one, and 0 <= view_dropout < 1",
                fix="correct the dataset's settings",
            )
        if min(val_picks, val_distractors) < 0:
            raise ConfigError(
                f"val_picks is {val_picks}, val_distractors {val_distractors}; want 0 or more",
                fix="0 takes all",
            )
        self.root = armbench.find_root(Path(data_root))
        self.split, self.views, self.crop = split, tuple(views), crop
        self.view_dropout = view_dropout
        options = dict(augment or {})
        other = options if reference_augment is None else dict(reference_augment)
        self._augment = Augment(size, fit=fit, **options)
        self._augment_reference = Augment(size, fit=fit, **other)
        self.titles: dict[str, str] = {}
        self._files: dict[str, list[Path]] = {}
        self._splits = armbench.split_products(self.root, self.problems, val_share, split_seed)
        limits = (val_picks, val_distractors) if split == "val" else (0, 0)
        self.picks = self._read_picks(*limits, np.random.default_rng([split_seed, 5]))
        self.problems.refuse_if_empty(
            len(self.picks), f"{self.root}, split {split}", "check the data folder"
        )
        self.products = sorted(
            {p for ids in self._splits.products.values() for p in ids}
            | {pick.truth for pick in self.picks}
        )
        self._number = {product: i for i, product in enumerate(self.products)}
        truths = {pick.id: pick.truth for pick in self.picks}
        given = dict(truths)
        if split == "train":
            allowed = sorted(set(truths.values()))
            given |= mislabel(
                truths,
                self.titles,
                allowed,
                share=label_noise,
                confusable=confusable,
                seed=noise_seed,
            )
        elif label_noise:
            raise ConfigError(
                f"label_noise {label_noise} in split {split}", fix="set it for train only"
            )
        self.noisy = {p: (truths[p], given[p]) for p in sorted(truths) if truths[p] != given[p]}
        self.labels = np.array([self._number[given[p.id]] for p in self.picks], np.int64)
        self._gallery = [] if split == "train" else self._list_gallery(gallery)

    @cached_property
    def families(self) -> NDArray[np.int64]:
        """(len(products),) family of each product, by title (see `families.families`)."""
        number = families({p: self.titles.get(p, "") for p in self.products})
        note_large(number, self.titles, self.root / "Picks", self.problems)
        return np.array([number[p] for p in self.products], np.int64)

    def __len__(self) -> int:
        """Picks, and in evaluation reference images."""
        return len(self.picks) + len(self._gallery)

    def load(self, index: int, rng: np.random.Generator | None) -> Sample:
        """See `TaskData.load`."""
        if index >= len(self.picks):
            return self._load_reference(*self._gallery[index - len(self.picks)])
        pick = self.picks[index]
        label = int(self.labels[index])
        product = self.products[label]
        about = {"kind": "pick", "pick": pick.id, "product": label, "product_id": product}
        name = f"pick {pick.id}"
        if rng is None:
            views, present, problems = self._look(pick)
            about |= {"manifest": pick.manifest, "usable": bool(present.any())}
            inputs = {"views": views, "present": present}
            return {"inputs": inputs, "data_samples": about, "name": name, "problems": problems}
        views, present = self._look_at_random(pick, rng)
        files = self._references(product)
        file = files[int(rng.integers(len(files)))]
        reference = _planes(self._augment_reference(read_image(file), rng))
        inputs = {"views": views, "present": present, "reference": reference}
        return {"inputs": inputs, "data_samples": about, "name": f"{name}, {file.name}"}

    def _blank(self) -> Pixels:
        side = self._augment.size
        return np.zeros((len(self.views), 3, side, side), np.uint8)

    def _look_at_random(
        self, pick: armbench.Pick, rng: np.random.Generator
    ) -> tuple[Pixels, NDArray[np.bool_]]:
        there = np.array([v in pick.views for v in self.views])
        kept = there & (rng.random(len(self.views)) >= self.view_dropout)
        if not kept.any():
            kept[rng.choice(np.flatnonzero(there))] = True
        views = self._blank()
        for i in np.flatnonzero(kept):
            views[i] = _planes(self._augment(self._read(pick, self.views[i]), rng))
        return views, kept

    def _look(self, pick: armbench.Pick) -> tuple[Pixels, NDArray[np.bool_], list[Problem]]:
        views, present = self._blank(), np.zeros(len(self.views), np.bool_)
        problems = []
        for i, name in enumerate(self.views):
            if name not in pick.views:
                continue
            try:
                views[i] = _planes(self._augment(self._read(pick, name), None))
                present[i] = True
            except FrameError as e:
                problems.append(Problem(e.kind, f"pick {pick.id}", e.what, "view left out"))
        return views, present, problems

    def _load_reference(self, product: str, file: Path) -> Sample:
        views, present = self._blank(), np.zeros(len(self.views), np.bool_)
        views[0] = _planes(self._augment_reference(read_image(file), None))
        about = {"kind": "reference", "product_id": product, "image": file.name}
        inputs = {"views": views, "present": present}
        return {"inputs": inputs, "data_samples": about, "name": f"{product}/{file.name}"}

    def _read(self, pick: armbench.Pick, view: str) -> Pixels:
        rgb = read_image(pick.views[view])
        outline = armbench.polygons(self.root, pick.id, view) if self.crop == "segment" else []
        if not outline:
            return rgb
        points = np.concatenate([np.array(one).reshape(-1, 2) for one in outline])
        low, high = points.min(axis=0), points.max(axis=0)
        size = np.array(rgb.shape[1::-1])
        margin = _MARGIN * (high - low)
        x1, y1 = np.clip(np.floor(low - margin), 0, size).astype(int)
        x2, y2 = np.clip(np.ceil(high + margin), 0, size).astype(int)
        if x1 >= x2 or y1 >= y2:
            raise FrameError(
                f"the outline in {pick.views[view]} lies outside its {size[0]}x{size[1]} px",
                kind="outside_outline",
                fix="correct the annotation, or set crop='image'",
            )
        return rgb[y1:y2, x1:x2]

    def _references(self, product: str) -> list[Path]:
        if product not in self._files:
            self._files[product] = armbench.references(self.root, product)
        return self._files[product]

    def _read_picks(
        self, most: int, distractors: int, rng: np.random.Generator
    ) -> list[armbench.Pick]:
        truths = self._read_truths()
        if most and len(truths) > most:
            names = list(truths)
            kept = np.sort(rng.choice(len(names), most, replace=False))
            truths = {names[i]: truths[names[i]] for i in kept}
        out = []
        for name, truth in truths.items():
            pick = armbench.read_pick_or_note(self.root, name, truth, self.problems)
            if not self._usable(pick):
                continue
            self.titles |= pick.titles
            manifest = () if self.split == "train" else pick.manifest
            others = [p for p in manifest if p != truth]
            if distractors and len(others) > distractors:
                drawn = rng.choice(len(others), distractors, replace=False).tolist()
                wanted = {truth, *(others[i] for i in drawn)}
                manifest = tuple(p for p in manifest if p in wanted)
            out.append(replace(pick, titles={}, manifest=manifest))
        return out

    def _read_truths(self) -> dict[str, str]:
        """Pick-ID -> true product, of the split's picks: the small file of each pick decides."""
        learn = {*self._splits.products["train"], *self._splits.products["val"]}
        other = set() if self.split == "test" else learn - {*self._splits.products[self.split]}
        out: dict[str, str] = {}
        for name in self._splits.picks["test" if self.split == "test" else "train"]:
            truth = armbench.read_truth_or_note(self.root, name, self.problems)
            if truth is None or truth in other:
                continue
            pick = armbench.Pick(name, truth, (), {})
            if self.split != "test" and truth not in learn:
                self._note("unlisted_product", pick, "is no training or validation product")
                continue
            if self.split == "test" and truth in learn:
                self._note("learned_product", pick, "is a training product", "tested all the same")
            out[name] = truth
        return out

    def _usable(self, pick: armbench.Pick) -> bool:
        training = self.split == "train"
        action = "skipped" if training else "counts as wrong"
        good = True
        if not any(v in pick.views for v in self.views):
            names = ", ".join(self.views)
            self._note("no_view", pick, f"is picked without a picture of {names}", action)
            good = False
        if not self._references(pick.truth):
            self._note("truth_without_reference", pick, "has no reference image", action)
            good = False
        for view in self.views if self.crop == "segment" else ():
            if view in pick.views and not armbench.polygons(self.root, pick.id, view):
                what = f"has no outline in {view}"
                self._note("no_outline", pick, what, "the whole picture is used")
        return good or not training

    def _note(self, kind: str, pick: armbench.Pick, what: str, action: str = "skipped") -> None:
        where = self.root / "Picks" / pick.id
        self.problems.note(kind, where, f"its product {pick.truth} {what}", action)

    def _list_gallery(self, gallery: str) -> list[tuple[str, Path]]:
        names = {p for pick in self.picks for p in (*pick.manifest, pick.truth)}
        if gallery == "all":
            folder = self.root / "Reference_Images"
            names |= {p.name for p in folder.iterdir() if p.is_dir()} if folder.is_dir() else set()
        out = []
        for product in sorted(names):
            files = self._references(product)
            if not files:
                where = self.root / "Reference_Images" / product
                self.problems.note(
                    "product_without_reference", where, "no reference image", "never found"
                )
            out += [(product, file) for file in files]
        self.problems.refuse_if_empty(
            len(out), f"{self.root}, references for split {self.split}", "check Reference_Images"
        )
        return out


def _planes(rgb: Pixels) -> Pixels:
    """(H, W, 3) to (3, H, W)."""
    return np.ascontiguousarray(rgb.transpose(2, 0, 1))


def _one_of(name: str, value: str, choice: Sequence[str]) -> None:
    if value not in choice:
        raise ConfigError(
            f"{name} is {value!r}, want one of {', '.join(choice)}", fix=f"correct {name}"
        )
