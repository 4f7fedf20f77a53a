"""Jobs of a dataset: one drop, one pick or one product's references, from seed to files.

A job depends on the settings and its own index alone, so jobs run anywhere, in any order, again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from robollm.data import armbench_identification
from robollm.sim.dataset.card import catalogues
from robollm.sim.dataset.jobs_totes import make_tote, photograph, shots_of
from robollm.sim.dataset.plan import REFERENCES, DatasetSettings, Job
from robollm.sim.physics.engine import UnstableError
from robollm.sim.render import lens
from robollm.sim.render.renderers import make_renderer
from robollm.sim.render.shots_reference import reference_scene, reference_shot
from robollm.sim.world import U8

KINDS = ("tote", "pick", "product")


class Studio:
    """Does jobs, one after the other, with one renderer.

    Args:
        root: the dataset's folder.
        settings: what the dataset shall be.

    Raises:
        ConfigError: if the renderer can't work on this machine.
    """

    def __init__(self, root: Path, settings: DatasetSettings) -> None:
        cv2.setNumThreads(1)
        self.root, self.settings = root, settings
        self.products = catalogues(settings)
        self.renderer = make_renderer(settings.renderer)

    def run(self, job: Job) -> dict[str, Any]:
        """Write a job's files; return its record (plain JSON values).

        A job that can't be done with this seed is skipped, not an error: it would stop the dataset
        for good. Its record says why, and the card counts it.
        """
        try:
            return self._do(job)
        except UnstableError as e:
            return {"pictures": 0, "skipped": e.what}

    def _do(self, job: Job) -> dict[str, Any]:
        if job.kind == "tote":
            return make_tote(self, job)
        if job.kind == "pick":
            from robollm.sim.dataset.jobs_picks import (
                make_pick,  # totes need neither grasps nor damage
            )

            return make_pick(self, job)
        return self._product(job)

    def preview(self, job: Job) -> U8:
        """Return the first picture of a tote job, uint8 [H, W, 3]."""
        [first, *_] = shots_of(self, job)
        picture = photograph(self, [first])[0]
        return lens.develop(picture.rgb, first.shot.lens, first.shot.seed)

    def rng(self, job: Job, *numbers: int) -> np.random.Generator:
        """The source of what varies in a job; `numbers` name the purpose."""
        return np.random.default_rng(
            [self.settings.seed, KINDS.index(job.kind), job.index, *numbers]
        )

    def close(self) -> None:
        """Give the renderer back."""
        self.renderer.close()

    def _product(self, job: Job) -> dict[str, Any]:
        every = [p for products in self.products.values() for p in products]
        product, rng = every[job.index], self.rng(job)
        scenes = [reference_scene(product, k) for k in range(REFERENCES)]
        self.renderer.load(scenes)
        packed = []
        for k, scene in enumerate(scenes):
            shot = reference_shot(k, rng, product, self.settings.view_hw)
            picture = self.renderer.shoot(scene, shot)
            packed.append(lens.encode(picture.rgb, shot.lens, shot.seed))
        root = self.root / armbench_identification.ROOT
        armbench_identification.write_references(root, product.id, packed)
        return {"id": product.id, "pictures": len(packed)}
