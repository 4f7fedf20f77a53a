"""Reads ARMBench's segmentation splits as they are found: tolerant, and everything bad is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.data.armbench_segmentation import read_split
from robollm.data.problems import Problems

_OUTSIDE_PX = 1.0  # boxes that leave the image by less are rounding


@dataclass(frozen=True, slots=True)
class Instance:
    """One annotation that can be used.

    Attributes:
        id: of the annotation, as the file has it.
        category: its name, as the file's `categories` has it.
        box: (x1, y1, x2, y2), source px, inside the image.
        segmentation: polygons, each (2 n,) float32 of x1, y1, x2, y2, ... in px, or run lengths
            {"size": [height, width], "counts": ...}.
        area: of the mask, px.
        crowd: whether it stands for several objects that were not told apart.
        visibility: share of it that nothing hides; 1 where the file doesn't say, as ARMBench's.
    """

    id: int | str
    category: str
    box: tuple[float, float, float, float]
    segmentation: list[NDArray[np.float32]] | dict[str, Any]
    area: float
    crowd: bool
    visibility: float = 1.0


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a split, with its annotations; it may have none.

    Attributes:
        id: as the file has it.
        path: of the picture.
        hw: (height, width), px, as the file says.
        instances: in the file's order.
        scene: name of what it shares with other images, which are then no independent cases: `drop`
            of the image's entry, as `robollm sim dataset` writes it; "": it stands alone.
    """

    id: int | str
    path: Path
    hw: tuple[int, int]
    instances: tuple[Instance, ...]
    scene: str = ""


def read_instances(
    file: Path, problems: Problems, *, images: Path | None = None
) -> list[ImageRecord]:
    """Read a split; what can't be used is named, counted and left out.

    Kinds of problems: `bad_image_entry`, `repeated_image`, `missing_image`, `orphan_annotation`,
    `unknown_category`, `degenerate_box`, `outside_box`, `clipped_box` (partly outside: cut and
    used), `empty_segmentation`, `bad_segmentation`.

    Args:
        file: `SPLIT.json` or `SPLIT-rle.json`.
        problems: takes what is wrong, with file and id.
        images: folder of the pictures; None: `images` beside the file.

    Returns:
        By the file's order.

    Raises:
        ConfigError: if it is no COCO file.
    """
    data = read_split(file, _compact)
    folder = file.parent / "images" if images is None else images
    entries = _image_entries(file, data["images"], folder, problems)
    lost = {_key(e.get("id")) for e in data["images"] if isinstance(e, dict)} - set(entries)
    try:
        names = {c["id"]: str(c["name"]) for c in data["categories"]}
    except (KeyError, TypeError) as e:
        raise ConfigError(
            f"{file}: categories are {data['categories']!r:.100}, want id and name of each",
            fix="give a COCO file",
        ) from e
    found: dict[Any, list[Instance]] = {key: [] for key in entries}
    for row in data["annotations"]:
        image = _key(row.get("image_id")) if isinstance(row, dict) else None
        if image in lost:
            continue  # its image has been named
        where = f"{file}: annotation {row.get('id') if isinstance(row, dict) else row!r}"
        if image not in entries:
            problems.note("orphan_annotation", where, f"belongs to image {image}, which is unknown")
            continue
        one = _instance(row, where, names, entries[image][1], problems)
        if one is not None:
            found[image].append(one)
    return [
        ImageRecord(key, path, hw, tuple(found[key]), scene)
        for key, (path, hw, scene) in entries.items()
    ]


def _key(value: Any) -> Any:
    return value if isinstance(value, int | str) else repr(value)


def _image_entries(
    file: Path, rows: Sequence[Any], folder: Path, problems: Problems
) -> dict[Any, tuple[Path, tuple[int, int], str]]:
    out: dict[Any, tuple[Path, tuple[int, int], str]] = {}
    for row in rows:
        try:
            key, path = _key(row["id"]), folder / row["file_name"]
            hw = (int(row["height"]), int(row["width"]))
        except (KeyError, TypeError, ValueError) as e:
            problems.note("bad_image_entry", file, f"image {row!r:.100} has a wrong {e}")
            continue
        where = f"{file}: image {key}"
        if key in out:
            problems.note("repeated_image", where, f"{path.name} has the id of {out[key][0].name}")
        elif min(hw) < 1:
            problems.note("bad_image_entry", where, f"{path.name} is {hw[1]}x{hw[0]} px")
        elif not path.is_file():
            problems.note("missing_image", where, f"{path} is not there")
        else:
            out[key] = (path, hw, str(row.get("drop", "")))
    return out


def _instance(
    row: dict[str, Any],
    where: str,
    names: Mapping[Any, str],
    hw: tuple[int, int],
    problems: Problems,
) -> Instance | None:
    category = names.get(row.get("category_id"))
    if category is None:
        want = ", ".join(map(str, names))
        problems.note(
            "unknown_category", where, f"has category {row.get('category_id')}, want one of {want}"
        )
        return None
    box = _clipped(row.get("bbox"), where, hw, problems)
    if box is None:
        return None
    mask: Any = row.get("segmentation")
    counted = mask.get("counts") if isinstance(mask, dict) else mask
    if not counted:
        problems.note("empty_segmentation", where, f"has the segmentation {mask!r:.60}")
        return None
    fits = _fits(mask, hw) if isinstance(mask, dict) else isinstance(mask, tuple)
    if not fits:
        problems.note(
            "bad_segmentation",
            where,
            f"has the segmentation {mask!r:.60}, want polygons of 3 points and more, or run "
            f"lengths of {hw[0]}x{hw[1]} px",
        )
        return None
    read = mask if isinstance(mask, dict) else list(mask)
    area = row.get("area")
    size = float(area) if isinstance(area, int | float) else (box[2] - box[0]) * (box[3] - box[1])
    seen = row.get("visibility")
    return Instance(
        row.get("id", -1),
        category,
        box,
        read,
        size,
        bool(row.get("iscrowd", 0)),
        float(seen) if isinstance(seen, int | float) else 1.0,
    )


def _clipped(
    box: Any, where: str, hw: tuple[int, int], problems: Problems
) -> tuple[float, float, float, float] | None:
    try:
        x, y, w, h = (float(v) for v in box)
    except (TypeError, ValueError):
        x, y, w, h = (float("nan"),) * 4
    if not (np.isfinite((x, y, w, h)).all() and w > 0 and h > 0):
        problems.note("degenerate_box", where, f"has the box {box}, want x, y, width, height > 0")
        return None
    inside = (max(x, 0.0), max(y, 0.0), min(x + w, float(hw[1])), min(y + h, float(hw[0])))
    out = max(inside[0] - x, inside[1] - y, x + w - inside[2], y + h - inside[3])
    gone = inside[2] <= inside[0] or inside[3] <= inside[1]
    if gone or out >= _OUTSIDE_PX:
        problems.note(
            "outside_box" if gone else "clipped_box",
            where,
            f"has the box {box} in an image of {hw[1]}x{hw[0]} px",
            "skipped" if gone else "clipped",
        )
    return None if gone else inside


def _fits(mask: dict[str, Any], hw: tuple[int, int]) -> bool:
    size = mask.get("size")
    return isinstance(size, list) and size == list(hw) and isinstance(mask["counts"], str | list)


def _compact(row: dict[str, Any]) -> dict[str, Any]:
    """Sound polygons become a tuple of arrays: ARMBench's would take gigabytes as Python's numbers.

    What isn't sound stays as it is, and is named later.
    """
    mask = row.get("segmentation")
    polygons = _polygons(mask) if isinstance(mask, list) else None
    return row if polygons is None else {**row, "segmentation": polygons}


def _polygons(mask: list[Any]) -> tuple[NDArray[np.float32], ...] | None:
    out = []
    for polygon in mask:
        try:
            points = np.asarray(polygon)
        except ValueError:  # lists of different lengths
            return None
        if points.dtype.kind not in "iuf" or points.ndim != 1 or len(points) < 6 or len(points) % 2:
            return None
        with np.errstate(over="ignore"):
            points = points.astype(np.float32)
        if not np.isfinite(points).all():
            return None
        out.append(points)
    return tuple(out)
