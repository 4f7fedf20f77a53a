"""The backbone: its weights are in memory once, whatever the number of nodes and input sizes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import InferenceError
from robollm.runtime.bundle import Bundle
from robollm.runtime.pixels import Region, to_canvas
from robollm.runtime.session import Session
from robollm.runtime.timing import Laps

BATCH_MAX = 16  # bounds the memory of one run; 16 crops of 224 px are one 900 px image
CACHE_MAX = 64


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What the backbone says about a batch.

    Attributes:
        map: (N, C, h, w) float32, one cell per patch.
        cls: (N, C) float32.
    """

    map: NDArray[np.float32]
    cls: NDArray[np.float32]


class SharedBackbone:
    """One ONNX session that serves every node, the tote size and the crop size.

    The graph takes any multiple of the patch size, so one session, hence one copy of the weights,
    is enough. Features of crops are remembered: identification and inspection of the same view
    cost one run.

    Args:
        bundle: a verified bundle.
        provider: where to run.
        threads: intra-op threads; 0: one per core.

    Raises:
        ModelFileError: see `Session`.
    """

    def __init__(self, bundle: Bundle, provider: str, threads: int) -> None:
        self._bundle = bundle
        self._session = Session(
            bundle.graphs["backbone"],
            provider,
            threads=threads,
            inputs=("image",),
            outputs=("map", "cls"),
        )
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[object, ...], Features] = OrderedDict()
        self.runs = 0
        self.cache_hits = 0

    def run(self, images: NDArray[np.float32]) -> Features:
        """Encode normalised images.

        Args:
            images: (N, 3, H, W) float32, RGB, H and W multiples of the patch size.

        Raises:
            InferenceError: if the run fails or the outputs don't have the promised shape.
        """
        with self._lock:
            return self._run(images)

    def crops(self, regions: Sequence[Region], laps: Laps) -> Features:
        """Encode regions at the crop size, in batches; known ones come from the cache.

        Args:
            regions: N regions, N >= 1.
            laps: takes the times of the stages `preprocess` and `backbone`.

        Raises:
            FrameError: for a region outside its image.
            InferenceError: see `run`.
        """
        keys = [r.key() for r in regions]
        with self._lock:  # look-up included: two nodes asking for one view must run it once
            found = {k: self._cache[k] for k in keys if k in self._cache}
            self.cache_hits += len(found)
            todo = {k: r for k, r in zip(keys, regions, strict=True) if k not in found}
            items = list(todo.items())
            for start in range(0, len(items), BATCH_MAX):
                part = items[start : start + BATCH_MAX]
                with laps.stage("preprocess"):
                    batch = np.stack([self._crop(r) for _, r in part])
                with laps.stage("backbone"):
                    f = self._run(batch)
                for i, (k, _) in enumerate(part):
                    found[k] = Features(f.map[i : i + 1], f.cls[i : i + 1])
            self._cache.update(found)
            while len(self._cache) > CACHE_MAX:
                self._cache.popitem(last=False)
        rows = [found[k] for k in keys]
        return Features(
            np.concatenate([r.map for r in rows]), np.concatenate([r.cls for r in rows])
        )

    def _crop(self, region: Region) -> NDArray[np.float32]:
        canvas = self._bundle.crop
        return to_canvas(region.pixels, region.frame.order, canvas, self._bundle)[0]

    def _run(self, images: NDArray[np.float32]) -> Features:
        self.runs += 1
        grid, cls = self._session.run({"image": images})
        n, _, h, w = images.shape
        p = self._bundle.patch
        if grid.shape[0] != n or grid.shape[2:] != (h // p, w // p) or cls.shape[0] != n:
            raise InferenceError(
                f"backbone gave map {grid.shape} and cls {cls.shape} for {images.shape}, want "
                f"({n}, C, {h // p}, {w // p}) and ({n}, C)",
                fix="export the bundle again",
            )
        return Features(grid, cls)
