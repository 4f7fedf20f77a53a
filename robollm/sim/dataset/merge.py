"""Records of jobs, in order, become ARMBench's lists and COCO files, and the dataset's card."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from robollm.data import armbench_defects, armbench_identification, armbench_segmentation
from robollm.data.armbench_files import part_of, write_json
from robollm.sim.dataset.card import Tally
from robollm.sim.dataset.card_sheets import write_sheets
from robollm.sim.dataset.plan import DatasetSettings, Job
from robollm.sim.world import SPLITS

CARD_FILE = "card.json"
TRUTH_FILE = "truth.jsonl"
Ids = dict[str, list[str]]


def finalize(
    out: Path, settings: DatasetSettings, records: Iterable[tuple[Job, Mapping[str, Any]]]
) -> dict[str, Any]:
    """Write everything that is about more than one job.

    Args:
        out: the dataset's folder, where all jobs are done.
        settings: what it was made with.
        records: every job with its record, in an order that depends on the plan alone; read once.

    Returns:
        The card, as it was written to `card.json`.
    """
    tally = Tally(settings)
    inducts, videos, picks, products = (_empty() for _ in range(4))
    picked = set(settings.task) - {"segmentation"}
    part = part_of(out / TRUTH_FILE)
    with ExitStack() as stack:
        truth = stack.enter_context(part.open("w")) if picked else None
        coco = _open_coco(out, settings, stack) if "segmentation" in settings.task else {}
        for job, record in records:
            tally.add(job, record)
            if "skipped" in record:
                continue
            if job.kind == "tote":
                writer = coco[job.subset, job.split]
                for image in record["images"]:
                    height, width = image["hw"]
                    writer.add(
                        image["file_name"],
                        (height, width),
                        image["annotations"],
                        **image.get("extra", {}),
                    )
            elif job.kind == "product":
                products[job.split].append(record["id"])
            else:
                if truth is not None:
                    truth.write(json.dumps(_truth(job, record)) + "\n")
                for ids, key in ((picks, "identification"), (inducts, "defects"),
                                 (videos, "video")):  # fmt: skip
                    if record.get(key):
                        ids[job.split].append(record["id"])
    if picked:
        part.replace(out / TRUTH_FILE)
    if "identification" in settings.task:
        armbench_identification.write_split(out / armbench_identification.ROOT, picks, products)
    if "defects" in settings.task:
        armbench_defects.write_lists(out / armbench_defects.IMAGE_ROOT, inducts)
    if "videos" in settings.task:
        armbench_defects.write_lists(out / armbench_defects.VIDEO_ROOT, videos)
    card = tally.card()
    card["sheets"] = write_sheets(out, tally)
    write_json(out / CARD_FILE, card, indent=1)
    return card


def _truth(job: Job, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the simulator knows of a pick, one line of the truth file."""
    keys = ("id", "event", "product_id", "images", "truth")
    return {"split": job.split, **{k: record[k] for k in keys if k in record}}


def _empty() -> Ids:
    return {split: [] for split in SPLITS}


def _open_coco(
    out: Path, settings: DatasetSettings, stack: ExitStack
) -> dict[tuple[str, str], armbench_segmentation.SplitWriter]:
    root = out / armbench_segmentation.ROOT
    info = {"description": "made by robollm sim, no photographs", "seed": settings.seed}
    return {
        (subset, split): stack.enter_context(
            armbench_segmentation.SplitWriter(root / subset, split, {**info, "subset": subset})
        )
        for subset in armbench_segmentation.SUBSETS
        for split in SPLITS
    }
