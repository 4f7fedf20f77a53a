"""What a run's card says of its data: where and what they are, and a digest of what is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from robollm.eval.recorder import Job
from robollm.eval.records import SEGMENTATION, Json
from robollm.eval.tasks.defects import ImageJob
from robollm.eval.tasks.folders import Found
from robollm.eval.tasks.segmentation import SegmentationJob


def data_card(found: Found, split: str, streams: Mapping[str, Sequence[Job]]) -> Json:
    """The card's part `data`; with `box_form` if boxes of defects are looked at.

    Args:
        found: the folder.
        split: of it.
        streams: name -> jobs, in the order of the digest.
    """
    digest = hashlib.sha256()
    for name, jobs in streams.items():
        digest.update(name.encode())
        for job in jobs:
            digest.update(_content(job))
    every = (job for jobs in streams.values() for job in jobs)
    forms = {job.box_form for job in every if isinstance(job, ImageJob)} - {""}
    return {
        "root": str(found.root),
        "name": found.root.name,
        "kind": found.kind,
        "split": split,
        "subsets": [s.removeprefix(SEGMENTATION) for s in streams if s.startswith(SEGMENTATION)],
        "samples": {name: len(jobs) for name, jobs in streams.items()},
        "digest": digest.hexdigest(),
        **({"box_form": forms.pop()} if forms else {}),
    }


def _content(job: Job) -> bytes:
    """What a record of a job says without an answer: its key, its files, its truth."""
    if isinstance(job, SegmentationJob):
        return job.content()
    return job.failed({"kind": "", "what": ""}).to_line()
