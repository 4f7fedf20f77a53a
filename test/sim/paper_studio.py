"""A stand-in for the simulator: flat rectangles on paper, through the real writers."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np

from robollm.core.errors import ConfigError
from robollm.data import armbench_defects, armbench_identification, armbench_segmentation, jpeg
from robollm.data.armbench_files import VIEWS, write_bytes
from robollm.sim.dataset.card import catalogues
from robollm.sim.dataset.plan import DatasetSettings, Job, induct_of, name_of


class PaperStudio:
    """Does every kind of job in a few milliseconds."""

    def __init__(self, root: Path, settings: DatasetSettings) -> None:
        self.root, self.settings = root, settings
        self.products = catalogues(settings)

    def run(self, job: Job) -> dict[str, Any]:
        kind = {"tote": self.tote, "pick": self.pick, "product": self.product}[job.kind]
        return kind(job, np.random.default_rng([self.settings.seed, job.index, len(job.kind)]))

    def close(self) -> None:
        pass

    def picture(self, rng: np.random.Generator) -> bytes:
        return jpeg.encode(rng.integers(0, 255, (*self.settings.view_hw, 3), dtype=np.uint8))

    def tote(self, job: Job, rng: np.random.Generator) -> dict[str, Any]:
        images = []
        for variant in range(self.settings.variants):
            labels = np.zeros(self.settings.hw, np.uint16)
            for value in range(1, 6):
                y, x = (int(rng.integers(0, n - 8)) for n in labels.shape)
                labels[y : y + 20, x : x + 30] = value
            extras = {v: {"visibility": float(rng.random())} for v in range(1, 6)}
            name = f"{name_of(self.settings, job, variant)}.jpg"
            folder = self.root / armbench_segmentation.ROOT / job.subset / "images"
            write_bytes(folder / name, jpeg.encode(np.repeat(labels[..., None] * 40, 3, 2)
                                                   .astype(np.uint8)))  # fmt: skip
            rows = armbench_segmentation.annotate(labels, dict.fromkeys(range(1, 6), 2), extras)
            images.append({"file_name": name, "hw": list(labels.shape), "annotations": rows})
        return {"pictures": len(images), "images": images}

    def pick(self, job: Job, rng: np.random.Generator) -> dict[str, Any]:
        pick = induct_of(self.settings, job)
        products = self.products[job.split]
        label = job.event if job.event in ("nominal", "multi_pick") else "package_defect"
        identified = "identification" in self.settings.task and job.event != "multi_pick"
        if identified:
            armbench_identification.write_pick(
                self.root / armbench_identification.ROOT,
                pick,
                {v: self.picture(rng) for v in VIEWS},
                {p.id: {"description": p.description} for p in products},
                {"GT_ID": products[int(rng.integers(len(products)))].id},
            )
        rows = [(self.picture(rng), {"label": label, "box": [0, 0, 0, 0]}) for _ in range(2)]
        if "defects" in self.settings.task:
            armbench_defects.write_images(self.root / armbench_defects.IMAGE_ROOT, pick, rows)
        return {
            "id": pick, "pictures": 6, "event": job.event, "views": list(VIEWS),
            "labels": [label] * 2, "manifest": len(products), "identification": identified,
            "defects": "defects" in self.settings.task,
        }  # fmt: skip

    def product(self, job: Job, rng: np.random.Generator) -> dict[str, Any]:
        every = [p for split in ("train", "val", "test") for p in self.products.get(split, ())]
        product = every[job.index].id
        armbench_identification.write_references(
            self.root / armbench_identification.ROOT, product, [self.picture(rng)]
        )
        return {"id": product, "pictures": 1}


class BrokenStudio(PaperStudio):
    """Fails at its third job, in the way that the seed says."""

    def run(self, job: Job) -> dict[str, Any]:
        if job.index != 2:
            return super().run(job)
        if self.settings.seed == 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(self.root))
        if self.settings.seed == 2:
            os._exit(9)
        if self.settings.seed == 3:
            raise ConfigError("no such thing", fix="ask for another")
        raise ZeroDivisionError("a bug")
