"""A station that reads the truth: every figure of picks must come out perfect, or it is wrong."""

from __future__ import annotations

from robollm.core.decide import IDENTIFIED, NOT_IN_MANIFEST
from robollm.data.armbench_defects import LABELS
from robollm.data.ros_fields import stamp_ns
from robollm.eval.gather import PickJob
from robollm.eval.records import Json, PickRecord, Record, SegmentationRecord
from robollm.eval.settings import StationSettings
from robollm.eval.station import ToteJob


class StationOracle:
    """Answers from the truth where `StationDesk` asks its models.

    Views that never came stay unjudged, and what the truth doesn't tell isn't answered.

    Args:
        settings: not used; desks are made alike.
    """

    def __init__(self, settings: StationSettings) -> None:
        del settings

    def run(self, job: PickJob | ToteJob) -> Record:
        """Answer one pick, or find the instances of one tote image."""
        if isinstance(job, ToteJob):
            keys = ("category", "bbox", "segmentation")
            found = [{**{k: t[k] for k in keys}, "score": 1.0} for t in job.truth.instances]
            return SegmentationRecord(
                key=job.key, file=job.file, hw=job.truth.hw, truth=list(job.truth.instances),
                found=found,
            )  # fmt: skip
        truth = job.truth or {}
        labels = truth.get("views") or {}
        seen = {name: labels[name] for name in job.views if labels.get(name)}
        return PickRecord(
            key=job.key,
            bag=job.bag,
            truth=job.truth,
            identification=_product(truth),
            verdict=_verdict(truth, tuple(seen)),
            evidence=[
                {
                    "view": name,
                    "stamp_ns": stamp_ns(job.views[name].header.stamp),
                    "probabilities": _certain(label),
                    "box": [0.0] * 4,
                    "reason": "",
                }
                for name, label in seen.items()
            ],
            frames=[
                {
                    "view": f.view,
                    "stamp_ns": stamp_ns(f.picture.header.stamp),
                    "label": f.label,
                    "probabilities": _certain(f.label),
                }
                for f in job.frames
            ],
        )

    def close(self) -> None:
        """Nothing is held."""


def _certain(label: str) -> dict[str, float]:
    return {name: float(name == label) for name in LABELS}


def _product(truth: Json) -> Json | None:
    product = truth.get("product_id")
    if product is None:
        return None
    ranked = [[product, 1.0]]
    if truth.get("in_manifest") is False:
        ranked.insert(0, [NOT_IN_MANIFEST, 1.0])
        return {"decision": NOT_IN_MANIFEST, "ranked": ranked, "views": [], "reason": ""}
    return {"decision": IDENTIFIED, "ranked": ranked, "views": [], "reason": ""}


def _verdict(truth: Json, inspected: tuple[str, ...]) -> Json | None:
    label = truth.get("label")
    if label is None:
        return None
    ranked = [[label, 1.0]]
    return {"decision": label, "ranked": ranked, "inspected": list(inspected), "missing": []}
