"""The worst samples of a section as cards: pictures, what was true, what was said."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from robollm.core.decide import AMBIGUOUS, NOT_IN_MANIFEST, UNKNOWN
from robollm.core.fuse import OUR_NAMES
from robollm.data.armbench_identification import references
from robollm.eval.records import (
    DefectRecord,
    IdentificationRecord,
    PickRecord,
    Record,
    SegmentationRecord,
)
from robollm.eval.report.album import TOTE_SIDE, Album, Outline, Picture, crop, pack, scale_of
from robollm.eval.report.bag_pictures import TOTE, Wanted
from robollm.eval.report.outlines import OBJECT, box_path, overlay

if TYPE_CHECKING:
    from robollm.eval.figures import Section, Worst
    from robollm.eval.run_folder import RunFolder

_BAG_FRAME = re.compile(r"(.+) at (\d+) ns")
"""How a record names an image of a bag."""
_NO_PRODUCT = (AMBIGUOUS, UNKNOWN, NOT_IN_MANIFEST)
"""What a pick's ranking begins with if no product is named."""
CROP_SIDE = 300
"""Longer side of all other pictures in the page, px."""


@dataclass(frozen=True, slots=True)
class Card:
    """One of the worst samples.

    Attributes:
        task: of its section.
        subset: of its section.
        key: of the sample.
        outcome: what kind of mistake it is, in a word or two; cards are filtered by it.
        badness: how bad, as the section counts it.
        why: one sentence for people.
        pictures: what there is to see.
        facts: name -> what was true, what was said.
        bars: class -> (probability, "truth", "said", "both" or "").
    """

    task: str
    subset: str
    key: str
    outcome: str
    badness: float
    why: str
    pictures: tuple[Picture, ...]
    facts: Mapping[str, str]
    bars: Mapping[str, tuple[float, str]]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a card gets from its record."""

    outcome: str
    pictures: tuple[Picture, ...]
    facts: Mapping[str, str]
    bars: Mapping[str, tuple[float, str]]


def cards(
    run: RunFolder, section: Section, album: Album, drawn: Callable[[], None] = lambda: None
) -> list[Card]:
    """Make the cards of a section's worst samples, worst first.

    A sample without a record, or a picture that can't be read, is noted in `album.problems`; the
    card is made all the same, from what is known. `drawn` is called after each.
    """
    stream = _stream(section)
    keys = [w.key for w in section.worst]
    found = {r.key: r for r in run.records(stream, keys)} if stream in run.streams else {}
    picks: dict[str, set[str]] = {}
    for one in found.values():
        if isinstance(one, PickRecord):
            key = _own_key(one)
            picks.setdefault(one.bag, set()).update((key, key.rpartition("@")[0]))
    album.open_bags(_in_bags(found.values()), picks)
    alone = (run.card.get("predictor") or {}).get("classes") == OBJECT
    out = []
    for worst in section.worst:
        record = found.get(worst.key)
        if record is None:
            album.problems.note("no_record", f"{stream} {worst.key}", "it has no record")
            seen = _Seen("no record", (), {}, {})
        else:
            seen = _look(record, worst, album, alone)
        out.append(
            Card(section.task, section.subset, worst.key, seen.outcome, worst.badness, worst.why,
                 seen.pictures, seen.facts, seen.bars)
        )  # fmt: skip
        drawn()
    return out


def _in_bags(records: Iterable[Record]) -> dict[str, set[Wanted]]:
    """Bag -> pictures that the cards of these records show."""
    out: dict[str, set[Wanted]] = {}
    for record in records:
        if isinstance(record, PickRecord):
            seen = (e for e in record.evidence if e["stamp_ns"])  # 0: there was no such view
            views = {(str(e["view"]), int(e["stamp_ns"])) for e in seen}
            out.setdefault(record.bag, set()).update(views)
        elif isinstance(record, SegmentationRecord) and (
            place := _BAG_FRAME.fullmatch(record.file)
        ):
            out.setdefault(place[1], set()).add((TOTE, int(place[2])))
    return out


def _stream(section: Section) -> str:
    return section.subset if section.task == "station" else section.name


def _look(record: Record, worst: Worst, album: Album, objects_only: bool) -> _Seen:
    """What a record shows, whatever it is of."""
    looks: dict[type[Record], Callable[[Any, Worst, Album], _Seen]] = {
        SegmentationRecord: partial(_segmentation, objects_only=objects_only),
        IdentificationRecord: _identification,
        DefectRecord: _defect,
        PickRecord: _pick,
    }
    seen = looks[type(record)](record, worst, album)
    if record.error is None:
        outcome = str(worst.facts.get("outcome", seen.outcome))
        return _Seen(outcome, seen.pictures, seen.facts, seen.bars)
    facts = {**seen.facts, "error": f"{record.error['kind']}: {record.error['what']}"}
    return _Seen("no answer", seen.pictures, facts, seen.bars)


def _segmentation(
    record: SegmentationRecord, worst: Worst, album: Album, *, objects_only: bool
) -> _Seen:
    least = float(worst.facts.get("threshold", 0.0))
    shown = [f for f in record.found if float(f["score"]) >= least]
    scale = scale_of(record.hw, TOTE_SIDE)
    outlines, counts = overlay(record.truth, shown, scale, objects_only=objects_only)
    if place := _BAG_FRAME.fullmatch(record.file):
        shot = album.from_bag(place[1], TOTE, int(place[2]))
        image = None if shot is None else shot.image
    else:
        image = album.load(record.file)
    picture = album.missing("image") if image is None else pack(image, "image", TOTE_SIDE, outlines)
    outcome = {
        (True, True): "missed and false",
        (True, False): "missed instances",
        (False, True): "false finds",
    }.get((counts["missed"] > 0, counts["false"] > 0), "loose outlines")
    facts = {
        "drawn": f"finds with a score of {least:.2f} or more",
        "file": record.file,
        "size": f"{record.hw[1]}x{record.hw[0]} px",
    }
    return _Seen(outcome, (picture,), facts, {})


def _identification(record: IdentificationRecord, worst: Worst, album: Album) -> _Seen:
    answer = str(worst.facts.get("answer", ""))
    pictures = [_crop(album, file, view) for view, file in record.files.items()]
    pictures.append(_reference(album, record.truth, "true product"))
    if answer and answer != record.truth:
        pictures.append(_reference(album, answer, "first answer"))
    outcome = "right" if answer == record.truth else "wrong product"
    facts = {
        "true product": record.truth,
        "first answer": answer or "none",
        "manifest": f"{len(record.manifest)} products"
        + ("" if record.truth in record.manifest else ", without the true one"),
    }
    return _Seen(outcome, tuple(pictures), facts, {})


def _defect(record: DefectRecord, worst: Worst, album: Album) -> _Seen:
    image = album.load(record.file, record.frame)
    pictures = []
    if image is None:
        pictures.append(album.missing("image"))
    else:
        outlines: tuple[Outline, ...] = ()
        if record.box is not None:
            pictures.append(pack(crop(image, record.box), "what was inspected", CROP_SIDE))
            scale = scale_of((image.shape[0], image.shape[1]), CROP_SIDE)
            outlines = (Outline("box", box_path(record.box, scale), "what was inspected"),)
        pictures.append(pack(image, "whole image", CROP_SIDE, outlines))
    said = max(record.probabilities, key=lambda c: record.probabilities[c], default="")
    facts = {
        "truth": record.label,
        "said": said or "nothing",
        "file": f"{record.file}, frame {record.frame}",
    }
    return _Seen(_mistake(record.label, said), tuple(pictures), facts, _bars(record, said))


def _mistake(label: str, said: str) -> str:
    """How an answer about defects is wrong. Videos know other defects than pictures."""
    if not said:
        return "no answer"
    if said == "uninspected":
        return "uninspected"
    if (label == "nominal") != (said == "nominal"):
        return "false alarm" if label == "nominal" else "missed defect"
    return "right, but unsure" if label == said or _is_video(label) else "wrong defect"


def _is_video(label: str) -> bool:
    return any(word in label for word in ("open", "deconstruction"))


def _bars(record: DefectRecord, said: str) -> dict[str, tuple[float, str]]:
    marks = {record.label: "truth", said: "said"}
    if said == record.label:
        marks = {said: "both"}
    return {c: (p, marks.get(c, "")) for c, p in record.probabilities.items()}


def _crop(album: Album, file: str, caption: str) -> Picture:
    image = album.load(file)
    return album.missing(caption) if image is None else pack(image, caption, CROP_SIDE)


def _reference(album: Album, product: str, what: str) -> Picture:
    """The first reference picture of a product."""
    caption = f"{what}: {product}"
    files = references(album.picks, product) if album.picks is not None else []
    if not files:
        return album.missing(caption, f"{product} has no reference picture in the data.")
    return _crop(album, str(files[0]), caption)


def _pick_files(album: Album, record: PickRecord) -> dict[str, str]:
    """View -> picture that a pick was answered from; none, if it is not from folders."""
    if album.picks is None:
        return {}
    folder = album.picks / "Picks" / record.key
    used = {"image", *(str(one["view"]) for one in record.evidence)}
    files = {ours: folder / f"{name}.jpg" for name, ours in OUR_NAMES.items() if ours in used}
    return {view: str(file) for view, file in files.items() if file.is_file()}


def _own_key(record: PickRecord) -> str:
    """A pick's key within its bag: its id, with `@` and the stamp if the id came before."""
    return record.key.removeprefix(f"{record.bag}/")


def _bag_views(record: PickRecord, album: Album) -> list[Picture]:
    """The tote image with the pick's target, and the views that were judged."""
    pictures = []
    pick = album.pick_of(record.bag, _own_key(record))
    tote = None if pick is None else album.from_bag(record.bag, TOTE, pick.stamp_ns)
    if pick is not None and tote is not None:
        h, w = tote.image.shape[:2]
        scale = tote.scale * scale_of((h, w), CROP_SIDE)
        target = Outline("box", box_path(pick.box, scale), "what the arm was sent for")
        pictures.append(pack(tote.image, "tote image, target", CROP_SIDE, (target,)))
    for one in record.evidence:
        shot = album.from_bag(record.bag, str(one["view"]), int(one["stamp_ns"]))
        if shot is not None:
            pictures.append(pack(shot.image, str(one["view"]), CROP_SIDE))
    return pictures


def _pick(record: PickRecord, worst: Worst, album: Album) -> _Seen:
    truth: Mapping[str, Any] = record.truth or {}
    named: Mapping[str, Any] = record.identification or {}
    verdict: Mapping[str, Any] = record.verdict or {}
    pictures = [_crop(album, file, view) for view, file in _pick_files(album, record).items()]
    if not pictures:
        pictures = _bag_views(record, album)
    label, said = str(truth.get("label") or ""), str(verdict.get("decision") or "")
    ranked = [str(r[0]) for r in named.get("ranked", ())]
    decision = str(named.get("decision") or "no answer")
    right = bool(ranked) and ranked[0] == truth.get("product_id")
    outcome = "wrong product" if decision == "identified" and not right else decision
    if label and _mistake(label, said) not in ("right, but unsure", "no answer"):
        outcome = _mistake(label, said)
    facts = {
        "true product": str(truth.get("product_id", "not known")),
        "identification": decision,
        "first product": next((p for p in ranked if p not in _NO_PRODUCT), "none"),
        "true label": label or "not known",
        "verdict": said or "no answer",
    }
    if record.bag:
        facts["bag"] = record.bag
    return _Seen(outcome, tuple(pictures), facts, {})
