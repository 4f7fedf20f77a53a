"""ARMBench's videos of defects: who is in a split, what each shows, and its frames, one by one.

Only the folder names and an `annotations/ID.json` with `id` and `label` are known of the format, so
labels are read in every form that makes sense, and what was met is counted in `forms`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import FrameError
from robollm.data.armbench_defects import NOMINAL, VIDEO_LABELS
from robollm.data.problems import Problems

SUFFIXES = (".mp4", ".avi", ".mkv", ".mov")
_MOST_FPS = 1000.0  # a header that says more, or nothing, is no clock


@dataclass(frozen=True, slots=True)
class Video:
    """One video as it is on disk.

    Attributes:
        id: as in the list.
        path: of the film.
        labels: of `VIDEO_LABELS`; "nominal" alone, or one or both of the defects.
    """

    id: str
    path: Path
    labels: tuple[str, ...]

    @property
    def label(self) -> str:
        """The labels in one word, joined by "+"."""
        return "+".join(self.labels)


def labels_of(value: Any) -> tuple[str, ...]:
    """The labels that an annotation's `label` means; () if it is none.

    One word, several joined by comma, "+", "|" or "and", a list of words, or an object of word ->
    true or false. Case and space around a word don't matter. A defect overrides "nominal".
    """
    if isinstance(value, str):
        for mark in ("+", "|", "&", ";", "/", " and "):
            value = value.replace(mark, ",")
        words = value.split(",")
    elif isinstance(value, Mapping):
        words = [str(k) for k, v in value.items() if v and v != "0"]
        words = words or ([NOMINAL] if value else [])
    elif isinstance(value, Sequence):
        words = [str(v) for v in value]
    else:
        return ()
    found = {w.strip().lower() for w in words} - {""}
    if not found or not found <= set(VIDEO_LABELS):
        return ()
    defects = tuple(label for label in VIDEO_LABELS if label != NOMINAL and label in found)
    return defects or (NOMINAL,)


def scan_videos(
    root: Path, ids: Sequence[str], problems: Problems, forms: Counter[str] | None = None
) -> list[Video]:
    """Find films and labels; what can't be used is skipped and noted, nothing is raised.

    Args:
        root: the folder `armbench_defects.VIDEO_ROOT`.
        ids: as in the list; a file's suffix after an id is taken off.
        problems: gets `missing_video`, `missing_annotation`, `bad_json` (with its line),
            `no_label` and `unknown_label`.
        forms: counts how labels were written: "str", "list", "dict".

    Returns:
        In the order of `ids`.
    """
    out = []
    for one in ids:
        name = one.removesuffix(Path(one).suffix) if Path(one).suffix in SUFFIXES else one
        files = [root / "videos" / f"{name}{suffix}" for suffix in SUFFIXES]
        path = next((f for f in files if f.is_file()), None)
        if path is None:
            problems.note("missing_video", f"video {name}", f"there is no {files[0]}")
            continue
        labels = _labels(root / "annotations" / f"{name}.json", problems, forms)
        if labels:
            out.append(Video(name, path, labels))
    return out


def _labels(file: Path, problems: Problems, forms: Counter[str] | None) -> tuple[str, ...]:
    if not file.is_file():
        problems.note("missing_annotation", file, "there is no such file")
        return ()
    try:
        annotation = json.loads(file.read_bytes())
    except (OSError, ValueError) as e:
        line = getattr(e, "lineno", 1)
        problems.note("bad_json", f"{file}:{line}", f"not readable JSON: {e}")
        return ()
    keys = annotation if isinstance(annotation, dict) else {}
    value = next((keys[k] for k in ("label", "labels") if k in keys), None)
    if value is None:
        problems.note("no_label", file, f"no label in {str(annotation)[:80]}")
        return ()
    labels = labels_of(value)
    if not labels:
        want = ", ".join(VIDEO_LABELS)
        problems.note("unknown_label", file, f"label {value!r:.80}, want one of {want}")
    elif forms is not None:
        forms[type(value).__name__] += 1
    return labels


def planned(
    path: Path, *, per_second: float, most: int, problems: Problems
) -> list[tuple[int, float | None]]:
    """Which frames to look at, evenly spread; by the film's head alone, nothing is decoded.

    Args:
        path: the film.
        per_second: frames wanted of each second; all if the film has fewer.
        most: frames of the film, at most; the step is widened for a longer one.
        problems: gets `no_frame_rate` (frames have no time then, and as many as allowed are
            wanted) and `no_frame_count` (the first frame alone is wanted).

    Returns:
        (number of the frame from 0, s since the first one; None: not known), ascending.

    Raises:
        FrameError: of kind `unreadable_video`, if it can't be opened.
    """
    with closing(Film(path)) as film:
        count, fps = film.count, film.fps
    if not fps:
        problems.note("no_frame_rate", path, "the film tells none", "its frames have no time")
    if not count:
        problems.note("no_frame_count", path, "the film tells none", "its first frame is used")
        return [(0, 0.0 if fps else None)]
    step = max(1.0, fps / per_second if fps else 1.0, count / most)
    numbers = sorted({n for k in range(math.ceil(count / step)) if (n := int(k * step)) < count})
    return [(n, n / fps if fps else None) for n in numbers]


class Film:
    """A film that is read forward, frame by frame; going back opens it again.

    To seek is not exact in every container, so frames on the way are decoded.

    Args:
        path: the film.

    Attributes:
        path: the film.
        fps: frames per second as its head says; 0: it says none.
        count: frames as its head says, maybe more than there are; 0: it says none.

    Raises:
        FrameError: of kind `unreadable_video`, if it can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()
        fps = float(self._film.get(cv2.CAP_PROP_FPS))
        self.fps = fps if math.isfinite(fps) and 0 < fps < _MOST_FPS else 0.0
        self.count = int(max(0.0, self._film.get(cv2.CAP_PROP_FRAME_COUNT)))

    def _open(self) -> None:
        self._film = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        self._next = 0
        if not self._film.isOpened():
            raise FrameError(
                f"{self.path} is no film that can be read",
                kind="unreadable_video",
                fix="fetch it again",
            )

    def frame(self, number: int) -> NDArray[np.uint8]:
        """One frame, (H, W, 3) uint8, RGB.

        Raises:
            FrameError: of kind `truncated_video`, if the film ends before.
        """
        if number < self._next:
            self._film.release()
            self._open()
        while self._next <= number:
            if not self._film.grab():
                raise FrameError(
                    f"{self.path} ends after {self._next} frames, want frame {number} of "
                    f"{self.count}",
                    kind="truncated_video",
                    fix="fetch it again",
                )
            self._next += 1
        good, bgr = self._film.retrieve()
        if not good:
            raise FrameError(
                f"{self.path}: frame {number} can't be decoded",
                kind="corrupt_video",
                fix="fetch it again",
            )
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)

    def close(self) -> None:
        """Let go of the file."""
        self._film.release()
