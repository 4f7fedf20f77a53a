"""Answers picks and tote images as the nodes do: the same `Perceiver`, settings and words."""

from __future__ import annotations

import time
from dataclasses import dataclass

from robollm.core.decide import Identification
from robollm.core.defects import Verdict, ViewEvidence
from robollm.core.errors import FrameError, InferenceError
from robollm.core.settings import view_regions, view_topics
from robollm.eval.gather import LaterFrame, PickJob
from robollm.eval.label_map import found_in
from robollm.eval.pictures import Picture
from robollm.eval.records import Json, PickRecord, Record, SegmentationRecord, as_error
from robollm.eval.settings import StationSettings
from robollm.eval.truth import ToteTruth
from robollm.gallery.catalogue import Catalogue, load_catalogue
from robollm.gallery.plan import SearchPlan
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pick_views import PickView, post_pick, pre_pick, uninspected, usable
from robollm.runtime.timing import Laps

IDENTIFY, INSPECT, SEGMENT, ANSWER = "identify", "inspect", "segment", "answer"


@dataclass(frozen=True, slots=True)
class ToteJob:
    """One tote image whose instances are known: `key` and `file` of its record, its truth."""

    key: str
    file: str
    picture: Picture
    truth: ToteTruth

    def failed(self, error: dict[str, str]) -> SegmentationRecord:
        """See `robollm.eval.runner.Job`."""
        return SegmentationRecord(
            key=self.key, file=self.file, hw=self.truth.hw, truth=list(self.truth.instances),
            error=error,
        )  # fmt: skip


class StationDesk:
    """One process' models and gallery.

    Args:
        settings: those of the nodes.

    Raises:
        ModelFileError: see `Perceiver`.
        ManifestError: see `load_catalogue`.
        GalleryError: see `load_catalogue`.
    """

    def __init__(self, settings: StationSettings) -> None:
        self._settings = settings
        self._views = tuple(view_topics(settings.pick))
        self._regions = view_regions(settings.pick)
        self._perceiver = Perceiver(settings.runtime)
        self._catalogue = load(settings, self._perceiver) if settings.names_products else None

    def run(self, job: PickJob | ToteJob) -> Record:
        """Answer one pick, or segment one tote image."""
        return self._segment(job) if isinstance(job, ToteJob) else self._answer(job)

    def close(self) -> None:
        """Free models and gallery."""
        if self._catalogue is not None:
            self._catalogue.gallery.close()
        self._perceiver.close()

    def _answer(self, job: PickJob) -> PickRecord:
        start = time.perf_counter()
        naming, judging, errors = Laps(), Laps(), list[dict[str, str]]()
        answer = (
            None if self._catalogue is None else self._name(job, self._catalogue, naming, errors)
        )
        verdict, evidence = self._judge(job, judging, errors)
        ms = {f"{IDENTIFY}_{k}": v for k, v in naming.ms.items()}
        ms |= {f"{INSPECT}_{k}": v for k, v in judging.ms.items()}
        ms[ANSWER] = 1e3 * (time.perf_counter() - start)
        return PickRecord(
            key=job.key,
            bag=job.bag,
            truth=job.truth,
            identification=None if answer is None else answer_json(answer),
            verdict=verdict_json(verdict),
            evidence=[evidence_json(e) for e in evidence],
            frames=[self._look(f) for f in job.frames],
            ms={k: round(v, 3) for k, v in ms.items()},
            error=errors[0] if errors else None,
        )

    def _name(
        self, job: PickJob, catalogue: Catalogue, laps: Laps, errors: list[dict[str, str]]
    ) -> Identification:
        pick, seen = job.pick, self._perceiver
        try:
            config = self._settings.identification
            with laps.stage("decode"):
                tote = job.tote.arrival("image") if job.tote else None
                views = [pre_pick(tote, pick.box, _ignore), *self._pick_views(job)]
            return seen.identify_pick(
                views,
                catalogue=catalogue,
                container=pick.container,
                policy=seen.policy(config, catalogue.gallery)[0],
                quality=self._settings.pick,
                laps=laps,
            )
        except InferenceError as e:
            errors.append(as_error(e))
            return Identification.nothing(f"the model failed: {e.what}")

    def _judge(
        self, job: PickJob, laps: Laps, errors: list[dict[str, str]]
    ) -> tuple[Verdict, list[ViewEvidence]]:
        config = self._settings.defects
        try:
            with laps.stage("decode"):
                views = self._pick_views(job)
            return self._perceiver.inspect_pick(
                views,
                thresholds=self._perceiver.defect_thresholds(config),
                quality=self._settings.pick,
                min_views=config.min_views,
                laps=laps,
            )
        except InferenceError as e:
            errors.append(as_error(e))
            return uninspected(self._views, f"the model failed: {e.what}")

    def _pick_views(self, job: PickJob) -> list[PickView]:
        limit = self._settings.pick.view_timeout_s
        shown = {name: p.arrival(name) for name, p in job.views.items()}
        return [
            post_pick(name, shown.get(name), self._regions.get(name), limit, _ignore)
            for name in self._views
        ]

    def _look(self, frame: LaterFrame) -> Json:
        """Judge a further picture of a view, by itself."""
        arrival = frame.picture.arrival(frame.view)
        roi = self._regions.get(frame.view)
        view = post_pick(frame.view, arrival, roi, self._settings.pick.view_timeout_s, _ignore)
        seen, _ = usable(
            [view], self._settings.pick, max_side=self._perceiver.config.max_image_side
        )
        said = self._perceiver.inspect(list(seen.values()))
        return {
            "view": frame.view,
            "stamp_ns": arrival.stamp_ns,
            "label": frame.label,
            "probabilities": dict(said[0]) if said else None,
        }

    def _segment(self, job: ToteJob) -> SegmentationRecord:
        laps, config = Laps(), self._settings.segmentation
        with laps.stage("decode"):
            frame = job.picture.frame("image")
        if frame.hw != job.truth.hw:
            raise FrameError(
                f"{job.file} is {frame.hw[1]}x{frame.hw[0]} px, the truth is of "
                f"{job.truth.hw[1]}x{job.truth.hw[0]}",
                kind="other_size",
                fix="give the truth of this bag",
            )
        found = self._perceiver.segment(
            frame,
            score_min=None if config.score_min < 0 else config.score_min,
            max_instances=config.max_instances,
            laps=laps,
        )
        names = self._perceiver.bundle.instance_labels
        rows = [(i + 1, names[found.labels[i]], float(found.scores[i])) for i in range(len(found))]
        return SegmentationRecord(
            key=job.key,
            file=job.file,
            hw=frame.hw,
            truth=list(job.truth.instances),
            found=found_in(found.label_map(), rows),
            ms={f"{SEGMENT}_{k}": round(v, 3) for k, v in laps.ms.items()},
        )


def load(settings: StationSettings, perceiver: Perceiver) -> Catalogue:
    """Manifest and gallery as the identification node opens them.

    Raises:
        ManifestError: see `load_catalogue`.
        GalleryError: see `load_catalogue`.
    """
    config, bundle = settings.identification, perceiver.bundle
    return load_catalogue(
        config.manifest,
        config.gallery,
        embedding_sha256=bundle.embedding_sha256,
        bundle=bundle.title,
        search=SearchPlan(product_score=config.product_score, whole=config.whole_search),
    )


def answer_json(answer: Identification) -> Json:
    """An answer as a record keeps it; `ranked` is what is published."""
    return {
        "decision": answer.decision,
        "ranked": [[name, score] for name, score in answer.ranked],
        "views": list(answer.views),
        "reason": answer.reason,
    }


def verdict_json(verdict: Verdict) -> Json:
    """A verdict as a record keeps it; `ranked` is what is published."""
    return {
        "decision": verdict.decision,
        "ranked": [[name, score] for name, score in verdict.ranked],
        "inspected": list(verdict.inspected),
        "missing": [[name, why] for name, why in verdict.missing],
    }


def evidence_json(evidence: ViewEvidence) -> Json:
    """One view's evidence as a record keeps it."""
    said = evidence.probabilities
    return {
        "view": evidence.view,
        "stamp_ns": evidence.stamp_ns,
        "probabilities": None if said is None else dict(said),
        "box": list(evidence.box),
        "reason": evidence.reason,
    }


def _ignore(stream: str, error: FrameError) -> None:
    """An image that can't be decoded is named in the answer's reason, and counted from there."""
