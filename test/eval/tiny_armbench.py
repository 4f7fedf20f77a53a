"""ARMBench's four folders with drawn pictures, small enough to be written in each test session."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robollm.data import armbench_defects as defects
from robollm.data import armbench_identification as picks
from robollm.data import armbench_segmentation as totes
from robollm.data.jpeg import encode

HW = (48, 64)
VIEWS = ("PickRGB", "ToteWallRGB", "OnArmLowRGB")


def picture(*seed: int, hw: tuple[int, int] = (16, 16)) -> bytes:
    """A JPEG unlike any other."""
    rgb = np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)
    return encode(rgb)


def write_totes(
    root: Path, *, images: int = 4, subsets: tuple[str, ...] = totes.SUBSETS[:2], seed: int = 0
) -> None:
    """Rectangles in a tote, apart from each other: 1, 2, 3 ... of them, 8 at most."""
    for s, subset in enumerate(subsets):
        folder = root / totes.ROOT / subset
        (folder / "images").mkdir(parents=True)
        with totes.SplitWriter(folder, "test", {}) as writer:
            for i in range(images):
                labels = np.zeros(HW, np.uint16)
                labels[2:46, 2:62] = 1
                for k in range(1 + i % 8):
                    x, y = 5 + 14 * (k % 4), 5 + 20 * (k // 4)
                    labels[y : y + 15, x : x + 10] = 2 + k
                name = f"{subset[:3]}{i:03}.jpg"
                (folder / "images" / name).write_bytes(picture(seed, s, i, hw=HW))
                categories = {v: totes.TOTE if v == 1 else totes.OBJECT for v in np.unique(labels)}
                categories.pop(0)
                writer.add(name, HW, totes.annotate(labels, categories, {}))


def write_picks(
    root: Path, *, products: int = 6, count: int = 8, manifest: int = 4, references: int = 2
) -> None:
    """Picks of test products, in containers of so many of them."""
    folder = root / picks.ROOT
    names = [f"B{p:03}" for p in range(products)]
    for p, name in enumerate(names):
        picks.write_references(folder, name, [picture(1, p, r) for r in range(references)])
    ids = [f"pick{i:04}" for i in range(count)]
    for i, one in enumerate(ids):
        inside = {names[(i + k) % products]: {"title": f"thing {i + k}"} for k in range(manifest)}
        shown = {view: picture(2, i, v) for v, view in enumerate(VIEWS)}
        if i % 4 == 1:
            del shown["ToteWallRGB"]
        annotation = {"GT_ID": names[i % products], "segmentation": {}}
        picks.write_pick(folder, one, shown, inside, annotation)
    picks.write_split(
        folder, {"train": [], "val": [], "test": ids}, {"train": [], "val": [], "test": names}
    )


def write_defects(root: Path, *, inducts: int = 9, frames: int = 2) -> None:
    """Inducts of each label in turn; a defect shows in the last picture only."""
    folder = root / defects.IMAGE_ROOT
    ids = [f"{i:021}" for i in range(inducts)]
    for i, one in enumerate(ids):
        label = defects.LABELS[i % 3]
        shown = [
            (picture(3, i, k), {"label": label if k == frames - 1 else "nominal",
                                "box": [0, 0, 0, 0] if k else [2, 2, 12, 12]})
            for k in range(frames)
        ]  # fmt: skip
        defects.write_images(folder, one, shown)
    defects.write_lists(folder, {"train": [], "val": [], "test": ids})


def write_videos(root: Path, *, labels: tuple[str, ...] = defects.VIDEO_LABELS) -> None:
    """Ten frames of grey at 5 frames/s each: 2 s."""
    folder = root / defects.VIDEO_ROOT
    ids = [f"v{k}" for k in range(len(labels))]
    for k, (one, label) in enumerate(zip(ids, labels, strict=True)):
        frames = [np.full((*defects.VIDEO_HW, 3), 20 * k + 10 * f, np.uint8) for f in range(10)]
        defects.write_video(folder, one, frames, {"label": label})
    defects.write_lists(folder, {"train": [], "val": [], "test": ids})


def write_all(root: Path) -> Path:
    """All four."""
    write_totes(root)
    write_picks(root)
    write_defects(root)
    write_videos(root)
    return root
