"""Pictures for a page: found, shrunk, and packed into the page itself."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError, FrameError, RobollmError
from robollm.core.picks import Pick
from robollm.data.armbench_videos import SUFFIXES
from robollm.data.images import read_image
from robollm.data.jpeg import encode
from robollm.data.problems import Problems
from robollm.eval.report.bag_pictures import TOTE, Shot, Wanted, bag_picks, bag_pictures, shrunk
from robollm.eval.tasks.folders import find

QUALITY = 78
TOTE_SIDE = 640
"""Longer side of a tote image in the page, px."""
_BAGS = (".mcap", ".db3")


@dataclass(frozen=True, slots=True)
class Outline:
    """Something drawn over a picture.

    Attributes:
        kind: "truth", "missed", "found", "false", "aside" or "box"; the page's styles draw them.
        d: path of an SVG, in px of the shrunk picture.
        label: what it is; shown when it is pointed at.
    """

    kind: str
    d: str
    label: str


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a card.

    Attributes:
        caption: what is on it.
        uri: the picture itself, "data:image/jpeg;base64,..."; "" if it could not be read.
        width: px, as shrunk.
        height: px, as shrunk.
        outlines: drawn over it.
        missing: why there is no picture.
    """

    caption: str
    uri: str
    width: int
    height: int
    outlines: tuple[Outline, ...] = ()
    missing: str = ""


class Album:
    """Pictures of one dataset.

    Args:
        root: the folder that records' files are relative to; None: not known.

    Attributes:
        picks: folder of picks and reference images; None: there is none.
        problems: pictures that could not be read.
    """

    def __init__(self, root: Path | None) -> None:
        self.root = root
        self.problems = Problems()
        self.picks = self._picks()
        self._bags: dict[str, dict[Wanted, Shot]] = {}
        self._asked: dict[str, list[Pick]] = {}

    def _picks(self) -> Path | None:
        """The folder of picks and reference images, if there is one."""
        try:
            return None if self.root is None else find(self.root).tasks.get("identification")
        except ConfigError:
            return None

    def load(self, file: str | Path, frame: int = 0) -> NDArray[np.uint8] | None:
        """Read one picture, or one frame of a video.

        Args:
            file: relative to the root, or absolute.
            frame: of a video, from 0.

        Returns:
            (H, W, 3) uint8, RGB; None if it can't be read: counted in `problems`.
        """
        path = Path(file) if self.root is None else self.root / file
        try:
            return _frame(path, frame) if path.suffix.lower() in SUFFIXES else read_image(path)
        except RobollmError as e:
            self.problems.note("missing_picture", str(file), e.what.splitlines()[0])
            return None

    def open_bags(
        self,
        wanted: Mapping[str, Collection[Wanted]],
        picks: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> None:
        """Read pictures out of bags ahead, since a bag is best read once.

        Args:
            wanted: bag, relative to the root -> its pictures. A folder that is no bag is passed by,
                what is not there is counted.
            picks: bag -> ids of picks whose tote images are wanted, too.
        """
        for name, some in wanted.items():
            bag = Path(name) if self.root is None else self.root / name
            if name and (bag.suffix in _BAGS or any(f.suffix in _BAGS for f in bag.glob("*.*"))):
                asked = self._asked[name] = bag_picks(bag, picks.get(name, ()), self.problems)
                all_ = {*some, *((TOTE, pick.stamp_ns) for pick in asked)}
                self._bags[name] = bag_pictures(bag, all_, self.problems, side=TOTE_SIDE)
            elif name and not bag.exists():
                self.problems.note("missing_picture", name, f"there is no bag in {bag.parent.name}")

    def from_bag(self, name: str, view: str, stamp_ns: int) -> Shot | None:
        """A picture that `open_bags` has read."""
        return self._bags.get(name, {}).get((view, stamp_ns))

    def pick_of(self, name: str, key: str) -> Pick | None:
        """A pick that `open_bags` has read, by its id or by `ID@STAMP`; the first that fits."""
        asked = self._asked.get(name, ())
        return next((p for p in asked if key in (p.pick_id, f"{p.pick_id}@{p.stamp_ns}")), None)

    def missing(self, caption: str, why: str = "The picture could not be read.") -> Picture:
        """A place for a picture that isn't there."""
        return Picture(caption, "", 320, 200, (), why)


def _frame(path: Path, number: int) -> NDArray[np.uint8]:
    """Read one frame; all before it are passed by, since seeking is not exact everywhere."""
    video = cv2.VideoCapture(str(path))
    try:
        there = all(video.grab() for _ in range(number + 1))
        there, bgr = video.retrieve() if there else (False, None)
    finally:
        video.release()
    if not there or bgr is None:
        raise FrameError(f"{path} has no readable frame {number}", kind="missing_image")
    return np.asarray(bgr[:, :, ::-1], np.uint8)


def scale_of(hw: tuple[int, int], side: int) -> float:
    """Factor that brings a picture's longer side to at most `side` px."""
    return min(1.0, side / max(*hw, 1))


def pack(
    image: NDArray[np.uint8], caption: str, side: int, outlines: tuple[Outline, ...] = ()
) -> Picture:
    """Shrink and compress a picture.

    Args:
        image: (H, W, 3) uint8, RGB.
        caption: see `Picture`.
        side: of the longer side afterwards at most, px.
        outlines: in px of the shrunk picture.
    """
    image = shrunk(image, side).image
    packed = base64.b64encode(encode(np.ascontiguousarray(image), QUALITY)).decode()
    return Picture(
        caption, f"data:image/jpeg;base64,{packed}", image.shape[1], image.shape[0], outlines
    )


def crop(
    image: NDArray[np.uint8], box: tuple[float, ...] | None, margin: float = 0.0
) -> NDArray[np.uint8]:
    """The part of a picture within a box (x1, y1, x2, y2), px; all of it without a box."""
    if box is None:
        return image
    h, w = image.shape[:2]
    x1, y1, x2, y2 = box
    dx, dy = (x2 - x1) * margin, (y2 - y1) * margin
    left, top = int(np.clip(x1 - dx, 0, w - 1)), int(np.clip(y1 - dy, 0, h - 1))
    right = int(np.clip(np.ceil(x2 + dx), left + 1, w))
    bottom = int(np.clip(np.ceil(y2 + dy), top + 1, h))
    return image[top:bottom, left:right]
