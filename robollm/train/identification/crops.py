"""Crops: the outlined object of a pick, and products as they lie in totes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError, FrameError
from robollm.data import armbench_identification as armbench
from robollm.data.armbench_segmentation import MIX, ROOT, read_split
from robollm.data.images import read_image
from robollm.train.engine.augment import Pixels

Wider = tuple[float, float, float, float]
AS_IT_IS: Wider = (0.0, 0.0, 0.0, 0.0)
_MARGIN = 0.05  # of a box's side, on every side of it
_KEPT = ("images", "annotations", "categories", "id", "image_id", "name", "file_name", "bbox",
         "product_id", "visibility")  # fmt: skip


class ToteCrops:
    """Boxes of products in the totes of mix-object-tote's training split.

    ARMBench's annotations don't name products; those of `robollm sim` do, by `product_id`, and say
    which part of the item can be seen, by `visibility`.

    Args:
        data_root: folder that holds `armbench-segmentation-0.1`.
        products: Product-IDs of interest.
        least_px: boxes whose shorter side is smaller are left out, source px.
        visible: so are items of which less can be seen, a share.

    Attributes:
        boxes: Product-ID -> its boxes: (picture, (x1, y1, x2, y2) px).

    Raises:
        ConfigError: if there are no annotations that can be read, or none names a product.
    """

    def __init__(
        self,
        data_root: Path,
        products: Collection[str],
        *,
        least_px: float = 24.0,
        visible: float = 0.3,
    ) -> None:
        wanted, folder = set(products), data_root / ROOT / MIX
        if not (folder / "train.json").is_file():
            raise ConfigError(
                f"{folder} has no train.json, want annotated totes to take pictures from",
                fix="give a folder with both, or set tote_samples=0",
            )
        data = read_split(folder / "train.json", _without_masks)
        paths = {one["id"]: folder / "images" / one["file_name"] for one in data["images"]}
        named = [one for one in data["annotations"] if one.get("product_id")]
        if not named:
            raise ConfigError(
                f"{folder / 'train.json'} names no product in any of its "
                f"{len(data['annotations'])} annotations, want `product_id`, as `robollm sim` "
                "writes it",
                fix="set tote_samples=0 for this data",
            )
        self.boxes: dict[str, list[tuple[Path, tuple[float, ...]]]] = {}
        for one in named:
            x, y, w, h = (float(v) for v in one["bbox"])
            seen = float(one.get("visibility", 1.0)) >= visible and min(w, h) >= least_px
            if seen and one["product_id"] in wanted and one["image_id"] in paths:
                box = (x, y, x + w, y + h)
                self.boxes.setdefault(one["product_id"], []).append((paths[one["image_id"]], box))

    def draw(self, product: str, rng: np.random.Generator) -> tuple[Pixels, str]:
        """Cut out a random box of a product.

        Returns:
            (H, W, 3) uint8, and the picture's name.

        Raises:
            FrameError: if the picture can't be read, or the box lies outside of it.
        """
        of_product = self.boxes[product]
        path, box = of_product[int(rng.integers(len(of_product)))]
        rgb = read_image(path)
        out = _cut(rgb, np.array(box[:2]), np.array(box[2:]))
        if not out.size:
            raise FrameError(
                f"{path}: {product} has the box {box} (x1, y1, x2, y2) in a picture of "
                f"{rgb.shape[1]}x{rgb.shape[0]} px",
                kind="outside_box",
                fix="correct the annotation, or set tote_samples=0",
            )
        return out, path.name


def outlined(
    rgb: Pixels, root: Path, pick: armbench.Pick, view: str, wider: Wider = AS_IT_IS
) -> Pixels:
    """Cut out the annotated outline's box and some of what is around it; all, without outline.

    Args:
        rgb: (H, W, 3) uint8, the view.
        root: ARMBench's identification folder.
        pick: whose outline.
        view: its view's name.
        wider: by how much more on the left, above, right and below, shares of the box's side.

    Raises:
        FrameError: if the outline lies outside the picture.
    """
    outline = armbench.polygons(root, pick.id, view)
    if not outline:
        return rgb
    points = np.concatenate([np.array(one).reshape(-1, 2) for one in outline])
    out = _cut(rgb, points.min(axis=0), points.max(axis=0), wider)
    if not out.size:
        raise FrameError(
            f"the outline in {pick.views[view]} lies outside its {rgb.shape[1]}x{rgb.shape[0]} px",
            kind="outside_outline",
            fix="correct the annotation, or set crop='image'",
        )
    return out


def _cut(rgb: Pixels, low: NDArray[Any], high: NDArray[Any], wider: Wider = AS_IT_IS) -> Pixels:
    size, side = np.array(rgb.shape[1::-1]), high - low
    more = [side * (_MARGIN + np.array(shares)) for shares in (wider[:2], wider[2:])]
    x1, y1 = np.clip(np.floor(low - more[0]), 0, size).astype(int)
    x2, y2 = np.clip(np.ceil(high + more[1]), 0, size).astype(int)
    return rgb[y1:y2, x1:x2]


def _without_masks(entry: dict[str, Any]) -> dict[str, Any]:
    return {k: entry[k] for k in _KEPT if k in entry}


def planes(rgb: Pixels) -> Pixels:
    """(H, W, 3) to (3, H, W)."""
    return np.ascontiguousarray(rgb.transpose(2, 0, 1))
