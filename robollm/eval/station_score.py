"""Scoring what a station said of picks: published answers, verdicts, evidence, time, scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from robollm.core.decide import AMBIGUOUS, IDENTIFIED, NOT_IN_MANIFEST, UNKNOWN
from robollm.core.defects import NOMINAL, UNINSPECTED
from robollm.data.armbench_defects import LABELS
from robollm.eval.figures import Cell, Curve, Section, Table, Worst
from robollm.eval.latency import latency
from robollm.eval.records import TOTES, PickRecord
from robollm.eval.run_folder import RunFolder
from robollm.eval.station import ANSWER
from robollm.eval.station_tally import PickShares, Said, said_of
from robollm.eval.tasks import segmentation_score
from robollm.eval.tasks.scored import Notes, Scored, diagram, no_answer, worst
from robollm.metrics.bootstrap import Interval
from robollm.metrics.calibration import ReliabilityTally, of_defects
from robollm.metrics.defects import DefectImage, DefectTally
from robollm.metrics.grouped import Grouped
from robollm.metrics.joined import Joined
from robollm.metrics.tally import Tally
from robollm.metrics.time_to_flag import FlagTally, sequences

_NS = 1e9
_DECISIONS = (IDENTIFIED, AMBIGUOUS, UNKNOWN, NOT_IN_MANIFEST)
_PROTOCOL = (
    "what the pick protocol published, with the thresholds in use; recall@k: the true product is "
    "among the first k published, whatever the decision, of picks whose product is in the "
    "manifest; verdicts: one defect against the rest, uninspected ones apart; image figures: "
    "argmax of the evidence; induct: any view of a pick"
)


def score(records: Iterable[Any], run: RunFolder, stream: str) -> Scored:
    """Count the picks of a run, or its tote images.

    Args:
        records: of the stream; read once.
        run: the run.
        stream: `picks` or `totes`.

    Raises:
        EvalError: if there are none, or a label or class is not known.
    """
    if stream == TOTES:
        return segmentation_score.score(records, run.card, TOTES, task="station")
    return _picks(records, str(run.card["data"].get("split", "")))


def _picks(records: Iterable[PickRecord], split: str) -> Scored:
    notes, picks, answers = Notes(), list[PickRecord](), list[dict[str, float]]()
    for one in notes.of(records):
        picks.append(one)
        if one.error is None and ANSWER in one.ms:
            answers.append({ANSWER: one.ms[ANSWER]})
    # The whole answer is no stage: it would be counted twice in their sum.
    notes.ms = [{k: v for k, v in row.items() if k != ANSWER} for row in notes.ms]
    said = [said_of(one) for one in picks]
    shares = PickShares(said)
    parts: list[Tally] = [shares]
    curves: dict[str, Curve] = {}
    images = [image for one in picks for image in _evidence(one)]
    seen = DefectTally(images) if images else None
    if seen is not None:
        parts.append(seen)
    if any(i.probabilities is not None for i in images):
        for name, held in of_defects(images).items():
            parts.append(held)
            curves[f"reliability_{name}"] = diagram(held, f"evidence, {name}")
    named = _best_product(said)
    if named is not None:
        parts.append(named)
        curves["reliability_product"] = diagram(named, "the best product's published score")
    films = sequences([f for one in picks if one.frames for f in _film(one)])
    flags = FlagTally(films) if films else None
    if flags is not None:
        parts.append(flags)
    # Picks of one product are alike: they are drawn together, as in identification.
    products = {s.key: s.product for s in said if s.product is not None}
    known = len(set(products.values())) < len(products)
    whole: Tally = Grouped(Joined(parts), products, "product") if known else Joined(parts)

    def section(figures: Mapping[str, Interval]) -> Section:
        times, pictures = latency(answers)
        made = Section(
            task="station",
            subset="picks",
            split=split,
            protocol=_PROTOCOL,
            samples=notes.samples,
            units=len(whole.units),
            unit="product" if known else "pick",
            figures={**figures, **{k: v for k, v in times.items() if ANSWER in k}},
            curves=curves,
            tables={"decisions": _decisions(said), "verdicts": _verdicts(said)},
            histograms={k: v for k, v in pictures.items() if ANSWER in k},
            counts={
                **shares.counts,
                **_unseen(picks),
                "picks_left_out_of_ece_product": sum(not _scored_product(s) for s in said),
                **(seen.counts if seen else {}),
                **(flags.counts if flags else {}),
            },
            worst=worst(_worst(picks, said)),
        )
        return notes.complete(made)

    return Scored(whole, section)


def _unseen(records: Sequence[PickRecord]) -> dict[str, int]:
    """Pictures that an answer does without: never came, stale, dark, or not to be decoded."""
    named = [r.identification for r in records if r.identification is not None]
    judged = [r.verdict for r in records if r.verdict is not None]
    return {
        "named_without_tote_image": sum("image" not in n["views"] for n in named),
        "views_not_inspected": sum(len(v["missing"]) for v in judged),
    }


def _evidence(record: PickRecord) -> Iterator[DefectImage]:
    """The views of a pick whose label is known: what they show, and what was seen."""
    labels: Mapping[str, str | None] = (record.truth or {}).get("views") or {}
    told = {e["view"]: e for e in record.evidence}
    for number, (view, label) in enumerate(labels.items()):
        if label is not None:
            probabilities = told.get(view, {}).get("probabilities")
            yield DefectImage(record.key, (label,), probabilities, number)


def _film(record: PickRecord) -> Iterator[DefectImage]:
    """All pictures of a pick that have a stamp and a label, of all its views."""
    labels: Mapping[str, str | None] = (record.truth or {}).get("views") or {}
    frames = [
        (e["stamp_ns"], labels.get(e["view"]), e["probabilities"])
        for e in record.evidence
        if e["stamp_ns"]
    ]
    frames += [(f["stamp_ns"], f["label"], f["probabilities"]) for f in record.frames]
    shown = sorted((f for f in frames if f[1] is not None), key=lambda f: int(f[0]))
    for number, (stamp, label, probabilities) in enumerate(shown):
        seconds = (stamp - shown[0][0]) / _NS
        yield DefectImage(record.key, (str(label),), probabilities, number, seconds)


def _best_product(said: Sequence[Said]) -> ReliabilityTally | None:
    """Whether the best published product comes true as often as its score says."""
    some = [s for s in said if _scored_product(s)]
    if not some:
        return None
    return ReliabilityTally(
        [s.products[0][1] for s in some],
        [s.products[0][0] == s.product for s in some],
        [s.key for s in some],
        suffix="_product",
    )


def _scored_product(said: Said) -> bool:
    """Whether there is a published score, and a truth to hold it against."""
    return bool(said.products) and said.product is not None


def _decisions(said: Sequence[Said]) -> Table:
    """What is so of a product, against what was decided."""
    columns = ("identified, right", "identified, wrong", *_DECISIONS[1:], "no answer")
    kinds = {"in the manifest": (True, None), "not in the manifest": (False,)}
    rows: list[tuple[Cell, ...]] = []
    for kind, wanted in kinds.items():
        mine = [s for s in said if s.product is not None and s.in_manifest in wanted]
        cells = [s.right for s in mine if s.decision == IDENTIFIED]
        counts = [sum(cells), len(cells) - sum(cells)]
        counts += [sum(s.decision == d for s in mine) for d in _DECISIONS[1:]]
        rows.append((kind, *counts, sum(s.decision is None for s in mine)))
    return Table(
        ("product", *columns), tuple(rows), "Rows: where the true product is; columns: decisions."
    )


def _verdicts(said: Sequence[Said]) -> Table:
    columns = (*LABELS, UNINSPECTED)
    rows: list[tuple[Cell, ...]] = []
    for label in LABELS:
        mine = [s.verdict for s in said if s.label == label]
        rows.append((label, *(mine.count(c) for c in columns), mine.count(None)))
    note = "Rows: what is so of a pick; columns: its verdict."
    return Table(("truth", *columns, "no answer"), tuple(rows), note)


def _worst(records: Sequence[PickRecord], said: Sequence[Said]) -> Iterator[Worst]:
    for record, s in zip(records, said, strict=True):
        if record.error is not None:
            yield Worst(s.key, 2.0, no_answer(record), {"outcome": "no answer"})
            continue
        if s.label is not None and s.label != NOMINAL and s.verdict == NOMINAL:
            what = f"A pick with {s.label} passed as nominal, at {s.verdict_score:.3f}."
            yield Worst(s.key, 1 + s.verdict_score, what, _facts("missed defect", NOMINAL))
        elif s.product is not None and s.decision == IDENTIFIED and not s.right:
            name, sure = s.products[0]
            place = "" if s.in_manifest is not False else ", which is not in the manifest"
            what = f"Identified as {name} with {sure:.3f}; it is {s.product}{place}."
            yield Worst(s.key, 1 + sure, what, _facts("wrong product", name))
        elif s.label == NOMINAL and s.verdict in LABELS and s.verdict != NOMINAL:
            what = f"A sound pick was called {s.verdict}, at {s.verdict_score:.3f}."
            yield Worst(s.key, s.verdict_score, what, _facts("false alarm", str(s.verdict)))


def _facts(outcome: str, answer: str) -> dict[str, str | float]:
    return {"outcome": outcome, "answer": answer}
