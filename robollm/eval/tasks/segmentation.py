"""Segmentation: every image of a subset's split, its truth, and what is found in it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from robollm.core.errors import ConfigError, FrameError
from robollm.core.frame import Frame
from robollm.data.armbench_instances import ImageRecord, Instance, read_instances
from robollm.data.images import read_image
from robollm.data.problems import Problems
from robollm.eval.predictors import Predictor, rle_json
from robollm.eval.records import Json, SegmentationRecord
from robollm.eval.tasks.choose import spread
from robollm.eval.tasks.folders import check_split, splits_of
from robollm.metrics.rle import exact_rle
from robollm.runtime.timing import Laps

MASKS = {"polygons": "{}.json", "rle": "{}-rle.json"}
KNOWN, OTHER = ("tote", "object"), "other"


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationJob:
    """One image.

    Attributes:
        key: its id.
        root: the folder that `file` is relative to.
        file: of the picture.
        image: with its annotations.
        names: the file's name of a category, in small letters -> "tote" or "object".
        min_area: smaller instances cost nothing, found or not, source px.
        min_visibility: nor do those of which less can be seen, a share.
    """

    key: str
    root: Path
    file: str
    image: ImageRecord
    names: Mapping[str, str]
    min_area: float = 0.0
    min_visibility: float = 0.0

    def truth(self) -> list[Json]:
        """The instances as a record holds them."""
        return [
            _truth(one, self.names, self.image.hw) | {"ignore": int(self._is_spared(one))}
            for one in self.image.instances
        ]

    def _is_spared(self, one: Instance) -> bool:
        return one.area < self.min_area or one.visibility < self.min_visibility

    def content(self) -> bytes:
        """A digest of what `truth` is made of; no mask is drawn for it."""
        digest = hashlib.sha256(f"{self.key} {self.file} {self.image.hw}".encode())
        for one in self.image.instances:
            digest.update(f"{one.category} {one.box} {one.area} {one.crowd}".encode())
            if isinstance(one.segmentation, dict):
                digest.update(repr(sorted(one.segmentation.items())).encode())
            else:
                for polygon in one.segmentation:
                    digest.update(polygon.tobytes())
        return digest.digest()

    def failed(self, error: dict[str, str]) -> SegmentationRecord:
        """The record without an answer."""
        return SegmentationRecord(
            key=self.key,
            file=self.file,
            hw=self.image.hw,
            truth=self.truth(),
            scene=self.image.scene,
            error=error,
        )


def jobs(
    root: Path,
    folder: Path,
    subset: str,
    split: str,
    problems: Problems,
    *,
    masks: str = "polygons",
    names: Mapping[str, str] | None = None,
    min_area: float = 0.0,
    min_visibility: float = 0.0,
    limit: int = 0,
) -> list[SegmentationJob]:
    """List the images of a subset's split.

    Args:
        root: the folder that files are named relative to.
        folder: of segmentation.
        subset: of it.
        split: "test", "val" or "train".
        problems: gets what `read_instances` finds, `bad_segmentation`, `other_category` (kept as
            "other") and `mixed_sizes`.
        masks: "polygons" (`SPLIT.json`, ARMBench's own) or "rle" (`SPLIT-rle.json`, exact).
        names: name of a category -> "tote" or "object"; Tote and Object are so anyway.
        min_area: smaller instances cost nothing, source px; ARMBench counts all.
        min_visibility: so do those of which a smaller share can be seen; 1 where nobody says.
        limit: at most so many, evenly spread; 0: all.

    Raises:
        ConfigError: if there is no such split, no COCO file, nothing usable, or no category is a
            tote or an object.
    """
    check_split("segmentation", folder, split, subset)
    file = folder / subset / MASKS[masks].format(split)
    if not file.is_file():
        raise ConfigError(f"there is no {file}", fix="choose --masks polygons")
    known = {name: name for name in KNOWN} | {k.lower(): v for k, v in (names or {}).items()}
    records = [_readable(one, file, problems) for one in read_instances(file, problems)]
    if not records and not len(problems):
        others = [s for s in splits_of("segmentation", folder, subset) if s != split]
        raise ConfigError(
            f"{file} lists no image; other splits: {', '.join(others) or 'none'}",
            fix="choose one of these with --split" if others else "give data with samples",
        )
    problems.refuse_if_empty(len(records), str(file), "check the folder and its images")
    _check_categories(records, file, known, problems)
    chosen = spread(records, limit)
    _note_sizes(chosen, file, problems)
    return [
        SegmentationJob(
            str(one.id),
            root,
            str(one.path.relative_to(root)),
            one,
            known,
            min_area,
            min_visibility,
        )
        for one in chosen
    ]


class SegmentationDesk:
    """Answers the jobs of one process.

    Args:
        predictor: who is asked.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._stamps = count(1)  # no two images are one to a memory of features

    def run(self, job: SegmentationJob) -> SegmentationRecord:
        """Answer one job.

        Raises:
            FrameError: for a picture that is missing, damaged, or not of the size that its
                annotations are for.
            InferenceError: if the model fails.
        """
        laps = Laps()
        with laps.stage("read"):
            rgb = read_image(job.image.path)
        if rgb.shape[:2] != job.image.hw:
            raise FrameError(
                f"{job.file} is {rgb.shape[1]}x{rgb.shape[0]} px, its annotations are for "
                f"{job.image.hw[1]}x{job.image.hw[0]}",
                kind="wrong_size",
                fix="fetch picture and annotations from the same place",
            )
        truth = job.truth()
        frame = Frame(rgb, "rgb", stamp_ns=next(self._stamps))
        found = self._predictor.segment(frame, truth, laps)
        return SegmentationRecord(
            key=job.key,
            file=job.file,
            hw=job.image.hw,
            truth=truth,
            found=found,
            scene=job.image.scene,
            ms=laps.ms,
        )

    def close(self) -> None:
        """Let go of the model."""
        self._predictor.close()


def _truth(one: Instance, names: Mapping[str, str], hw: tuple[int, int]) -> Json:
    x1, y1, x2, y2 = one.box
    return {
        "category": names.get(one.category.lower(), OTHER),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "segmentation": rle_json(exact_rle(one, hw)),
        "iscrowd": int(one.crowd),
    }


def _readable(image: ImageRecord, file: Path, problems: Problems) -> ImageRecord:
    """Without the instances whose run lengths can't be decoded; polygons were checked before."""
    good: list[Instance] = []
    for one in image.instances:
        try:
            if isinstance(one.segmentation, dict):
                exact_rle(one, image.hw)
            good.append(one)
        except FrameError as e:
            problems.note(e.kind, f"{file}: image {image.id}", e.what)
    return replace(image, instances=tuple(good))


def _check_categories(
    records: Sequence[ImageRecord], file: Path, names: Mapping[str, str], problems: Problems
) -> None:
    seen = Counter(one.category for image in records for one in image.instances)
    strange = {name: n for name, n in seen.items() if name.lower() not in names}
    if strange and len(strange) == len(seen):
        (first, *_) = strange
        raise ConfigError(
            f"{file}: no instance is a tote or an object; categories are {', '.join(seen)}",
            fix=f"say which they are, for example --category {first}=object",
        )
    for name, n in strange.items():
        problems.note(
            "other_category",
            file,
            f"{n} instances have the category {name!r}, want Tote or Object",
            "kept as other",
        )


def _note_sizes(records: Sequence[ImageRecord], file: Path, problems: Problems) -> None:
    sizes = Counter(f"{one.hw[1]}x{one.hw[0]}" for one in records)
    if len(sizes) > 1:
        shown = ", ".join(f"{n} of {size}" for size, n in sizes.most_common(5))
        problems.note("mixed_sizes", file, f"images have {len(sizes)} sizes: {shown}", "used")
