"""The picks of one split, with manifests and views: what somebody evaluates or calibrates on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robollm.core.errors import ConfigError
from robollm.data import armbench_identification as armbench
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
