"""Which samples one run had right and the other wrong, out of their records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from typing import Any, cast

from robollm.core.decide import IDENTIFIED
from robollm.core.errors import EvalError
from robollm.data.armbench_defects import LABELS, NOMINAL
from robollm.eval.records import (
    DefectRecord,
    IdentificationRecord,
    PickRecord,
    Record,
    SegmentationRecord,
)
from robollm.eval.run_folder import RunFolder
from robollm.eval.tasks.identification_score import pick_ranks
from robollm.eval.tasks.segmentation_score import MAIN, result
from robollm.metrics.instances import PROTOCOLS, InstanceTally

MOST = 200
"""Changes of a stream that are listed, each way; all of them are counted."""
_NAMED = 5
_TRUTH = ("truth", "manifest", "label")
_VISIBLE = 0.05  # of F1: less is a mask's edge
Part = tuple[str, str]
"""A sample, and what was asked of it: a pick has an "identity" and a "verdict", others ""."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run made of one sample.

    Attributes:
        score: larger is better, 0 to 1: an image's F1, the probability of the truth, the score of
            the true product, or how far its cosine leads.
        right: whether it counts as right.
        said: for people.
    """

    score: float
    right: bool
    said: str


@dataclass(frozen=True, slots=True)
class SampleChange:
    """A sample that came out otherwise.

    Attributes:
        stream: where its records are.
        key: of the sample.
        file: its picture, or where it comes from.
        truth: for people.
        a: what the first run said.
        b: what the second run said.
        change: score of the second less that of the first.
    """

    stream: str
    key: str
    file: str
    truth: str
    a: str
    b: str
    change: float


def common(a: RunFolder, b: RunFolder) -> tuple[dict[str, set[str]], list[str], list[str]]:
    """Keys that both have, by stream; and, for people, what only the first has, or the second.

    Raises:
        EvalError: if there is no such key, or a sample has another truth in each.
    """
    keep: dict[str, set[str]] = {}
    only: tuple[list[str], list[str]] = ([], [])
    for stream in sorted({*a.streams, *b.streams}):
        of_a, of_b = _truths(a, stream), _truths(b, stream)
        both = of_a.keys() & of_b.keys()
        odd = sorted(k for k in both if of_a[k] != of_b[k])
        if odd:
            raise EvalError(
                f"{len(odd)} samples of {stream} have another truth in each run: {_some(odd)}",
                fix="evaluate both bundles on the same version of the data",
            )
        for lines, mine, which in zip(only, (of_a, of_b), ("first", "second"), strict=True):
            rest = sorted(mine.keys() - both)
            if rest:
                count = f"{len(rest)} of {len(mine)}" if both else f"all {len(rest)}"
                lines.append(
                    f"{count} samples of {stream} are in the {which} run only: {_some(rest)}"
                )
        if both:
            keep[stream] = both
    if not keep:
        raise EvalError(
            "the two runs have no sample in common: "
            f"{'; '.join([*only[0], *only[1]]) or 'both are empty'}",
            fix="evaluate both bundles on the same data",
        )
    return keep, *only


def _truths(run: RunFolder, stream: str) -> dict[str, bytes]:
    """Key -> digest of all that a record says of its sample, without what was answered."""
    if stream not in run.streams:
        return {}
    return {record.key: _digest(record) for record in run.records(stream)}


def _digest(record: Record) -> bytes:
    kept = {f.name: getattr(record, f.name) for f in fields(record) if f.name in _TRUTH}
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def sample_changes(
    a: RunFolder, b: RunFolder, stream: str, keys: Set[str]
) -> tuple[dict[str, int], list[SampleChange], list[SampleChange]]:
    """Compare a stream sample by sample.

    A picture with many instances is hardly ever right as a whole: of segmentation those are listed
    whose F1 differs by more than .05.

    Args:
        a: the first run.
        b: the second run.
        stream: one that both have.
        keys: samples that both have.

    Returns:
        `samples`, `both_right` and `both_wrong` (of segmentation: `same`), `lost` and `won`; the
        lost ones, largest loss first, at most `MOST`; and likewise the won ones.
    """
    of_a, of_b = _outcomes(a, stream, keys), _outcomes(b, stream, keys)
    graded = stream.startswith(("segmentation", "totes"))
    alike = ("same",) if graded else ("both_right", "both_wrong")
    counts = {"samples": len(of_a), **dict.fromkeys(alike, 0)}
    lost: dict[Part, tuple[Outcome, Outcome]] = {}
    won: dict[Part, tuple[Outcome, Outcome]] = {}
    for key, x in of_a.items():
        y = of_b[key]
        less = x.score - y.score > _VISIBLE if graded else x.right and not y.right
        more = y.score - x.score > _VISIBLE if graded else y.right and not x.right
        if less:
            lost[key] = x, y
        elif more:
            won[key] = x, y
        else:
            counts[alike[0] if x.right and y.right else alike[-1]] += 1
    counts |= {"lost": len(lost), "won": len(won)}
    worse = sorted(lost.items(), key=lambda one: (one[1][1].score - one[1][0].score, one[0]))
    better = sorted(won.items(), key=lambda one: (one[1][0].score - one[1][1].score, one[0]))
    listed = worse[:MOST], better[:MOST]
    facts = _facts(a, stream, {key for some in listed for (key, _), _ in some})
    rows = [
        [
            SampleChange(
                stream, f"{key} {part}".strip(), *facts[key], x.said, y.said, y.score - x.score
            )
            for (key, part), (x, y) in some
        ]
        for some in listed
    ]
    return counts, rows[0], rows[1]


def _outcomes(run: RunFolder, stream: str, keys: Set[str]) -> dict[Part, Outcome]:
    """Key and part -> outcome."""
    some = (r for r in run.records(stream) if r.key in keys)
    if stream.startswith(("segmentation", "totes")):
        found = _images(cast("Iterator[SegmentationRecord]", some), run)
    elif stream == "identification":
        found = _queries(cast("Iterator[IdentificationRecord]", some), run)
    elif stream == "picks":
        found = _picks(cast("Iterator[PickRecord]", some))
    else:
        found = _defects(cast("Iterator[DefectRecord]", some))
    return dict(found)


def _images(
    records: Iterable[SegmentationRecord], run: RunFolder
) -> Iterator[tuple[Part, Outcome]]:
    classes = str(run.card["predictor"].get("classes", "agnostic"))
    failed: dict[str, Record] = {}

    def seen() -> Iterator[Any]:
        for one in records:
            if one.error:
                failed[one.key] = one
            yield result(one, classes)

    tally = InstanceTally(seen(), PROTOCOLS[classes])
    cut = tally.at_best(MAIN)
    for row, key in enumerate(tally.units):
        hits, finds, truths = int(cut.hits[row]), int(cut.finds[row]), int(cut.truths[row])
        f1 = 2 * hits / (finds + truths) if finds + truths else 1.0
        said = f"{hits} of {truths} objects, {finds - hits} false, F1 {f1:.2f}"
        yield (key, ""), _failed(failed[key]) if key in failed else Outcome(f1, f1 == 1, said)


def _queries(
    records: Iterable[IdentificationRecord], run: RunFolder
) -> Iterator[tuple[Part, Outcome]]:
    held = list(records)
    for record, one in zip(held, pick_ranks(run, held), strict=True):
        query = next((q for q in ("n3", "n1") if q in one.leads), "")
        if record.error:
            yield (record.key, ""), _failed(record)
        elif not query:
            yield (record.key, ""), Outcome(0.0, False, "no query")
        else:
            lead, right = one.leads[query], one.before["container", "product", query] == 0
            # Cosines lead by at most 2; the truth or all others may have no reference.
            ahead = min(2.0, max(-2.0, lead.right - lead.wrong))
            first = record.truth if right else lead.other or "nothing"
            said = f"{query}: {first} first, truth {lead.right:.3f}, best other {lead.wrong:.3f}"
            yield (record.key, ""), Outcome(0.5 + ahead / 4, right, said)


def _defects(records: Iterable[DefectRecord]) -> Iterator[tuple[Part, Outcome]]:
    for one in records:
        if one.error:
            yield (one.key, ""), _failed(one)
            continue
        said = max(one.probabilities, key=lambda name: one.probabilities[name])
        true = one.label if one.label in LABELS else "package_defect"  # a video's label
        mine = one.probabilities.get(true, 0.0)
        text = f"{said} ({one.probabilities[said]:.2f}), {true} {mine:.2f}"
        yield (one.key, ""), Outcome(mine, said == true, text)


def _picks(records: Iterable[PickRecord]) -> Iterator[tuple[Part, Outcome]]:
    for one in records:
        if one.truth is None:
            continue  # nobody knows what is right
        yield (one.key, "identity"), _identity(one, one.truth)
        if one.truth.get("label"):
            yield (one.key, "verdict"), _verdict(one, str(one.truth["label"]))


def _identity(one: PickRecord, truth: Mapping[str, Any]) -> Outcome:
    if one.error or one.identification is None:
        return _failed(one)
    decision, ranked = one.identification["decision"], one.identification["ranked"]
    product = str(truth["product_id"])
    score = next((float(s) for name, s in ranked if name == product), 0.0)
    named = decision == IDENTIFIED
    right = named and ranked[0][0] == product if truth.get("in_manifest") else not named
    first = f": {ranked[0][0]}" if named else ""
    return Outcome(score, right, f"{decision}{first}, the true product {score:.2f}")


def _verdict(one: PickRecord, label: str) -> Outcome:
    if one.error or one.verdict is None:
        return _failed(one)
    wanted = label if label in LABELS else "package_defect"
    score = next((float(s) for name, s in one.verdict["ranked"] if name == wanted), 0.0)
    decision = one.verdict["decision"]
    return Outcome(score, decision == wanted, f"{decision}, {wanted} {score:.2f}")


def _failed(one: Record) -> Outcome:
    kind = one.error["kind"] if one.error else "nothing was published"
    return Outcome(0.0, False, f"no answer ({kind})")


def _facts(run: RunFolder, stream: str, keys: Set[str]) -> dict[str, tuple[str, str]]:
    """Sample -> its file and its truth, for people."""
    return {r.key: _fact(r) for r in run.records(stream) if r.key in keys}


def _fact(record: Record) -> tuple[str, str]:
    if isinstance(record, SegmentationRecord):
        return record.file, f"{len(record.truth)} instances"
    if isinstance(record, DefectRecord):
        return record.file, record.label
    if isinstance(record, IdentificationRecord):
        return next(iter(record.files.values()), ""), record.truth
    assert isinstance(record, PickRecord)
    truth = record.truth or {}
    stranger = "" if truth.get("in_manifest") else " (not in the manifest)"
    return record.bag, f"{truth.get('product_id')}{stranger}, {truth.get('label') or NOMINAL}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
