"""Picks of ARMBench's folders as a station sees them: what is taken when, and what is true."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from robollm.core.errors import EvalError, FrameError
from robollm.core.fuse import OUR_NAMES
from robollm.data.armbench_identification import Pick, find_root
from robollm.data.armbench_picks import SPLITS, split_picks
from robollm.data.images import image_size
from robollm.data.problems import Problems
from robollm.eval.gather import CONTAINER, IMAGE, PICK, VIEW, Heard
from robollm.eval.pictures import FilePicture, Header
from robollm.eval.records import Json
from robollm.eval.tasks.folders import find, refuse_empty

ALL = "all"
VIEWS = ("on_arm_low", "tote_wall")
"""Post-pick views that the nodes expect by default."""
NOMINAL = "nominal"

MS = 1_000_000
EPOCH_NS = 1_760_000_000 * 1_000 * MS  # of the first pick; a fixed one: the same bytes every time
PERIOD_NS = 1_200 * MS  # from one pick to the next
TOTE_NS = 100 * MS  # since the pick's begin: the tote image
ANNOUNCED_NS = 300 * MS  # the message `pick`, when it is executed
SHOWN_NS = 550 * MS  # the first post-pick view
NEXT_VIEW_NS = 50 * MS
LATENCY_NS = 8 * MS  # from a camera's stamp to the recorder

_FILES = {ours: theirs for theirs, ours in OUR_NAMES.items()}


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of a pick: `view` is "image" for the tote's; times in ns; `file` as on disk."""

    view: str
    stamp_ns: int
    log_ns: int
    frame_id: str
    file: Path


@dataclass(frozen=True, slots=True)
class FolderPick:
    """One pick of a dataset on the station's clock.

    Attributes:
        id: Pick-ID; its container has the same name.
        begin_ns: when its container is announced.
        announced_ns: when the pick is announced.
        box: the target in the tote image, (x1, y1, x2, y2) px: all of it, as `PickRGB` is the
            picture of the object already.
        manifest: Product-IDs of its container.
        titles: Product-ID -> title.
        tote: the tote image.
        views: the post-pick pictures that are there, oldest first.
        truth: its row of a `robollm-truth` file.
    """

    id: str
    begin_ns: int
    announced_ns: int
    box: tuple[float, float, float, float]
    manifest: tuple[str, ...]
    titles: Mapping[str, str]
    tote: Shot
    views: tuple[Shot, ...]
    truth: Mapping[str, Any]


def folder_picks(
    data: Path,
    problems: Problems,
    *,
    split: str = "test",
    views: Sequence[str] = VIEWS,
    limit: int = 0,
) -> Iterator[FolderPick]:
    """The picks of a split, in the order of ARMBench's pickle, one after the other on the clock.

    Args:
        data: the folder `armbench-object-id-0.1`, or the one around it. If `truth.jsonl` of our
            simulator lies there, it tells what is wrong with a pick; ARMBench doesn't.
        problems: gets what is left out, and why.
        split: "train", "val", "test" or "all".
        views: post-pick views to show.
        limit: at most so many picks; 0: all.

    Raises:
        ConfigError: if there is no such data, or a file of the split is damaged.
        EvalError: if a view or the split is not known.
    """
    strange = [v for v in views if v == "image" or v not in _FILES]
    if strange or not views or len(set(views)) < len(views):
        known = ", ".join(v for v in _FILES if v != "image")
        raise EvalError(
            f"views are {', '.join(views) or '(none)'}, want some of {known}, each once",
            fix="--views on_arm_low --views tote_wall",
        )
    if split not in (*SPLITS, ALL):
        raise EvalError(
            f"split is {split!r}, want one of {', '.join((*SPLITS, ALL))}", fix="--split test"
        )
    root = find_root(data)
    seen = read_defect_truth(root.parent / "truth.jsonl", problems)
    number = 0
    for part in SPLITS if split == ALL else (split,):
        for pick in split_picks(root, part, problems):
            if limit and number >= limit:
                return
            made = _on_the_clock(pick, number, views, seen, problems)
            if made is not None:
                number += 1
                yield made


def read_defect_truth(file: Path, problems: Problems) -> dict[str, dict[str, str]]:
    """What each view of a pick shows, from the simulator's `truth.jsonl`; none: no such file.

    Returns:
        Pick-ID -> name of the picture -> label.
    """
    found: dict[str, dict[str, str]] = {}
    if not file.is_file():
        return found
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                found[str(row["id"])] = {i["view"]: str(i["label"]) for i in row["images"]}
            except (ValueError, KeyError, TypeError) as e:
                problems.note("bad_truth", f"{file}:{number}", f"not a pick's truth: {e!r}")
    return found


def _on_the_clock(
    pick: Pick,
    number: int,
    views: Sequence[str],
    seen: Mapping[str, Mapping[str, str]],
    problems: Problems,
) -> FolderPick | None:
    file = pick.views.get(_FILES["image"])
    if file is None:
        problems.note("missing_tote_image", f"pick {pick.id}", f"no {_FILES['image']}.jpg")
        return None
    try:
        h, w = image_size(file)
    except FrameError as e:
        problems.note(e.kind, file, e.what)
        return None
    begin = EPOCH_NS + number * PERIOD_NS
    stamp = begin + TOTE_NS
    shots = [
        _shot(view, begin + SHOWN_NS + k * NEXT_VIEW_NS, pick.views[_FILES[view]])
        for k, view in enumerate(views)
        if _has_bytes(pick.views.get(_FILES[view]), problems)
    ]
    labels = seen.get(pick.id, {})
    told = {s.view: labels.get(_FILES[s.view]) for s in shots}
    shown = [label for label in told.values() if label is not None]
    worst = next((label for label in shown if label != NOMINAL), NOMINAL if shown else None)
    truth = {
        "id": pick.id,
        "product_id": pick.truth,
        "label": worst,
        "views": {v: told.get(v) for v in views},
        "view_stamps_ns": {s.view: s.stamp_ns for s in shots},
        "tote_stamp_ns": stamp,
        "container": pick.id,
        "in_manifest": pick.truth in pick.titles,
    }
    return FolderPick(
        pick.id, begin, begin + ANNOUNCED_NS, (0.0, 0.0, float(w), float(h)), pick.manifest,
        pick.titles, _shot("image", stamp, file), tuple(shots), truth,
    )  # fmt: skip


def _has_bytes(file: Path | None, problems: Problems) -> bool:
    if file is None:
        return False
    if file.stat().st_size:
        return True
    problems.note("empty_view", file, "is empty", "answered without it")
    return False


def _shot(view: str, stamp_ns: int, file: Path) -> Shot:
    frame_id = "tote_camera" if view == "image" else view
    return Shot(view, stamp_ns, stamp_ns + LATENCY_NS, f"{frame_id}_optical_frame", file)


def messages(pick: FolderPick) -> Iterator[Heard]:
    """What a station hears of a pick: the very messages that `make_bag` records."""
    x1, y1, x2, y2 = pick.box
    point = SimpleNamespace(x=(x1 + x2) / 2, y=(y1 + y2) / 2)
    center = SimpleNamespace(position=point, theta=0.0)
    box = SimpleNamespace(center=center, size_x=x2 - x1, size_y=y2 - y1)
    header = Header.at(pick.tote.stamp_ns, pick.tote.frame_id)
    asked = SimpleNamespace(header=header, results=[], bbox=box, id=pick.id)
    yield Heard(CONTAINER, CONTAINER, "", SimpleNamespace(data=pick.id), pick.begin_ns)
    yield _heard(IMAGE, pick.tote)
    yield Heard(PICK, PICK, "", asked, pick.announced_ns)
    for shot in pick.views:
        yield _heard(VIEW, shot)


def _heard(role: str, shot: Shot) -> Heard:
    header = Header.at(shot.stamp_ns, shot.frame_id)
    return Heard(role, shot.view, "compressed", FilePicture(header, shot.file), shot.log_ns)


def manifest_card(titles: Mapping[str, str], containers: Mapping[str, Sequence[str]]) -> Json:
    """A manifest file: every pick's container by the pick's own name."""
    return {
        "format": "robollm-manifest",
        "format_version": 1,
        "products": {p: {"title": title} for p, title in sorted(titles.items())},
        "containers": {c: list(products) for c, products in containers.items()},
    }


def kind_of_data(data: Path) -> str:
    """Whose data it is: "armbench", "simulated" or "other", see `tasks.folders.Found`."""
    return find(find_root(data)).kind


def refuse_if_none(count: int, data: Path, split: str, problems: Problems) -> None:
    """Raise when a split has no usable pick.

    Raises:
        ConfigError: names the first problem, or says that there is none in the split's list.
    """
    if not count and split != ALL:
        refuse_empty("identification", find_root(data), split)
    problems.refuse_if_empty(
        count, f"picks of {data}, split {split}", "choose another --split, or fetch the data again"
    )
