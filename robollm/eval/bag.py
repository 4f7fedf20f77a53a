"""Bags into a run folder: picks and tote images, answered without ROS as the nodes answer."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robollm.core.errors import EvalError
from robollm.data.bag_recovery import RecoveredBag
from robollm.data.problems import Problems
from robollm.eval.bag_topics import Part, heard, station_topics
from robollm.eval.gather import IMAGE, PICK, Gatherer, Heard, PickJob
from robollm.eval.progress import SILENT, Progress
from robollm.eval.recorder import Desk
from robollm.eval.records import PICKS, TOTES, Json
from robollm.eval.run_card import CONTENT
from robollm.eval.run_folder import RunFolder
from robollm.eval.runner import Progressed, predict
from robollm.eval.settings import StationSettings
from robollm.eval.station import StationDesk, ToteJob
from robollm.eval.truth import Bag, StationTruth, find_truth, read_truth


@dataclass(frozen=True, slots=True)
class Looked:
    """What a first look at a bag found.

    Attributes:
        parts: topic -> what it is to the station.
        namespace: of its topic with the picks.
        picks: messages on that topic.
        messages: in all, as far as they can be read.
        digest: of the topics and their numbers of messages.
        content: of those messages: topics, times of recording, bytes.
    """

    parts: Mapping[str, Part]
    namespace: str
    picks: int
    messages: int
    digest: str
    content: str


def find_bags(paths: Sequence[Path], truths: Sequence[Path]) -> list[Bag]:
    """Bags with their truths and names.

    Args:
        paths: of the bags.
        truths: one for all, or one for each; none: `truth.json` in or beside each bag.

    Raises:
        EvalError: if the numbers don't fit, a bag is named twice, or a truth can't be read.
    """
    if len(truths) not in (0, 1, len(paths)):
        raise EvalError(
            f"{len(truths)} truths for {len(paths)} bags, want one, or one for each in their order",
            fix="repeat --truth for every bag, or leave it out where truth.json lies beside it",
        )
    real = [p.resolve() for p in paths]
    if twice := [p for p, n in Counter(real).items() if n > 1]:
        raise EvalError(f"bag {str(twice[0])!r} is named twice", fix="name every bag once")
    names = _names(real)
    read: dict[Path, StationTruth] = {}
    bags = []
    for number, (path, name) in enumerate(zip(paths, names, strict=True)):
        place = truths[min(number, len(truths) - 1)] if truths else find_truth(path)
        if place is not None and place not in read:
            read[place] = read_truth(place)
        truth = read[place] if place is not None else StationTruth()
        bags.append(Bag(path, name, truth, f"{name}/" if len(paths) > 1 else ""))
    return bags


def _names(paths: Sequence[Path]) -> list[str]:
    """Names, no two alike: the paths from the folder that holds all of them."""
    root = _root(paths)
    return [p.relative_to(root).as_posix() for p in paths]


def _root(paths: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([p.parent for p in paths]))


def look(
    bag: Bag,
    settings: StationSettings,
    namespace: str,
    remaps: Sequence[str],
    problems: Problems,
    progress: Progress = SILENT,
) -> Looked:
    """Read a bag once, and note what can't be read.

    Args:
        bag: what to read.
        settings: see `station_topics`.
        namespace: the same.
        remaps: the same.
        problems: gets what is damaged, and what the station lacks.
        progress: is told of every message.

    Raises:
        BagError: if it is no bag.
        EvalError: if it has no picks.
    """
    with RecoveredBag(bag.path) as opened:
        for why in opened.recovery.reasons:
            problems.note("damaged_bag", bag.name, why, "what can be read is evaluated")
        if lost := opened.recovery.lost:  # as many as a damaged file says: no loop over them
            what = f"{lost} messages can't be read"
            problems.note("lost_message", bag.name, what, "lost", times=lost)
        parts = station_topics(
            opened.topics, settings, namespace=namespace, remaps=remaps, problems=problems,
            where=bag.name,
        )  # fmt: skip
        counts = {t.name: t.count for t in opened.topics}
        picks = sum(counts[t] for t, part in parts.items() if part[0] == PICK)
        asked = next(t for t, part in parts.items() if part[0] == PICK)
        text = repr([(t, counts[t], parts[t]) for t in sorted(parts)])
        digest = hashlib.sha256(text.encode()).hexdigest()
        progress.begin(f"{bag.name}: messages", sum(counts[t] for t in parts))
        try:
            content = _content(opened, parts, progress)
        finally:
            progress.end()
        space = asked.rpartition("/")[0]
        return Looked(parts, space, picks, opened.recovery.read, digest, content)


def _content(bag: RecoveredBag, parts: Mapping[str, Part], progress: Progress) -> str:
    """Digest of the station's messages; by topic, as messages of one time have no order."""
    digests = {topic: hashlib.sha256() for topic in sorted(parts)}
    for m in bag.messages(list(parts)):
        digests[m.topic].update(f"{m.log_ns} {len(m.raw)} ".encode())
        digests[m.topic].update(m.raw)
        progress.advance()
    return hashlib.sha256(b"".join(d.digest() for d in digests.values())).hexdigest()


def data_card(bags: Sequence[Bag], looked: Sequence[Looked]) -> Json:
    """The part `data` of the card: which bags, which truth."""
    digest, content = hashlib.sha256(), hashlib.sha256()
    for bag, one in zip(bags, looked, strict=True):
        digest.update(f"{bag.name} {one.digest} ".encode())
        content.update(f"{bag.name} {one.content} ".encode())
        digest.update(repr(sorted(bag.truth.picks.items())).encode())
        digest.update(repr(sorted(bag.truth.frames.items())).encode())
    kinds = {b.truth.source.get("kind", "bags") for b in bags}
    splits = {b.truth.source.get("split", "") for b in bags}
    return {
        "root": str(_root([b.path.resolve() for b in bags])),
        "name": ", ".join(b.name for b in bags),
        "kind": kinds.pop() if len(kinds) == 1 else "bags",
        "split": splits.pop() if len(splits) == 1 else "",
        "subsets": [],
        "samples": {PICKS: sum(one.picks for one in looked)},
        "digest": digest.hexdigest(),
        CONTENT: content.hexdigest(),
    }


def replay(
    run: RunFolder,
    bags: Sequence[Bag],
    looked: Sequence[Looked],
    settings: StationSettings,
    *,
    workers: int,
    ray: str = "",
    progress: Progress = SILENT,
    answerer: Callable[[StationSettings], Desk] = StationDesk,
) -> Progressed:
    """Answer the picks of bags, then the tote images whose instances are known.

    This process reads the bags and finds out which pictures belong to which pick; `workers`
    processes answer. Only a few picks are in memory at a time.

    Args:
        run: where the records go, streams `picks` and `totes`.
        bags: what to read.
        looked: a first look at each.
        settings: of the nodes.
        workers: processes.
        ray: see `predict`.
        progress: is told of every pick.
        answerer: makes who answers, in each process.

    Raises:
        BagError: if a bag can't be read any more.
        ModelFileError: see `Perceiver`; and what `load_catalogue` raises.
    """
    total = sum(one.picks for one in looked)
    desk = (settings.of_a_worker(),)
    done = predict(
        run, PICKS, _pick_jobs(run, bags, looked, settings), answerer, desk,
        workers=workers, ray=ray, progress=progress, total=total,
    )  # fmt: skip
    if any(bag.truth.frames for bag in bags):
        more = predict(
            run, TOTES, _tote_jobs(bags, looked), answerer, desk, workers=workers, ray=ray,
            progress=progress, total=sum(len(b.truth.frames) for b in bags),
        )  # fmt: skip
        done = Progressed(
            done.done + more.done, done.skipped + more.skipped, done.failed + more.failed,
            done.seconds + more.seconds,
        )  # fmt: skip
    return done


def _pick_jobs(
    run: RunFolder, bags: Sequence[Bag], looked: Sequence[Looked], settings: StationSettings
) -> Iterator[PickJob]:
    for bag, one in zip(bags, looked, strict=True):
        gatherer = Gatherer(bag.name, settings, bag.truth, run.problems, bag.prefix)
        frames: set[int] = set()
        with RecoveredBag(bag.path) as opened:
            messages = heard(opened, one.parts, run.problems)
            yield from gatherer.jobs(_stamped(messages, bag.truth, frames))
        bag.truth.compare(gatherer.seen.keys(), frames, run.problems)


def _stamped(messages: Iterator[Heard], truth: StationTruth, frames: set[int]) -> Iterator[Heard]:
    """Pass messages on, and note the stamps of tote images that the truth knows."""
    for m in messages:
        if m.role == IMAGE:
            stamp = m.item.header.stamp
            frames.update({int(stamp.sec) * 10**9 + int(stamp.nanosec)} & truth.frames.keys())
        yield m


def _tote_jobs(bags: Sequence[Bag], looked: Sequence[Looked]) -> Iterator[ToteJob]:
    for bag, one in zip(bags, looked, strict=True):
        topics = {t: part for t, part in one.parts.items() if part[0] == IMAGE}
        if not bag.truth.frames or not topics:
            continue
        seen: set[int] = set()
        with RecoveredBag(bag.path) as opened:
            for m in heard(opened, topics, Problems()):  # told of in the first pass
                stamp = m.item.header.stamp
                ns = int(stamp.sec) * 10**9 + int(stamp.nanosec)
                if ns in bag.truth.frames and ns not in seen:
                    seen.add(ns)
                    truth = bag.truth.frames[ns]
                    yield ToteJob(f"{bag.prefix}{ns}", f"{bag.name} at {ns} ns", m.item, truth)
