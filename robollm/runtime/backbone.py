"""The backbone: it is loaded once, whatever the number of nodes and input sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakMethod

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError, InferenceError, ModelFileError
from robollm.core.frame import Frame
from robollm.core.letterbox import Letterbox
from robollm.runtime.batching import Batcher, Images, Outputs, Run, Tasks
from robollm.runtime.bundle import Bundle
from robollm.runtime.memo import Memo
from robollm.runtime.pixels import Region, to_canvas
from robollm.runtime.precision import placed
from robollm.runtime.session import Place, Session
from robollm.runtime.shapes import backbone_profiles, covering
from robollm.runtime.timing import Laps

BATCH_MAX = 16  # bounds the memory of one run; 16 crops of 224 px are one 900 px image
BATCHES = {"cpu": 1, "openvino": 4, "cuda": BATCH_MAX, "tensorrt": BATCH_MAX}
"""Crops in one run where nothing else is asked for: on a processor a batch costs what its rows
cost one by one, and all of them wait for the last (docs/batching.md)."""
CACHE_MAX = 64  # crops; 39 MB for BEiT-3 Base at 224 px
TOTES_MAX = 4  # 20 MB for BEiT-3 Base at 640 px


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What the backbone says about a batch.

    Attributes:
        map: (N, C, h, w) float32, one cell per patch. Read-only by convention: it is shared.
        cls: (N, C) float32.
    """

    map: NDArray[np.float32]
    cls: NDArray[np.float32]


class SharedBackbone:
    """One session that serves every node, camera, the tote size and the crop size.

    The graph takes any multiple of the patch size, so one session, hence one copy of the weights,
    is enough. What is asked for at the same time from several threads shares runs (`Batcher`).
    Features of crops and totes are remembered by content: identification and inspection of the same
    view cost one run, also when they ask at once, unless adapters make them differ.

    Memory beside the weights: the activations of one run (`batch_max` crops, or one tote if that is
    more), `CACHE_MAX` crops' and `TOTES_MAX` totes' features, and for each caller its own input of
    at most `batch_max` crops or one tote.

    Attributes:
        batch_max: crops in one run.

    Args:
        bundle: a verified bundle.
        place: where to run, and in which precision.
        batch_max: crops in one run; of larger pictures as many fewer as they have more pixels; 0:
            see `usual_batch`.
        batch_window_ms: how long a request may wait for others when the model is idle, ms.

    Raises:
        ConfigError: if `batch_max` or the window is negative.
        ModelFileError: see `Session`; or the backbone has no adapters although the card says so.
    """

    def __init__(
        self,
        bundle: Bundle,
        place: Place,
        *,
        batch_max: int = 0,
        batch_window_ms: float = 0.0,
    ) -> None:
        if batch_max < 0:
            raise ConfigError(f"batch_max is {batch_max}, want 0 or more", fix="take 0")
        self.batch_max = batch_max or usual_batch(place, bundle.crop.hw)
        self._bundle = bundle
        self._session = Session(
            *placed(bundle, "backbone", place),
            inputs=("image", "task") if bundle.adapters else ("image",),
            outputs=("map", "cls"),
            profile=covering(backbone_profiles(bundle, batch_max=self.batch_max).values()),
        )
        if bundle.adapters and "task" not in self._session.inputs:
            raise ModelFileError(
                f"the card names adapters of {', '.join(bundle.adapters)}, and the backbone has no "
                "input 'task' to switch them on",
                fix="export the bundle again",
            )
        self._batcher = Batcher(_weakly(self._run), window_ms=batch_window_ms)
        self._crops: Memo[Features] = Memo(CACHE_MAX)
        self._totes: Memo[tuple[Features, Letterbox]] = Memo(TOTES_MAX)

    @property
    def runs(self) -> int:
        """Runs of the model."""
        return self._batcher.runs

    @property
    def where(self) -> str:
        """What it runs on, for people."""
        return self._session.where

    @property
    def rows(self) -> int:
        """Pictures in all runs."""
        return self._batcher.rows

    @property
    def shared_runs(self) -> int:
        """Runs that served more than one request."""
        return self._batcher.shared

    @property
    def cache_hits(self) -> int:
        """Pictures that were asked for and cost nothing, because they were or became known."""
        return self._crops.hits + self._totes.hits

    def run(self, images: NDArray[np.float32], task: str = "segmentation") -> Features:
        """Encode normalised images, in as many runs as their number and size ask for.

        Args:
            images: (N, 3, H, W) float32, RGB, H and W multiples of the patch size, N >= 1.
            task: "segmentation", "identification" or "defects": whose adapters to use, if any.

        Raises:
            InferenceError: if a run fails or the outputs don't have the promised shape.
        """
        tasks = np.full(len(images), self._adapter(task), np.int64)
        grid, cls = self._batcher.submit(images, tasks, most=self._most(images.shape[2:]))
        return Features(grid, cls)

    def tote(
        self, frame: Frame, laps: Laps, *, remember: bool = True
    ) -> tuple[Features, Letterbox]:
        """Encode a whole image at the tote size.

        Args:
            frame: the tote image.
            laps: takes the times of the stages `preprocess` and `backbone`.
            remember: keep the last few, for others who ask for the same image. To know an image
                again takes a look at every pixel (4 ms at 1080p).

        Returns:
            The features of one image, and how it was fitted.

        Raises:
            InferenceError: see `run`.
        """

        def encode(_: list[int]) -> list[tuple[Features, Letterbox]]:
            with laps.stage("preprocess"):
                image, box = to_canvas(frame.pixels, frame.order, self._bundle.tote, self._bundle)
            with laps.stage("backbone"):
                return [(self.run(image[None]), box)]

        if not remember:
            return encode([0])[0]
        return self._totes.get([Region(frame).key()], encode)[0]

    def crops(self, regions: Sequence[Region], laps: Laps, task: str) -> Features:
        """Encode regions at the crop size, in batches; known ones come from memory.

        Args:
            regions: N regions, N >= 1.
            laps: takes the times of the stages `preprocess` and `backbone`.
            task: see `run`. Tasks without adapters share their features.

        Raises:
            FrameError: for a region outside its image.
            InferenceError: see `run`.
        """
        adapter = self._adapter(task)
        keys = [(adapter, *r.key()) for r in regions]
        rows: list[Features] = []
        for start in range(0, len(keys), self.batch_max):  # bounds the memory of the inputs
            part = regions[start : start + self.batch_max]

            def encode(index: list[int], part: Sequence[Region] = part) -> list[Features]:
                return self._encode([part[i] for i in index], laps, task)

            rows += self._crops.get(keys[start : start + self.batch_max], encode)
        return Features(
            np.concatenate([r.map for r in rows]), np.concatenate([r.cls for r in rows])
        )

    def close(self) -> None:
        """Refuse what is asked for from now on; a run that is going on is finished."""
        self._batcher.close()

    def _encode(self, regions: Sequence[Region], laps: Laps, task: str) -> list[Features]:
        canvas = self._bundle.crop
        with laps.stage("preprocess"):
            batch = np.empty((len(regions), 3, *canvas.hw), np.float32)
            for r, row in zip(regions, batch, strict=True):
                to_canvas(r.pixels, r.frame.order, canvas, self._bundle, out=row)
        with laps.stage("backbone"):
            f = self.run(batch, task)
        if len(regions) == 1:
            return [f]
        # Copies: a row that is remembered must not keep its whole batch in memory.
        return [
            Features(f.map[i : i + 1].copy(), f.cls[i : i + 1].copy()) for i in range(len(f.cls))
        ]

    def _adapter(self, task: str) -> int:
        """What the graph's input `task` wants: 0 for no adapters."""
        adapters = self._bundle.adapters
        return adapters.index(task) + 1 if task in adapters else 0

    def _most(self, hw: tuple[int, ...]) -> int:
        """Pictures of a size in one run: no more pixels than `batch_max` crops, at least one."""
        crop = self._bundle.crop.hw
        room = self.batch_max * crop[0] * crop[1] // max(1, hw[0] * hw[1])
        return max(1, min(self.batch_max, room))

    def _run(self, images: Images, tasks: Tasks) -> Outputs:
        feed: dict[str, NDArray[Any]] = {"image": images}
        if self._bundle.adapters:
            feed["task"] = tasks
        grid, cls = self._session.run(feed)
        n, _, h, w = images.shape
        p = self._bundle.patch
        if grid.shape[0] != n or grid.shape[2:] != (h // p, w // p) or cls.shape[0] != n:
            raise InferenceError(
                f"backbone gave map {grid.shape} and cls {cls.shape} for {images.shape}, want "
                f"({n}, C, {h // p}, {w // p}) and ({n}, C)",
                fix="export the bundle again",
            )
        return grid, cls


def usual_batch(place: Place, crop_hw: tuple[int, int]) -> int:
    """Crops in one run, where nobody says how many.

    Of small crops as many as have the pixels of `BATCHES` at 224 px: for one of 64 px, starting a
    run is most of the work. But dynamic int8 takes the numbers of a run by the largest of them:
    there a picture's answer shall not depend on its company.
    """
    most = BATCHES[place.provider]
    if place.precision == "int8":
        return most
    fits = most * 224 * 224 // (crop_hw[0] * crop_hw[1])
    return max(most, min(fits, max(BATCHES.values())))


def _weakly(method: Run) -> Run:
    """The method of an object that may go: a ring would keep the weights until the next gc."""
    found = WeakMethod(method)

    def call(images: Images, tasks: Tasks) -> Outputs:
        run = found()
        assert run is not None  # whoever waits for an answer came through the object
        return run(images, tasks)

    return call
