"""A tiny world in ARMBench's three layouts: coloured, striped boxes, drawn in a second."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.data import armbench_defects as defects
from robollm.data import armbench_identification as identification
from robollm.data import armbench_segmentation as segmentation
from robollm.data.jpeg import encode

SIDE = 64
Picture = NDArray[np.uint8]


def product_id(k: int) -> str:
    return f"B{k:09d}"


def draw_product(k: int, rng: np.random.Generator, side: int = SIDE) -> Picture:
    """Two neighbouring products share a colour, and differ by their stripes."""
    hue = np.array([[[(k // 2) * 37 % 180, 200, 210]]], np.uint8)
    colour = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    image = rng.integers(60, 90, (side, side, 3), np.uint8)
    x, y = rng.integers(2, side // 5, 2)
    x2, y2 = side - rng.integers(2, side // 5), side - rng.integers(2, side // 5)
    cv2.rectangle(image, (int(x), int(y)), (int(x2), int(y2)), colour, -1)
    for i in range(2 + k % 5):
        at = int(x + (x2 - x) * (i + 1) / (3 + k % 5))
        ends = ((at, int(y) + 3), (at, int(y2) - 3))
        cv2.line(image, *(ends if k % 2 else tuple(e[::-1] for e in ends)), (20, 20, 20), 2)
    return image


def draw_tote(
    rng: np.random.Generator, hw: tuple[int, int], items: int
) -> tuple[Picture, NDArray[np.uint16]]:
    """An image of boxes, and its label map: 1 the tote, then items."""
    h, w = hw
    image = rng.integers(70, 90, (h, w, 3), np.uint8)
    labels = np.zeros(hw, np.uint16)
    cv2.rectangle(image, (2, 2), (w - 3, h - 3), (90, 90, 110), -1)
    labels[2 : h - 2, 2 : w - 2] = 1
    for i in range(items):
        bw, bh = rng.integers(w // 6, w // 3), rng.integers(h // 6, h // 3)
        x, y = int(rng.integers(4, w - bw - 4)), int(rng.integers(4, h - bh - 4))
        colour = [int(v) for v in rng.integers(100, 255, 3)]
        image[y : y + bh, x : x + bw] = colour
        labels[y : y + bh, x : x + bw] = i + 2
    return image, labels


def write_totes(
    root: Path, seed: int = 0, images: int = 6, hw: tuple[int, int] = (96, 128)
) -> None:
    rng = np.random.default_rng([seed, 1])
    folder = root / segmentation.ROOT / segmentation.MIX
    for split, count in (("train", images), ("val", 3), ("test", 2)):
        with segmentation.SplitWriter(folder, split, {}) as out:
            for k in range(count):
                image, labels = draw_tote(rng, hw, 3)
                name = f"{split}{k:04d}.jpg"
                (folder / "images").mkdir(parents=True, exist_ok=True)
                (folder / "images" / name).write_bytes(encode(image))
                kinds = {1: segmentation.TOTE, **dict.fromkeys(range(2, 5), segmentation.OBJECT)}
                out.add(name, hw, segmentation.annotate(labels, kinds, {}))


def write_picks(root: Path, seed: int = 0, products: int = 12, per_product: int = 3) -> None:
    rng = np.random.default_rng([seed, 2])
    folder = root / identification.ROOT
    split_of = {k: "train" if k < products - 6 else "val" if k < products - 3 else "test"
                for k in range(products)}  # fmt: skip
    picks: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    ids: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for k, split in split_of.items():
        ids[split].append(product_id(k))
        references = [encode(draw_product(k, rng)) for _ in range(2)]
        identification.write_references(folder, product_id(k), references)
        near = [j for j, s in split_of.items() if s == split]
        for _ in range(per_product):
            pick = f"{int(rng.integers(10**15)):021d}"
            picks[split].append(pick)
            views = ["PickRGB", *(v for v in ("OnArmLowRGB", "ToteWallRGB") if rng.random() < 0.7)]
            pictures = {v: encode(draw_product(k, rng)) for v in views}
            box = [[4.0, 4.0, 60.0, 4.0, 60.0, 60.0, 4.0, 60.0]]
            container = {product_id(j): {"title": f"Brand{j // 2} Box, type {j}"} for j in near}
            identification.write_pick(
                folder, pick, pictures, container,
                {"GT_ID": product_id(k), "segmentation": dict.fromkeys(views, box)},
            )  # fmt: skip
    identification.write_split(folder, picks, ids)


def write_inducts(root: Path, seed: int = 0, inducts: int = 18) -> None:
    rng = np.random.default_rng([seed, 3])
    folder = root / defects.IMAGE_ROOT
    ids: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for n in range(inducts):
        label = defects.LABELS[n % 3]
        induct = f"{int(rng.integers(10**15)):021d}"
        ids["train" if n < inducts - 9 else "val" if n < inducts - 3 else "test"].append(induct)
        rows = []
        for _ in range(2):
            image = draw_product(n % 7, rng)
            if label == "multi_pick":
                image[:, SIDE // 2 :] = draw_product(n % 7 + 3, rng)[:, SIDE // 2 :]
            elif label == "package_defect":
                cv2.circle(image, (SIDE // 2, SIDE // 2), SIDE // 4, (250, 250, 250), -1)
            annotation = {"label": label, "box": [2, 2, 62, 62], "polygons": []}
            rows.append((encode(image), annotation))
        defects.write_images(folder, induct, rows)
    defects.write_lists(folder, ids)


def write_world(root: Path, seed: int = 0) -> Path:
    """All three folders under `root`."""
    write_totes(root, seed)
    write_picks(root, seed)
    write_inducts(root, seed)
    return root
