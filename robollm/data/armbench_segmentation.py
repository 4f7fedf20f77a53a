"""ARMBench's segmentation folders: COCO files whose masks are polygons, and our exact sibling.

Layout: `armbench-segmentation-0.1/SUBSET/{train,val,test}.json` and `SUBSET/images/ID.jpg`. Boxes
and areas are those of the exact mask. ARMBench has polygons only; a polygon can't say every mask,
so beside `SPLIT.json` there is `SPLIT-rle.json`: the same ids and boxes, masks as exact run
lengths. Extra keys of ours (`visibility`, `amodal_bbox`, ...) are ignored by COCO readers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.core.masks import encode_rle

ROOT = "armbench-segmentation-0.1"
MIX, ZOOMED_OUT, SAME_OBJECT = (
    "mix-object-tote",
    "zoomed-out-tote-transfer-set",
    "same-object-transfer-set",
)
SUBSETS = (MIX, ZOOMED_OUT, SAME_OBJECT)
TOTE, OBJECT = 1, 2
CATEGORIES = [
    {"id": TOTE, "name": "Tote", "supercategory": "Tote"},
    {"id": OBJECT, "name": "Object", "supercategory": "Object"},
]

_MIN_HOLE_PX = 1  # holes smaller than this are lost in polygons
_EPSILON_PX = 0.5  # how far a polygon may leave the pixels' edges


def compress_rle(counts: Sequence[int]) -> str:
    """Pack run lengths into COCO's text form.

    Args:
        counts: as `core.masks.encode_rle` returns them.

    Source: pycocotools maskApi.c, rleToString: 5 bits per character, differences to the run
        before the last one.
    """
    out = bytearray()
    for i, count in enumerate(counts):
        x = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            low = x & 31
            x >>= 5
            more = x != (-1 if low & 16 else 0)
            out.append((low | 32 if more else low) + 48)
    return out.decode("ascii")


def outlines(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Polygons of a mask, along the edges of its pixels.

    COCO's polygons know no holes, so a region with a hole is cut in two through the hole.

    Args:
        mask: (H, W) bool, with at least one pixel set.

    Returns:
        Polygons [x1, y1, x2, y2, ...], px, of at least three points each.
    """
    ys, xs = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    x0, y0 = int(xs[0]), int(ys[0])
    window = mask[y0 : ys[-1] + 1, x0 : xs[-1] + 1].astype(np.uint8)
    return _trace(window, x0, y0)


def _trace(window: NDArray[np.uint8], x0: int, y0: int) -> list[list[float]]:
    # At twice the size, both sides of a pixel have a contour point of their own.
    double = np.repeat(np.repeat(window, 2, axis=0), 2, axis=1)
    found, tree = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    contours = [np.asarray(c, np.int32) for c in found]
    out: list[list[float]] = []
    for i, contour in enumerate(contours):
        if tree[0][i][3] >= 0:
            continue  # the edge of a hole; seen from its parent
        hole = _largest_hole(contours, tree[0], i)
        if hole is None:
            out.append(_polygon(contour, x0, y0))
            continue
        region = np.zeros_like(double)
        cv2.drawContours(region, contours, i, 1, cv2.FILLED, hierarchy=tree, maxLevel=1)
        # OpenCV fills a hole's rim too: those pixels belong to the region, as they do here.
        bits = (region & double)[::2, ::2]
        left, right = bits.copy(), bits.copy()
        left[:, hole:], right[:, :hole] = 0, 0
        out += _trace(left, x0, y0) + _trace(right, x0, y0)
    return out


def _largest_hole(
    contours: Sequence[NDArray[np.int32]], tree: NDArray[np.int32], parent: int
) -> int | None:
    """The column through the middle of the largest hole worth a cut, or None."""
    best, column, child = 4.0 * _MIN_HOLE_PX, None, int(tree[parent][2])
    while child >= 0:
        x, _, w, h = cv2.boundingRect(contours[child])
        if (w - 2) * (h - 2) >= best:  # the contour lies on the pixels around the hole
            best, column = float((w - 2) * (h - 2)), (x + w // 2) // 2
        child = int(tree[child][0])
    return column


def _polygon(contour: NDArray[np.int32], x0: int, y0: int) -> list[float]:
    edge: NDArray[np.int32] = (
        contour.reshape(-1, 2) + 1
    ) // 2  # left and upper sides round down, the others up
    edge = edge[np.any(edge != np.roll(edge, 1, axis=0), axis=1)]
    smooth = cv2.approxPolyDP(edge.astype(np.int32)[:, None], _EPSILON_PX, closed=True)
    points = smooth.reshape(-1, 2) if len(smooth) >= 3 else edge
    return [float(v) for v in (points + np.array((x0, y0))).ravel()]


def annotate(
    labels: NDArray[np.uint16], categories: Mapping[int, int], extras: Mapping[int, dict[str, Any]]
) -> list[dict[str, Any]]:
    """COCO annotations of one label map, without ids.

    Args:
        labels: (H, W) uint16.
        categories: value in `labels` -> category id; other values are background.
        extras: value -> more keys for its annotation.

    Returns:
        One dict per value that has a pixel, by value; `segmentation` holds polygons, `rle` the
        exact mask. The box is [x, y, width, height], px; the area counts pixels.
    """
    out = []
    for value in sorted(categories):
        mask = labels == value
        if not mask.any():
            continue
        xs, ys = np.nonzero(mask.any(0))[0], np.nonzero(mask.any(1))[0]
        box = [xs[0], ys[0], xs[-1] - xs[0] + 1, ys[-1] - ys[0] + 1]
        out.append(
            {
                "category_id": categories[value],
                "bbox": [float(v) for v in box],
                "area": int(mask.sum()),
                "iscrowd": 0,
                "segmentation": outlines(mask),
                "rle": {"size": list(mask.shape), "counts": compress_rle(encode_rle(mask))},
                **extras.get(value, {}),
            }
        )
    return out


class SplitWriter:
    """Writes `SPLIT.json` and `SPLIT-rle.json` image by image; nothing piles up in memory.

    Use it in a `with` block: the files are there, complete, when it ends without an error.
    """

    def __init__(self, folder: Path, split: str, info: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = (folder / f"{split}.json", folder / f"{split}-rle.json")
        self._files: list[IO[str]] = []
        self._info = dict(info)
        self._images: list[dict[str, Any]] = []
        self._annotations = 0

    def __enter__(self) -> SplitWriter:
        self._files = [p.with_name(f".{p.name}.tmp").open("w") for p in self._paths]
        head = {"info": self._info, "licenses": [], "categories": CATEGORIES}
        for f in self._files:
            f.write(json.dumps(head)[:-1] + ', "annotations": [')
        return self

    def add(self, file_name: str, hw: tuple[int, int], annotations: Sequence[dict[str, Any]],
            **extra: Any) -> None:  # fmt: skip
        """Add an image and what `annotate` returned for it; ids count from 1."""
        image_id = len(self._images) + 1
        self._images.append(
            {"id": image_id, "file_name": file_name, "height": hw[0], "width": hw[1], **extra}
        )
        for one in annotations:
            self._annotations += 1
            row = {"id": self._annotations, "image_id": image_id, **one}
            rle = row.pop("rle")
            comma = ",\n" if self._annotations > 1 else "\n"
            self._files[0].write(comma + json.dumps(row))
            self._files[1].write(comma + json.dumps({**row, "segmentation": rle}))

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        for f, path in zip(self._files, self._paths, strict=True):
            with f:
                if kind is None:
                    f.write('\n], "images": ' + json.dumps(self._images) + "}\n")
            part = path.with_name(f".{path.name}.tmp")
            if kind is None:
                part.replace(path)
            else:
                part.unlink(missing_ok=True)


def read_split(
    file: Path, change: Callable[[dict[str, Any]], dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Read one COCO file.

    Args:
        file: `SPLIT.json` or `SPLIT-rle.json`.
        change: gets every JSON object as soon as it has been read; gives what takes its place.

    Raises:
        ConfigError: if it is not one; says which key is missing.
    """
    try:
        data = json.loads(file.read_bytes(), object_hook=change)
    except (OSError, ValueError) as e:
        raise ConfigError(f"{file} is not readable JSON: {e}", fix="fetch it again") from e
    want = {"images", "annotations", "categories"}
    have = set(data) if isinstance(data, dict) else set()
    if not want <= have:
        raise ConfigError(
            f"{file} has the keys {sorted(have)}, want {sorted(want)}", fix="give a COCO file"
        )
    return dict(data)
