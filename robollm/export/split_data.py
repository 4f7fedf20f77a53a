"""The pictures of a split as they are on disk: what the runtime would get, with the truth beside.

Training reads the same files through the same classes; only what comes after the crop differs:
here it is left to the runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import FrameError
from robollm.data.images import read_image
from robollm.data.problems import Problem, Problems
from robollm.export.collect import Collected
from robollm.train.defects.data import DefectData
from robollm.train.detector.totes import ToteData
from robollm.train.identification.data import PickData

Rgb = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Tote:
    """A tote image, (H, W, 3), and its truth as `InstanceMetric` reads it."""

    rgb: Rgb
    truth: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Pick:
    """A pick: what `RetrievalMetric` reads, and the views that can be read, by name."""

    about: Mapping[str, Any]
    views: Mapping[str, Rgb]


@dataclass(frozen=True, slots=True, eq=False)
class Induct:
    """What `DefectMetric` reads of a sample, its crops in order of time, the product's picture."""

    about: Mapping[str, Any]
    frames: tuple[Rgb, ...]
    reference: Rgb | None


class _Picks(PickData):
    """Gives the crops of a pick before they are resized."""

    def source(self, index: int, note: Callable[[Problem], None]) -> Pick:
        """The pick with all the views that can be read; those that can't are noted."""
        pick = self.picks[index]
        about = {"kind": "pick", "pick": pick.id, "product_id": pick.truth,
                 "manifest": pick.manifest}  # fmt: skip
        views: dict[str, Rgb] = {}
        for name in self.views:
            if name not in pick.views:
                continue
            try:
                views[name] = self._read(pick, name)
            except FrameError as e:
                note(Problem(e.kind, f"pick {pick.id}", e.what, "view left out"))
        return Pick(about, views)

    def gallery(self, products: set[str]) -> list[tuple[str, Path]]:
        """Reference files of the products: (product, file)."""
        return [one for one in self._gallery if one[0] in products]


class _Inducts(DefectData):
    """Gives the crops of an induct before they are resized."""

    def source(self, index: int) -> Induct:
        """A sample with the crops that can be read.

        Raises:
            FrameError: if there is none.
        """
        about = self.load(index, None)["data_samples"]
        shown = [i for i in self._items[index] if i.path.stem in about["images"]]
        frames = tuple(self._cut(image) for image in shown)
        reference = None
        if self.references is not None:
            files = self.references.of(about["induct"])
            reference = read_image(files[0]) if files else None
        return Induct(about, frames, reference)


class SplitData:
    """A split of all three tasks, maybe a part of it.

    Args:
        parts: says how each task's data is read.
        root: folder that holds ARMBench's folders.
        split: "train", "val" or "test".
        totes: at most so many tote images; 0: all.
        picks: at most so many picks, and so many samples of defects; 0: all.

    Attributes:
        problems: files that can't be used.

    Raises:
        ConfigError: the folder lacks a task's data, or none of it can be used.
    """

    def __init__(
        self, parts: Collected, root: Path, split: str, *, totes: int = 0, picks: int = 0
    ) -> None:
        self.split = split
        fixed = {"data_root": str(root), "split": split}
        own = {task: _without_type(settings) for task, settings in parts.data.items()}
        self._totes = ToteData(**own["segmentation"] | fixed | {"limit": totes})
        every = {"val_picks": 0, "val_distractors": 0}
        self._picks = _Picks(**own["identification"] | fixed | every)
        self._inducts = _Inducts(**own["defects"] | fixed)
        self._chosen = _spread(len(self._picks.picks), picks)
        self._samples = _spread(len(self._inducts), picks)
        self.problems = Problems()
        self._noted: set[Problem] = set()
        for data in (self._totes, self._picks, self._inducts):
            self.problems.merge(data.problems)

    def _note(self, problem: Problem) -> None:
        """Count a problem once, however often the split is gone through."""
        if problem not in self._noted:
            self._noted.add(problem)
            self.problems.add(problem)

    @property
    def sizes(self) -> dict[str, int]:
        """Samples of each task."""
        return {
            "segmentation": len(self._totes),
            "identification": len(self._chosen),
            "defects": len(self._samples),
        }

    def totes(self) -> Iterator[Tote]:
        """The tote images; what can't be read is left out and noted."""
        for i, record in enumerate(self._totes.records):
            try:
                truth = self._totes.load(i, None)["data_samples"]
                yield Tote(
                    read_image(record.path),
                    {"ori_shape": truth.ori_shape, "instances": truth.instances},
                )
            except FrameError as e:
                self._note(Problem(e.kind, str(record.path), e.what))

    def picks(self) -> Iterator[Pick]:
        """The picks; one without a view stays, and counts as wrong."""
        for i in self._chosen:
            yield self._picks.source(i, self._note)

    def references(self) -> Iterator[tuple[dict[str, Any], Rgb]]:
        """The reference images of the products of all manifests: what to say of one, and it."""
        picks = [self._picks.picks[i] for i in self._chosen]
        products = {p for pick in picks for p in (*pick.manifest, pick.truth)}
        for product, file in self._picks.gallery(products):
            try:
                about = {"kind": "reference", "product_id": product, "image": file.name}
                yield about, self._picks.reference_picture(file)
            except FrameError as e:
                self._note(Problem(e.kind, str(file), e.what))

    def inducts(self) -> Iterator[Induct]:
        """The samples of defects; what can't be read is left out and noted."""
        for i in self._samples:
            try:
                yield self._inducts.source(i)
            except FrameError as e:
                where = f"induct {self._inducts.inducts[i]}"
                self._note(Problem(e.kind, where, e.what))


def _without_type(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in settings.items() if k != "type"}


def _spread(count: int, most: int) -> list[int]:
    """Indices from first to last, evenly spread; all if `most` is 0 or no less."""
    if not most or count <= most:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, most).round()]
