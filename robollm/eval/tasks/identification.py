"""Identification: every pick of a split becomes queries of one view, of three, and of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from robollm.core.errors import ConfigError, FrameError
from robollm.core.frame import Frame
from robollm.data.armbench_picks import CROPS, SPLITS, Outlines, outline_box, split_picks
from robollm.data.images import read_image
from robollm.data.problems import Problems
from robollm.eval.predictors import N3, Predictor
from robollm.eval.records import IdentificationRecord, pack_vector
from robollm.eval.tasks.choose import spread
from robollm.eval.tasks.folders import refuse_empty
from robollm.runtime.pixels import Region
from robollm.runtime.timing import Laps


@dataclass(frozen=True, slots=True)
class PickJob:
    """One pick.

    Attributes:
        key: Pick-ID.
        root: the folder that `files` are relative to.
        folder: of identification.
        truth: the true product.
        manifest: products of its container.
        files: ARMBench's name of a view -> picture; those that are there and wanted.
        crop: one of `CROPS`.
    """

    key: str
    root: Path
    folder: Path
    truth: str
    manifest: tuple[str, ...]
    files: Mapping[str, str]
    crop: str

    def failed(self, error: dict[str, str]) -> IdentificationRecord:
        """The record without an answer."""
        return IdentificationRecord(
            key=self.key,
            truth=self.truth,
            manifest=list(self.manifest),
            files=dict(self.files),
            error=error,
        )


def jobs(
    root: Path,
    folder: Path,
    split: str,
    problems: Problems,
    *,
    views: Sequence[str] = N3,
    crop: str = "image",
    limit: int = 0,
) -> list[PickJob]:
    """List the picks of a split.

    Args:
        root: the folder that files are named relative to.
        folder: of identification.
        split: "test", "val" or "train"; the last two are ARMBench's training picks, by product.
        problems: gets what `split_picks` finds, `missing_view` (the pick is asked without it), and
            `no_outline` (the whole picture is asked with).
        views: ARMBench's names of the views to look at.
        crop: "image": the whole picture, as the devkit; "segment": the annotated outline's box.
        limit: at most so many, evenly spread; 0: all.

    Raises:
        ConfigError: for an unknown split or crop, a damaged file, or if no pick can be used, or
            none has an outline to crop by.
    """
    if split not in SPLITS or crop not in CROPS:
        raise ConfigError(
            f"split {split!r}, crop {crop!r}; want one of {', '.join(SPLITS)}, and of "
            f"{', '.join(CROPS)}",
            fix="correct the option",
        )
    refuse_empty("identification", folder, split)
    picks = list(split_picks(folder, split, problems, keep_learned=True))
    problems.refuse_if_empty(len(picks), f"{folder}, split {split}", "check the data folder")
    out, outlines = [], Outlines(folder, problems)
    for pick in spread(picks, limit):
        files = {v: str(pick.views[v].relative_to(root)) for v in views if v in pick.views}
        for view in (v for v in views if v not in pick.views):
            where = folder / "Picks" / pick.id
            problems.note("missing_view", where, f"there is no {view}.jpg", "asked without it")
        if crop == "segment":
            outlines.look(pick.id, files)
        out.append(PickJob(pick.id, root, folder, pick.truth, pick.manifest, files, crop))
    outlines.refuse_if_none(
        f"{folder}, split {split}", "--pick-crop image: whole pictures, as ARMBench's devkit"
    )
    return out


class PickDesk:
    """Answers the jobs of one process.

    Args:
        predictor: who is asked.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._stamps = count(1)  # no two pictures are one to a memory of features

    def run(self, job: PickJob) -> IdentificationRecord:
        """Answer one job; a view that can't be read is absent from the answer.

        Raises:
            FrameError: if no view can be read; that of the first one.
            InferenceError: if the model fails.
        """
        laps = Laps()
        seen: dict[str, Region] = {}
        missed: list[FrameError] = []
        with laps.stage("read"):
            for name, file in job.files.items():
                try:
                    seen[name] = self._region(job, name, job.root / file)
                except FrameError as e:
                    missed.append(e)
        if not seen:
            raise next(iter(missed), FrameError(f"pick {job.key} has no view", kind="no_view"))
        vectors = self._predictor.embed(seen, job.truth, laps)
        return IdentificationRecord(
            key=job.key,
            truth=job.truth,
            manifest=list(job.manifest),
            files=dict(job.files),
            vectors={name: pack_vector(vector) for name, vector in vectors.items()},
            ms=laps.ms,
        )

    def _region(self, job: PickJob, view: str, file: Path) -> Region:
        frame = Frame(read_image(file), "rgb", stamp_ns=next(self._stamps), stream=view)
        box = outline_box(job.folder, job.key, view) if job.crop == "segment" else None
        region = Region(frame, box)
        region.window  # noqa: B018 - a box outside the picture is found here
        return region

    def close(self) -> None:
        """Let go of the model."""
        self._predictor.close()
