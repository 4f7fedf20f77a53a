"""Tiny ARMBench segmentation folders for tests: drawn shapes, a few kB."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from robollm.data import armbench_segmentation as layout
from robollm.data import jpeg

HW = (96, 128)
EXTRA = 7


def scene(number: int, items: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 RGB and (H, W) uint16: 1 is the tote, from 2 on items, that may overlap."""
    rng = np.random.default_rng([number, 77])
    rgb = np.full((*HW, 3), 40, np.uint8)
    labels = np.zeros(HW, np.uint16)
    cv2.rectangle(rgb, (4, 4), (123, 91), (90, 80, 70), -1)
    labels[4:92, 4:124] = 1
    for i in range(items):
        centre = (int(20 + 88 * (i + 0.5) / max(items, 1)), int(rng.integers(30, 66)))
        axes = tuple(int(v) for v in rng.integers(10, 20, 2))
        colour = tuple(int(v) for v in rng.integers(110, 256, 3))
        mask = np.zeros(HW, np.uint8)
        if i % 2:
            cv2.ellipse(mask, centre, axes, 0, 0, 360, 1, -1)
        else:
            low = (centre[0] - axes[0], centre[1] - axes[1])
            cv2.rectangle(mask, low, (centre[0] + axes[0], centre[1] + axes[1]), 1, -1)
        rgb[mask > 0] = colour
        labels[mask > 0] = 2 + i
    return rgb, labels


def write_totes(root: Path, images: int = 3, split: str = "train", items: int = 4) -> Path:
    """Write a split of `images` pictures and one without annotations; return its folder."""
    folder = root / layout.ROOT / layout.MIX
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with layout.SplitWriter(folder, split, {"description": "drawn"}) as writer:
        for i in range(images):
            rgb, labels = scene(i, items)
            name = f"{split}{i}.jpg"
            (folder / "images" / name).write_bytes(jpeg.encode(rgb, 95))
            categories = {1: layout.TOTE} | {2 + k: layout.OBJECT for k in range(items)}
            writer.add(name, HW, layout.annotate(labels, categories, {}))
        name = f"{split}-empty.jpg"
        (folder / "images" / name).write_bytes(jpeg.encode(np.full((*HW, 3), 60, np.uint8)))
        writer.add(name, HW, [])
    return folder


def edited(root: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A split of its own whose JSON was changed; the pictures are those of `root`."""
    here, there = folder / layout.MIX, root / layout.ROOT / layout.MIX
    here.mkdir(parents=True, exist_ok=True)
    (here / "images").symlink_to(there / "images")
    data = json.loads((there / "train.json").read_text())
    change(data)
    (here / "train.json").write_text(json.dumps(data))
    return folder
