"""ARMBench's picks as a bag: the same pixels, so the same answers as from the folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from robollm.core.errors import BagError
from robollm.data.armbench_files import write_json
from robollm.data.bag import BagWriter
from robollm.data.problems import Problems
from robollm.eval.folder_picks import (
    VIEWS,
    FolderPick,
    Shot,
    folder_picks,
    kind_of_data,
    manifest_card,
    refuse_if_none,
)
from robollm.eval.progress import SILENT, Progress, stage
from robollm.eval.truth import FORMAT, FORMAT_VERSION

NAMESPACE = "/robollm"


@dataclass(frozen=True, slots=True)
class BagFiles:
    """Where `make_bag` put what, and how many picks there are."""

    bag: Path
    manifest: Path
    truth: Path
    picks: int


def make_bag(
    data: Path,
    out: Path,
    problems: Problems,
    *,
    split: str = "test",
    views: Sequence[str] = VIEWS,
    limit: int = 0,
    storage: Literal["mcap", "sqlite3"] = "mcap",
    progress: Progress = SILENT,
) -> BagFiles:
    """Write picks as bag, manifest.json and truth.json.

    Pictures go into the bag as the bytes of their files. Every pick has a container of its own
    name, whose manifest is ARMBench's `container.json`.

    Args:
        data: see `folder_picks`.
        out: folder to write into; `out/bag` must not exist yet.
        problems: gets what is left out.
        split: see `folder_picks`.
        views: see `folder_picks`.
        limit: at most so many picks; 0: all.
        storage: of the bag.
        progress: is told of every pick; they are counted first.

    Raises:
        ConfigError: if there is no such data, or no pick that can be used.
        BagError: if the bag exists or can't be written.
        EvalError: if a view or the split is not known.
    """
    files = BagFiles(out / "bag", out / "manifest.json", out / "truth.json", 0)
    for path in (files.bag, files.manifest, files.truth):
        if path.exists():
            raise BagError(f"{path} exists already, want a new folder", fix="name another --out")
    with stage(progress, "picks to count", limit or None) as counted:
        total = 0
        for _ in folder_picks(data, Problems(), split=split, views=views, limit=limit):
            total += 1
            counted()
    titles: dict[str, str] = {}
    containers: dict[str, list[str]] = {}
    truth: list[dict[str, Any]] = []
    with BagWriter(files.bag, storage) as bag, stage(progress, "picks", total) as written:
        for pick in folder_picks(data, problems, split=split, views=views, limit=limit):
            _write(bag, pick)
            titles.update({p: pick.titles.get(p, "") for p in pick.manifest})
            containers[pick.id] = list(pick.manifest)
            truth.append(dict(pick.truth))
            written()
        refuse_if_none(len(truth), data, split, problems)
        write_json(files.manifest, manifest_card(titles, containers))
        source = {"kind": kind_of_data(data), "split": split}
        head = {"format": FORMAT, "format_version": FORMAT_VERSION, "source": source}
        write_json(files.truth, {**head, "picks": truth})
    return BagFiles(files.bag, files.manifest, files.truth, len(truth))


def _write(bag: BagWriter, pick: FolderPick) -> None:
    """One pick's messages, in the order of their recording."""
    bag.string(f"{NAMESPACE}/container", pick.id, pick.begin_ns)
    _write_shot(bag, f"{NAMESPACE}/image/compressed", pick.tote)
    bag.pick(
        f"{NAMESPACE}/pick", pick.tote.stamp_ns, pick.tote.frame_id, pick.id, pick.box,
        pick.announced_ns,
    )  # fmt: skip
    for shot in pick.views:
        _write_shot(bag, f"{NAMESPACE}/views/{shot.view}/image/compressed", shot)


def _write_shot(bag: BagWriter, topic: str, shot: Shot) -> None:
    try:
        packed = shot.file.read_bytes()
    except OSError as e:
        raise BagError(f"{shot.file} can't be read: {e.strerror}", fix="fetch it again") from e
    bag.packed(topic, shot.stamp_ns, shot.frame_id, packed, log_ns=shot.log_ns)
