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

from robollm.core.content import product_of
from robollm.core.errors import ConfigError, FrameError
from robollm.data import armbench_identification as armbench
from robollm.data.armbench_files import VIEWS
from robollm.data.armbench_picks import Outlines
from robollm.data.armbench_segmentation import ROOT
from robollm.data.images import read_image
from robollm.data.problems import Problem
from robollm.train.engine.augment import Augment, Pixels
from robollm.train.engine.draws import Sample, TaskData
from robollm.train.identification.crops import AS_IT_IS, ToteCrops, Wider, outlined, planes
from robollm.train.identification.families import families, mislabel, note_large
from robollm.train.identification.options import check
from robollm.train.identification.truths import note, read_truths


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
        loose: with crop "segment", in training half of the post-pick views are cut wider: by up to
            this share of the box's side, on each side another one. A cell whose cameras don't know
            where the object is sees such pictures.
        reference_crop: "whole", or "content": what differs from a plain backdrop
            (`robollm.core.content`).
        view_dropout: chance, per view that is there, of being left out in training; one stays.
        tote_samples: so many more training samples per product, each a random box of it in the
            totes of `armbench-segmentation-0.1` as its only view, PickRGB; see `ToteCrops`.
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
        of_totes: products of the samples from totes, which come behind the picks.
        products: all Product-IDs of the split and of its picks, sorted.
        labels: (len(picks) + len(of_totes),) int64, index into `products`, wrong ones included.
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
        loose: float = 0.0,
        reference_crop: str = "whole",
        view_dropout: float = 0.0,
        tote_samples: int = 0,
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
        check(split, crop, gallery, views, view_dropout, tote_samples, reference_crop, loose)
        if min(val_picks, val_distractors) < 0:
            raise ConfigError(
                f"val_picks is {val_picks}, val_distractors {val_distractors}; want 0 or more",
                fix="0 takes all",
            )
        self.root = armbench.find_root(Path(data_root))
        self.split, self.views, self.crop = split, tuple(views), crop
        self.view_dropout, self._loose = view_dropout, loose
        self._reference_crop = reference_crop
        options = dict(augment or {})
        other = options if reference_augment is None else dict(reference_augment)
        self._augment = Augment(size, fit=fit, **options)
        self._augment_reference = Augment(size, fit=fit, **other)
        self.titles: dict[str, str] = {}
        self._files: dict[str, list[Path]] = {}
        self._splits = armbench.split_products(self.root, self.problems, val_share, split_seed)
        limits = (val_picks, val_distractors) if split == "val" else (0, 0)
        self._outlines = Outlines(self.root, self.problems)
        self.picks = self._read_picks(*limits, np.random.default_rng([split_seed, 5]))
        where = f"{self.root}, split {split}"
        self.problems.refuse_if_empty(len(self.picks), where, "check the data folder")
        self._outlines.refuse_if_none(where, "set crop='image'")
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
        self.of_totes = self._in_totes(Path(data_root), tote_samples) if tote_samples else []
        learned = [*(given[p.id] for p in self.picks), *self.of_totes]
        self.labels = np.array([self._number[product] for product in learned], np.int64)
        self._gallery: list[tuple[str, Path]] = []
        if split != "train":
            wanted = {p for pick in self.picks for p in (*pick.manifest, pick.truth)}
            if gallery == "all":
                wanted |= armbench.referenced_products(self.root)
            self._gallery = self._list_gallery(wanted)

    @cached_property
    def families(self) -> NDArray[np.int64]:
        """(len(products),) family of each product, by title (see `families.families`)."""
        number = families({p: self.titles.get(p, "") for p in self.products})
        note_large(number, self.titles, self.root / "Picks", self.problems)
        return np.array([number[p] for p in self.products], np.int64)

    def __len__(self) -> int:
        """Picks, and samples from totes in training, or reference images in evaluation."""
        return len(self.labels) + len(self._gallery)

    def load(self, index: int, rng: np.random.Generator | None) -> Sample:
        """See `TaskData.load`."""
        if index >= len(self.labels):
            return self._load_reference(*self._gallery[index - len(self.labels)])
        if index >= len(self.picks):
            return self._load_from_tote(index, rng)
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
        reference, file = self._reference_at_random(product, rng)
        inputs = {"views": views, "present": present, "reference": reference}
        return {"inputs": inputs, "data_samples": about, "name": f"{name}, {file}"}

    def _load_from_tote(self, index: int, rng: np.random.Generator | None) -> Sample:
        if rng is None:
            raise ConfigError(f"sample {index} is of a tote: there is one in training only")
        label = int(self.labels[index])
        product = self.products[label]
        rgb, tote = self._totes.draw(product, rng)
        views, place = self._blank(), self.views.index(VIEWS[0])
        views[place] = planes(self._augment(rgb, rng))
        reference, file = self._reference_at_random(product, rng)
        return {
            "inputs": {
                "views": views,
                "present": np.arange(len(self.views)) == place,
                "reference": reference,
            },
            "data_samples": {
                "kind": "pick",
                "pick": tote,
                "product": label,
                "product_id": product,
            },
            "name": f"{product} in {tote}, {file}",
        }

    def _reference_at_random(
        self, product: str, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], str]:
        files = self._references(product)
        file = files[int(rng.integers(len(files)))]
        return planes(self._augment_reference(self.reference_picture(file), rng)), file.name

    def reference_picture(self, file: Path) -> Pixels:
        """Read a reference image and cut out what is looked at of it, (H, W, 3) uint8.

        Raises:
            FrameError: if it can't be read.
        """
        return product_of(read_image(file), self._reference_crop)

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
            rgb = self._read(pick, self.views[i], self._wider(self.views[i], rng))
            views[i] = planes(self._augment(rgb, rng))
        return views, kept

    def _look(self, pick: armbench.Pick) -> tuple[Pixels, NDArray[np.bool_], list[Problem]]:
        views, present = self._blank(), np.zeros(len(self.views), np.bool_)
        problems = []
        for i, name in enumerate(self.views):
            if name not in pick.views:
                continue
            try:
                views[i] = planes(self._augment(self._read(pick, name), None))
                present[i] = True
            except FrameError as e:
                problems.append(Problem(e.kind, f"pick {pick.id}", e.what, "view left out"))
        return views, present, problems

    def _load_reference(self, product: str, file: Path) -> Sample:
        views, present = self._blank(), np.zeros(len(self.views), np.bool_)
        views[0] = planes(self._augment_reference(self.reference_picture(file), None))
        about = {"kind": "reference", "product_id": product, "image": file.name}
        inputs = {"views": views, "present": present}
        return {"inputs": inputs, "data_samples": about, "name": f"{product}/{file.name}"}

    def _wider(self, view: str, rng: np.random.Generator) -> Wider:
        if not self._loose or view == VIEWS[0] or rng.random() < 0.5:
            return AS_IT_IS
        left, up, right, down = rng.uniform(0, self._loose, 4).tolist()
        return left, up, right, down

    def _read(self, pick: armbench.Pick, view: str, wider: Wider = AS_IT_IS) -> Pixels:
        rgb = read_image(pick.views[view])
        return outlined(rgb, self.root, pick, view, wider) if self.crop == "segment" else rgb

    def _lacks(self, pick: armbench.Pick) -> bool:
        """Note what a pick lacks; say whether it is too much to learn from it."""
        action = "skipped" if self.split == "train" else "counts as wrong"
        blind = not any(v in pick.views for v in self.views)
        if blind:
            names = ", ".join(self.views)
            what = f"is picked without a picture of {names}"
            note(self.problems, "no_view", self.root, pick, what, action)
        lost = not self._references(pick.truth)
        if lost:
            what = "has no reference image"
            note(self.problems, "truth_without_reference", self.root, pick, what, action)
        if self.crop == "segment":
            self._outlines.look(pick.id, (v for v in self.views if v in pick.views))
        return blind or lost

    def _list_gallery(self, names: set[str]) -> list[tuple[str, Path]]:
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

    def _in_totes(self, data_root: Path, many: int) -> list[str]:
        """Products of the split with a box in a tote and a reference, each `many` times."""
        learned = [p for p in self._splits.products["train"] if self._references(p)]
        home = data_root if (data_root / ROOT).is_dir() else self.root.parent
        self._totes = ToteCrops(home, learned)
        return [p for p in sorted(self._totes.boxes) for _ in range(many)]

    def _references(self, product: str) -> list[Path]:
        if product not in self._files:
            self._files[product] = armbench.references(self.root, product)
        return self._files[product]

    def _read_picks(
        self, most: int, distractors: int, rng: np.random.Generator
    ) -> list[armbench.Pick]:
        truths = read_truths(self.root, self.split, self._splits, self.problems)
        if most and len(truths) > most:
            names = list(truths)
            kept = np.sort(rng.choice(len(names), most, replace=False))
            truths = {names[i]: truths[names[i]] for i in kept}
        out = []
        for name, truth in truths.items():
            pick = armbench.read_pick_or_note(self.root, name, truth, self.problems)
            if self._lacks(pick) and self.split == "train":
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
