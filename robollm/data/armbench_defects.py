"""ARMBench's two defect folders: single images, and videos.

Images: `armbench-defects-image-0.1/{train,test}.csv` (one column of induct ids, no header) and
`data/INDUCT/INDUCT_K.{jpg,json}`. Videos: `armbench-defects-video-0.1/{train,test}.csv`,
`videos/ID.mp4` of 1280x560 px and `annotations/ID.json`. ARMBench has no validation split: ours
counts as training in the csv and is named in `val.csv` beside it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.data.armbench_files import part_of, read_object, write_bytes, write_json

IMAGE_ROOT = "armbench-defects-image-0.1"
VIDEO_ROOT = "armbench-defects-video-0.1"
LABELS = ("multi_pick", "nominal", "package_defect")
"""Of images, in ARMBench's (alphabetical) class order."""
NOMINAL = "nominal"
VIDEO_LABELS = ("nominal", "open", "deconstruction")
VIDEO_HW = (560, 1280)


@dataclass(frozen=True, slots=True)
class Image:
    """One image of an induct as it is on disk.

    `box`: (x1, y1, x2, y2), px, of what is held; None: the whole image. `product`: Product-ID if
    the annotation tells it, else "". `box_form`: as the box is written, see
    `armbench_defect_boxes`; "": there is none, or nobody asked.
    """

    induct: str
    path: Path
    label: str
    box: tuple[int, int, int, int] | None
    product: str = ""
    box_form: str = ""


def write_images(
    root: Path, induct: str, pictures: Sequence[tuple[bytes, Mapping[str, Any]]]
) -> None:
    """Write one induct's folder.

    Args:
        root: the folder `IMAGE_ROOT`.
        induct: 21 digits.
        pictures: JPEG and annotation (`label`, `box`, `polygons`, ...), in order of time.

    Raises:
        ConfigError: if a label is not one of `LABELS`.
    """
    for k, (packed, annotation) in enumerate(pictures):
        if annotation.get("label") not in LABELS:
            raise ConfigError(
                f"image {k} of induct {induct} has the label {annotation.get('label')!r}, "
                f"want one of {', '.join(LABELS)}"
            )
        stem = f"{induct}_{k}"
        write_bytes(root / "data" / induct / f"{stem}.jpg", packed)
        write_json(root / "data" / induct / f"{stem}.json", {"id": stem, **annotation})


def write_lists(root: Path, ids: Mapping[str, Sequence[str]]) -> None:
    """Write `train.csv`, `test.csv` and our `val.csv` from "train", "val" and "test" -> ids."""
    rows = {"train": [*ids["train"], *ids["val"]], "val": ids["val"], "test": ids["test"]}
    for name, column in rows.items():
        write_bytes(root / f"{name}.csv", "".join(f"{one}\n" for one in column).encode())


def read_list(file: Path) -> list[str]:
    """Read the first column of a csv without a header.

    Raises:
        ConfigError: if there is no such file.
    """
    if not file.is_file():
        raise ConfigError(f"there is no {file}", fix="give an ARMBench defects folder")
    with file.open(newline="") as f:
        return [row[0].strip() for row in csv.reader(f) if row and row[0].strip()]


def outer(x1: float, y1: float, x2: float, y2: float) -> tuple[int, int, int, int]:
    """The smallest box of whole pixels around a box."""
    return math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2)


def _box(value: Any) -> tuple[int, int, int, int] | None:
    try:
        x1, y1, x2, y2 = (float(v) for v in value)
        return outer(x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None
    except (OverflowError, TypeError, ValueError):
        return None


def read_images(root: Path, inducts: Sequence[str]) -> Iterator[Image]:
    """Read the images of inducts, frame by frame; a folder that isn't there is passed over.

    Raises:
        ConfigError: if an annotation has no `label`.
    """
    for induct in inducts:
        folder = root / "data" / induct
        files = sorted(folder.glob("*.json"), key=lambda p: (len(p.stem), p.stem))
        for file in files:
            annotation = read_object(file)
            if "label" not in annotation:
                raise ConfigError(
                    f"{file} has the keys {sorted(annotation)}, want label", fix="fetch it again"
                )
            path = file.with_suffix(".jpg")
            if path.is_file():
                yield Image(induct, path, str(annotation["label"]), _box(annotation.get("box")))


def write_video(
    root: Path,
    video: str,
    frames: Sequence[NDArray[np.uint8]],
    annotation: Mapping[str, Any],
    *,
    fps: float = 5.0,
) -> None:
    """Write one video (MPEG-4 part 2) and its annotation.

    Args:
        root: the folder `VIDEO_ROOT`.
        video: its id.
        frames: (560, 1280, 3) uint8, RGB.
        annotation: with `label`.
        fps: frames per second.

    Raises:
        ConfigError: if a label is not one of `VIDEO_LABELS`, a frame has another size, or this
            OpenCV can't write videos.
    """
    if annotation.get("label") not in VIDEO_LABELS:
        raise ConfigError(
            f"video {video} has the label {annotation.get('label')!r}, "
            f"want one of {', '.join(VIDEO_LABELS)}"
        )
    odd = [f.shape for f in frames if f.shape != (*VIDEO_HW, 3)]
    if odd or not frames:
        raise ConfigError(
            f"video {video} has {len(frames)} frames, some of {odd[:1]}; want (560, 1280, 3)"
        )
    path = root / "videos" / f"{video}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path).with_suffix(".tmp.mp4")  # OpenCV chooses the container by the suffix
    height, width = VIDEO_HW
    code = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(part), cv2.CAP_FFMPEG, code, fps, (width, height))
    if not writer.isOpened():
        raise ConfigError(
            "this OpenCV has no FFmpeg, so it can't write videos",
            fix="pip install opencv-python-headless, or leave the task `videos` out",
        )
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    part.replace(path)
    write_json(root / "annotations" / f"{video}.json", {"id": video, **annotation})
