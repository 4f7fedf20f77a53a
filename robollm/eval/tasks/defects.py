"""Defects: every image of every induct of a split is judged for itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from robollm.core.errors import ConfigError
from robollm.core.frame import NS, Frame
from robollm.data.armbench_defects import Image
from robollm.data.armbench_defects_scan import read_split, scan_images, split_inducts, worst
from robollm.data.images import read_image
from robollm.data.problems import Problems
from robollm.eval.predictors import Predictor
from robollm.eval.records import DefectRecord
from robollm.eval.tasks.choose import spread
from robollm.eval.tasks.folders import check_split, refuse_empty
from robollm.runtime.pixels import Region
from robollm.runtime.timing import Laps

CROPS = ("box", "image")
SIMULATED = "truth.jsonl"
"""Beside our simulator's folders: what happened when, by induct."""
_SHARE = 0.1  # of validation where there is no list of it, as in training


@dataclass(frozen=True, slots=True)
class ImageJob:
    """One image of an induct.

    Attributes:
        root: the folder that `file` is relative to.
        file: of the picture.
        induct: what it is of.
        frame: its number in the induct.
        time_s: since the induct's first picture; None: not known.
        label: what it shows.
        box: what is looked at, (x1, y1, x2, y2) px; None: all of it.
        box_form: as the annotation writes it, see `data.armbench_defect_boxes`; "": it has none.
    """

    root: Path
    file: str
    induct: str
    frame: int
    time_s: float | None
    label: str
    box: tuple[int, int, int, int] | None
    box_form: str = ""

    @property
    def key(self) -> str:
        """INDUCT/FRAME."""
        return f"{self.induct}/{self.frame}"

    def failed(self, error: dict[str, str]) -> DefectRecord:
        """The record without an answer."""
        return self.answered({}, {}, error)

    def answered(
        self,
        probabilities: dict[str, float],
        ms: dict[str, float],
        error: dict[str, str] | None = None,
    ) -> DefectRecord:
        """The record."""
        return DefectRecord(
            key=self.key,
            induct=self.induct,
            frame=self.frame,
            time_s=self.time_s,
            file=self.file,
            label=self.label,
            box=self.box,
            probabilities=probabilities,
            ms=ms,
            error=error,
        )


def jobs(
    root: Path,
    folder: Path,
    split: str,
    problems: Problems,
    *,
    crop: str = "box",
    limit: int = 0,
) -> list[ImageJob]:
    """List the images of a split's inducts.

    Args:
        root: the folder that files are named relative to.
        folder: of defect images.
        split: "test", "val" or "train"; without `val.csv` the last two are those of training.
        problems: gets what `scan_images` finds.
        crop: "box": what is held, as annotated; "image": the whole picture.
        limit: at most so many inducts, evenly spread; 0: all.

    Raises:
        ConfigError: if a list is missing, an induct is in two splits, boxes are written in two
            ways, or nothing can be used.
    """
    if crop not in CROPS:
        raise ConfigError(f"crop {crop!r}, want one of {', '.join(CROPS)}", fix="choose one")
    check_split("defects", folder, split)
    refuse_empty("defects", folder, split)
    ids, final = read_split(folder, split, problems)
    found: Mapping[str, list[Image]]
    boxes = crop == "box"
    if final:
        found = scan_images(folder, spread(ids, limit), problems, boxes=boxes)
    else:
        every = scan_images(folder, ids, problems, boxes=boxes)
        labels = {one: worst([i.label for i in images]) for one, images in every.items()}
        train, val = split_inducts(labels, _SHARE, 0)
        found = {one: every[one] for one in spread(train if split == "train" else val, limit)}
    problems.refuse_if_empty(
        len(found), f"{folder}, split {split}", "check the folder and its lists"
    )
    times = _times(folder.parent / SIMULATED)
    return [
        _job(root, image, _number(image, place), times.get(induct, {}))
        for induct, images in found.items()
        for place, image in enumerate(images)
    ]


class ImageDesk:
    """Answers the jobs of one process.

    Args:
        predictor: who is asked.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._stamps = count(1)  # no two pictures are one to a memory of features

    def run(self, job: ImageJob) -> DefectRecord:
        """Answer one job.

        Raises:
            FrameError: for a picture that can't be read, or a box that is not in it.
            InferenceError: if the model fails.
        """
        laps = Laps()
        with laps.stage("read"):
            rgb = read_image(job.root / job.file)
        region = Region(Frame(rgb, "rgb", stamp_ns=next(self._stamps)), job.box)
        said = self._predictor.inspect(region, job.label, laps)
        return job.answered(said, laps.ms)

    def close(self) -> None:
        """Let go of the model."""
        self._predictor.close()


def _number(image: Image, place: int) -> int:
    """K of INDUCT_K; its place where the name has none."""
    end = image.path.stem.rpartition("_")[2]
    return int(end) if end.isdecimal() else place


def _job(root: Path, image: Image, number: int, times: Mapping[int, float]) -> ImageJob:
    return ImageJob(
        root,
        str(image.path.relative_to(root)),
        image.induct,
        number,
        times.get(number),
        image.label,
        image.box,
        image.box_form,
    )


def _times(file: Path) -> dict[str, dict[int, float]]:
    """Induct -> number of a picture -> s since its first one; ARMBench itself tells none."""
    out: dict[str, dict[int, float]] = {}
    if not file.is_file():
        return out
    with file.open("rb") as lines:
        for line in lines:
            try:
                row = json.loads(line)
                stamps = [int(one["t_ns"]) for one in row["images"]]
                out[str(row["id"])] = {k: (t - stamps[0]) / NS for k, t in enumerate(stamps)}
            except (ValueError, KeyError, TypeError, IndexError):
                continue  # not a row of an induct: its pictures have no times
    return out
