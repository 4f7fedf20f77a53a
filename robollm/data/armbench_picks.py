"""The picks of one split, with manifests and views: what somebody evaluates or calibrates on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from robollm.core.errors import ConfigError
from robollm.data import armbench_identification as armbench
from robollm.data.armbench_files import read_object
from robollm.data.problems import Problems

SPLITS = ("train", "val", "test")
CROPS = ("image", "segment")
_MARGIN = 0.05


def split_picks(
    root: Path,
    split: str,
    problems: Problems,
    *,
    share: float = 0.1,
    seed: int = 0,
    keep_learned: bool = False,
) -> Iterator[armbench.Pick]:
    """Read the picks of a split, by product as in training; those of the pickle's order.

    Args:
        root: the folder `armbench.ROOT`.
        split: one of `SPLITS`.
        problems: gets what is wrong with a pick; those without a known truth are left out.
        share: see `armbench.split_products`.
        seed: the same.
        keep_learned: of "test", also give picks of products that are for training, as ARMBench's
            own list has them; they are noted all the same.

    Raises:
        ConfigError: if the split is unknown, or a file of it is damaged.
    """
    if split not in SPLITS:
        raise ConfigError(f"split {split!r}, want one of {', '.join(SPLITS)}", fix="choose one")
    found = armbench.split_products(root, problems, share, seed)
    learned = {*found.products["train"], *found.products["val"]}
    for name in found.picks["test" if split == "test" else "train"]:
        truth = armbench.read_truth_or_note(root, name, problems)
        if truth is None:
            continue
        mine = truth not in learned if split == "test" else truth in found.products[split]
        if split == "test" and not mine:
            action = "kept" if keep_learned else "skipped"
            what = f"its product {truth} was learned"
            problems.note("learned_product", root / "Picks" / name, what, action)
        if mine or (split == "test" and keep_learned):
            yield armbench.read_pick_or_note(root, name, truth, problems)


def outline_box(root: Path, pick: str, view: str) -> tuple[float, float, float, float] | None:
    """The box of the annotated outline and 5 % around it, as crops of "segment" in training.

    Returns:
        (x1, y1, x2, y2), px of that picture, maybe beyond its edges; None: there is no outline.

    Raises:
        ConfigError: if the annotation is not readable.
    """
    outline = armbench.polygons(root, pick, view)
    if not outline:
        return None
    points = np.concatenate([np.array(one).reshape(-1, 2) for one in outline])
    low, high = points.min(axis=0), points.max(axis=0)
    margin = _MARGIN * (high - low)
    (x1, y1), (x2, y2) = (low - margin).tolist(), (high + margin).tolist()
    return x1, y1, x2, y2


class Outlines:
    """Looks which pictures have the annotated outline that they are to be cropped by.

    Args:
        root: the folder `armbench.ROOT`.
        problems: gets `no_outline`, with the keys that are there instead.
    """

    def __init__(self, root: Path, problems: Problems) -> None:
        self._root, self._problems = root, problems
        self._pictures = self._lost = 0
        self._first = ""

    def look(self, pick: str, views: Iterable[str]) -> None:
        """Note the views of a pick that have none.

        Raises:
            ConfigError: if the annotation is not readable.
        """
        folder = self._root / "Picks" / pick
        for view in views:
            self._pictures += 1
            if armbench.polygons(self._root, pick, view):
                continue
            self._lost += 1
            annotation = read_object(folder / "annotation.json")
            keys = (
                f"{key} ({', '.join(value)})" if isinstance(value, dict) and value else key
                for key, value in sorted(annotation.items())
            )
            what = f"no outline in {view}; annotation.json has {', '.join(keys)}"
            self._first = self._first or f"{folder.name}: {what}"
            self._problems.note("no_outline", folder, what, "the whole picture is used")

    def refuse_if_none(self, what: str, fix: str) -> None:
        """Raise when no picture has one: all would be whole, under another name.

        Args:
            what: where the pictures are from.
            fix: how to ask for whole pictures.

        Raises:
            ConfigError: with the keys of the first annotation.
        """
        if self._pictures and self._lost == self._pictures:
            raise ConfigError(
                f"{what}: none of {self._pictures} pictures has an outline, want polygons by view "
                f"in `segmentation`; first: {self._first}",
                fix=fix,
            )
