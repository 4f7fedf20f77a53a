"""What is true of a bag: `truth.json`, as the simulator and `eval make-bag` write it.

`{"format": "robollm-truth", "format_version": 1, "picks": [...], "frames": [...]}`. A pick has
`id`, and as far as it is known `product_id`, `in_manifest`, `container`, `label`, `views` (view ->
label of its first picture) and `view_frames` (view -> [{`stamp_ns`, `label`}]). A frame is a tote
image: `stamp_ns`, `hw`, `instances` [{`category`, `bbox`, `segmentation`, `iscrowd`}]. `source` is
`kind` and `split` of the data that a bag was made of.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robollm.core.errors import EvalError, FrameError
from robollm.data.armbench_defects import LABELS
from robollm.data.armbench_instances import Instance
from robollm.data.problems import Problems
from robollm.eval.records import Json
from robollm.metrics.rle import exact_rle

FORMAT = "robollm-truth"
FORMAT_VERSION = 1
FILE = "truth.json"
NO_TRUTH, TRUTH_OF_ANOTHER = "bag_without_truth", "truth_of_another_bag"
_KEPT = ("product_id", "in_manifest", "container", "label", "views", "view_frames")


@dataclass(frozen=True, slots=True)
class ToteTruth:
    """One tote image: (height, width), px, and its instances as records have them."""

    hw: tuple[int, int]
    instances: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class StationTruth:
    """The truth of one bag.

    Attributes:
        path: where it was read; empty: there is none.
        picks: pick id -> what a `PickRecord` keeps.
        frames: stamp of a tote image, ns -> its instances.
        later: (view, stamp, ns) -> (pick id, label) of every picture of a view that is known.
        source: `kind` and `split` of the data that the bag was made of; {}: a recording.
    """

    path: str = ""
    picks: Mapping[str, Json] = field(default_factory=dict)
    frames: Mapping[int, ToteTruth] = field(default_factory=dict)
    later: Mapping[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    source: Mapping[str, str] = field(default_factory=dict)

    def of(self, pick_id: str) -> Json | None:
        """What is known of a pick, for its record; None: nothing."""
        return self.picks.get(pick_id)

    def compare(self, seen: Collection[str], frames: Collection[int], problems: Problems) -> None:
        """Note what only one of truth and bag has.

        Args:
            seen: ids of the picks in the bag.
            frames: stamps of the bag's tote images, ns.
            problems: gets `truth_without_pick`, `pick_without_truth`, `truth_without_frame`, and
                `NO_TRUTH` or `TRUTH_OF_ANOTHER` if nothing of the bag is in it.
        """
        if not self.path:
            problems.note(
                NO_TRUTH, "a bag", f"{len(seen)} picks, and no truth.json in or beside it",
                "answered, not scored",
            )  # fmt: skip
        elif seen and not self.picks.keys() & set(seen) and not self.frames.keys() & set(frames):
            problems.note(
                TRUTH_OF_ANOTHER, self.path, f"none of the {len(seen)} picks of the bag is in it",
                "nothing is scored",
            )  # fmt: skip
        for one in sorted(self.picks.keys() - set(seen)):
            problems.note(
                "truth_without_pick", self.path, f"pick {one} is not in the bag", "not evaluated"
            )
        for one in sorted(set(seen) - self.picks.keys()) if self.path else ():
            problems.note(
                "pick_without_truth", self.path, f"pick {one} is not in the truth",
                "answered, not scored",
            )  # fmt: skip
        for stamp in sorted(self.frames.keys() - set(frames)):
            problems.note(
                "truth_without_frame", self.path, f"no tote image has the stamp {stamp}",
                "not evaluated",
            )  # fmt: skip


def find_truth(bag: Path) -> Path | None:
    """`truth.json` in the bag's folder or beside it; None: there is none."""
    folder = bag if bag.is_dir() else bag.parent
    places = (folder / FILE, folder.parent / FILE)
    return next((p for p in places if p.is_file()), None)


@dataclass(frozen=True, slots=True)
class Bag:
    """One bag to evaluate.

    Attributes:
        path: the bag.
        name: what its records say in `bag`.
        truth: what is known of it.
        prefix: goes before the ids of its picks and the stamps of its tote images, in their keys.
    """

    path: Path
    name: str
    truth: StationTruth
    prefix: str = ""


def read_truth(path: Path) -> StationTruth:
    """Read a truth file.

    Raises:
        EvalError: if it is missing, something else, names a pick twice or a label that is none.
    """
    try:
        card = json.loads(path.read_bytes())
    except (OSError, ValueError) as e:
        raise EvalError(
            f"truth {str(path)!r} is not readable JSON: {e}", fix="give truth.json of this bag"
        ) from e
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        seen = card.get("format") if isinstance(card, dict) else type(card).__name__
        raise EvalError(
            f"truth {str(path)!r} has format {seen!r}, want {FORMAT!r}",
            fix="give truth.json as `robollm eval make-bag` or `robollm demo-data` write it",
        )
    if card.get("format_version") != FORMAT_VERSION:
        raise EvalError(
            f"truth {str(path)!r} has format_version {card.get('format_version')!r}, this robollm "
            f"reads {FORMAT_VERSION}",
            fix="write it again for this version",
        )
    try:
        picks, later = _picks(path, card.get("picks", []))
        frames = {int(row["stamp_ns"]): _tote(row) for row in card.get("frames", [])}
        source = {k: str(v) for k, v in card.get("source", {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError, FrameError) as e:
        raise EvalError(f"truth {str(path)!r} is malformed: {e!r}", fix="write it again") from e
    return StationTruth(str(path), picks, frames, later, source)


def keep_pick(row: Mapping[str, Any], where: str) -> Json:
    """What a record keeps of a pick's row.

    Raises:
        EvalError: for a label that is none.
    """
    views = dict(row.get("views") or {})
    over_time = {v: list(f) for v, f in (row.get("view_frames") or {}).items()}
    shown = [f["label"] for frames in over_time.values() for f in frames]
    for label in (row.get("label"), *views.values(), *shown):
        if label is not None and label not in LABELS:
            raise EvalError(
                f"truth {where!r}, pick {row['id']!r}: label {label!r} is not one of "
                f"{', '.join(LABELS)}",
                fix="correct the label, or leave it null if it is not known",
            )
    return {key: row.get(key) for key in _KEPT} | {"views": views, "view_frames": over_time}


def _picks(
    path: Path, rows: list[Json]
) -> tuple[dict[str, Json], dict[tuple[str, int], tuple[str, str]]]:
    picks: dict[str, Json] = {}
    later: dict[tuple[str, int], tuple[str, str]] = {}
    for row in rows:
        name = str(row["id"])
        if name in picks:
            raise EvalError(f"truth {str(path)!r} has pick {name!r} twice", fix="keep one")
        picks[name] = keep_pick(row, str(path))
        for view, frames in picks[name]["view_frames"].items():
            told = [f for f in frames if f["label"] is not None]
            later |= {(view, int(f["stamp_ns"])): (name, str(f["label"])) for f in told}
    return picks, later


def _tote(row: Mapping[str, Any]) -> ToteTruth:
    h, w = (int(v) for v in row["hw"])
    found = []
    for number, one in enumerate(row["instances"]):
        mask = one["segmentation"]
        polygons = isinstance(mask, list)
        read = [np.asarray(p, np.float32) for p in mask] if polygons else dict(mask)
        x, y, width, height = (float(v) for v in one["bbox"])
        corners = (x, y, x + width, y + height)
        crowd = bool(one.get("iscrowd", 0))
        category = str(one["category"]).lower()
        rle = exact_rle(Instance(number, category, corners, read, 0.0, crowd), (h, w))
        counts = rle["counts"]
        found.append(
            {
                "category": category if category in ("tote", "object") else "other",
                "bbox": [x, y, width, height],
                "segmentation": {
                    "size": [h, w],
                    "counts": counts.decode() if isinstance(counts, bytes) else counts,
                },
                "iscrowd": int(crowd),
            }
        )
    return ToteTruth((h, w), tuple(found))
