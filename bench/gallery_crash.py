"""Is a commit lost when the writing process is killed? SIGKILL at random moments, hundreds of them.

`python bench/gallery_crash.py` writes results/gallery_crash.json. A process adds, replaces and
removes references, changes products, containers and records, commits, closes, opens, compacts; it
says what it is about to commit, and what was. Another one kills it at a random moment, opens the
gallery and compares row for row and vector for vector: all that was acknowledged must be there,
what was being committed must be there wholly or not at all, `check` must find nothing, and the
next commit must work.

A killed process leaves its writes to the kernel: this is no test of power loss.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.gallery.check import check_gallery
from robollm.gallery.compact import compact_gallery
from robollm.gallery.reader import GalleryReader
from robollm.gallery.records import MadeWith, Product
from robollm.gallery.vectors import unit_rows
from robollm.gallery.writer import GalleryWriter
from robollm.runtime.measure import conditions, machine

ROOT = Path(__file__).resolve().parent.parent
DIM = 32
MADE_WITH = MadeWith("c" * 64, "crash 1.0 (cccc)")
MOST = 3000  # living references, so that a look at all of them stays cheap
LONGEST_S = 0.12  # from the start of a writer until it is killed


@dataclass(frozen=True)
class Model:
    """What the gallery should hold.

    Attributes:
        generation: number of commits.
        references: source -> sha256, which stands for the vector; its product is in the source.
        titles: product -> title.
        containers: container -> products.
        record: the one record.
    """

    generation: int = 0
    references: dict[str, str] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    containers: dict[str, list[str]] = field(default_factory=dict)
    record: int | None = None

    def after(self, change: dict[str, Any]) -> Model:
        """With one commit."""
        gone = set(change.get("remove", ()))
        product = change.get("product")
        references = {
            s: sha
            for s, sha in self.references.items()
            if s not in gone and s.partition("/")[0] != product
        }
        titles = {p: t for p, t in self.titles.items() if p != product}
        for name, first, count in change.get("add", ()):
            references.update(images(name, first, count))
            titles.setdefault(name, "")
        titles.update(change.get("titles", {}))
        return replace(
            self,
            generation=self.generation + 1,
            references=references,
            titles=titles,
            containers={**self.containers, **change.get("containers", {})},
            record=change.get("record", self.record),
        )


def images(product: str, first: int, count: int) -> dict[str, str]:
    """Sources of a product and what stands for their vectors."""
    return {f"{product}/{i}.jpg": f"{i:064x}" for i in range(first, first + count)}


def vectors(shas: list[str]) -> NDArray[np.float32]:
    """(N, DIM) float32, the vector that each sha256 stands for."""
    phase = np.array([int(s, 16) for s in shas], np.float64)[:, None]
    return np.sin(phase * np.arange(1, DIM + 1) + 0.5).astype(np.float32)


# The process that is killed


def serve() -> None:
    """Fork a writer for each line on stdin; it need not import anything then."""
    for line in sys.stdin:
        folder, seed = json.loads(line)
        pid = os.fork()
        if pid == 0:
            say("pid", os.getpid())
            try:
                write(Path(folder), random.Random(seed))
            except BaseException as e:
                say("failed", repr(e))
            os._exit(1)
        os.waitpid(pid, 0)
        say("ended", pid)


def say(what: str, value: Any) -> None:
    """One line, in one write, so that it is there or not."""
    os.write(1, (json.dumps([what, value]) + "\n").encode())


def write(folder: Path, rng: random.Random) -> None:
    """Change a gallery until somebody ends it."""
    writer = GalleryWriter(folder, MADE_WITH, 5.0)
    say("open", "")
    while True:
        known = list(writer.known())
        kind = rng.random()
        if kind < 0.15:
            say("compact", {})
            say("done", compact_gallery(folder).generation)
        elif kind < 0.25:
            writer.close()  # writes the log back
            writer = GalleryWriter(folder, MADE_WITH, 5.0)
        else:
            change = invent(rng, known)
            apply(writer, change)
            if kind < 0.3:
                writer.rollback()
                continue
            say("commit", change)
            say("done", writer.commit())


def invent(rng: random.Random, known: list[str]) -> dict[str, Any]:
    """A change of some kinds."""
    change: dict[str, Any] = {"record": rng.randrange(1 << 30)}
    if known:
        change["remove"] = rng.sample(known, min(len(known), rng.choice((0, 1, 20))))
        if rng.random() < 0.2:
            change["product"] = rng.choice(known).partition("/")[0]
            change["remove"] = []
    if len(known) < MOST:
        change["add"] = [(f"P{rng.randrange(10**6)}", rng.randrange(10**9), count)
                         for count in rng.choices((1, 6, 400), (6, 3, 1), k=2)]  # fmt: skip
    change["titles"] = {f"T{rng.randrange(20)}": f"title {rng.random()}"}
    change["containers"] = {f"C{rng.randrange(20)}": [f"P{i}" for i in range(rng.randrange(9))]}
    return change


def apply(writer: GalleryWriter, change: dict[str, Any]) -> None:
    """Make a change, without committing it."""
    writer.remove_references(change.get("remove", []))
    if "product" in change:
        writer.remove_product(change["product"])
    for product, first, count in change.get("add", ()):
        new = images(product, first, count)
        shas = list(new.values())
        writer.add_references(product, vectors(shas), sources=list(new), sha256s=shas)
    for product, title in change["titles"].items():
        writer.put_product(Product(product, title))
    for container, products in change["containers"].items():
        writer.put_container(container, products)
    writer.put_record("crash", "last", {"value": change["record"]})


# The process that kills it and looks


@dataclass
class Found:
    """What the kills did.

    Attributes:
        kills: processes that were killed while they wrote.
        acknowledged: commits and compactions that a process was told of.
        recoveries: galleries that opened afterwards, held exactly what they should, and went on.
        losses: what was missing or wrong, in words.
        died_in: what the killed process was at.
        kept_unacknowledged: of the commits at work, how many were on the disk already.
    """

    kills: int = 0
    acknowledged: int = 0
    recoveries: int = 0
    losses: list[str] = field(default_factory=list)
    died_in: Counter[str] = field(default_factory=Counter)
    kept_unacknowledged: int = 0


def crash(folder: Path, kills: int, seed: int) -> Found:
    """Kill writers of an empty gallery.

    Args:
        folder: a gallery of `DIM` and `MADE_WITH` without commits.
        kills: how often.
        seed: of what is written, and of when it ends.
    """
    rng, found, model = random.Random(seed), Found(), Model()
    command = [sys.executable, __file__, "--as-writer"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        assert p.stdin is not None
        assert p.stdout is not None
        try:
            while found.kills < kills and not found.losses:
                p.stdin.write(json.dumps([str(folder), rng.randrange(1 << 40)]) + "\n")
                p.stdin.flush()
                _, pid = json.loads(p.stdout.readline())
                time.sleep(rng.uniform(0, LONGEST_S))
                os.kill(pid, signal.SIGKILL)
                found.kills += 1
                at, tried = "opening", None
                for line in p.stdout:
                    what, value = json.loads(line)
                    if what == "failed":
                        found.losses.append(f"a writer failed: {value}")
                    elif what == "ended":
                        break
                    elif what in ("commit", "compact"):
                        at, tried = what, model.after(value)
                    else:
                        if what == "done":
                            assert tried is not None
                            assert tried.generation == value
                            model, found.acknowledged = tried, found.acknowledged + 1
                        at, tried = "changing", None
                found.died_in[at] += 1
                model = recover(folder, model, tried, found)
        finally:
            p.stdin.close()
    return found


def recover(folder: Path, acknowledged: Model, tried: Model | None, found: Found) -> Model:
    """Open, compare, commit once more; what the gallery holds now."""
    now, wrong = look(folder)
    if tried is not None and now == tried:
        found.kept_unacknowledged += 1
    elif now != acknowledged:
        wrong.append(f"generation {now.generation} is not what was acknowledged, nor the next")
    with_record = now.after({"record": found.kills})
    writer = GalleryWriter(folder, MADE_WITH, 5.0)
    try:
        writer.put_record("crash", "last", {"value": found.kills})
        generation = writer.commit()
    finally:
        writer.close()
    if generation != with_record.generation:
        wrong.append(f"the next commit was number {generation}")
    found.acknowledged += 1
    found.losses += wrong
    found.recoveries += not wrong
    return with_record


def look(folder: Path) -> tuple[Model, list[str]]:
    """What a gallery holds, and what is wrong with it."""
    wrong = check_gallery(folder).problems
    reader = GalleryReader(folder)
    try:
        with reader.snapshot() as (rows, conn):
            titles = dict(conn.execute("SELECT id, title FROM product"))
            kept = conn.execute(
                "SELECT source, sha256, slot, p.id FROM reference r "
                "JOIN product p ON p.number = r.product WHERE died IS NULL"
            ).fetchall()
    finally:
        reader.close()
    references = {source: sha for source, sha, _, _ in kept}
    names = list(references)
    want = unit_rows(vectors(list(references.values())), names, DIM)
    if not np.array_equal(rows.vectors[[slot for _, _, slot, _ in kept]], want):
        wrong.append("vectors are other ones than were added")
    if any(source.partition("/")[0] != pid for source, _, _, pid in kept):
        wrong.append("a reference is of another product")
    record = rows.records.get(("crash", "last"))
    containers = {c: sorted(ids) for c, ids in rows.containers.items()}
    value = None if record is None else record["value"]
    return Model(rows.generation, references, titles, containers, value), wrong


def main() -> None:
    """Kill, print, write."""
    from robollm.gallery.store import create_gallery

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gallery_crash.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as tmp, conditions(()) as load:
        create_gallery(Path(tmp) / "gallery", dim=DIM, made_with=MADE_WITH)
        found = crash(Path(tmp) / "gallery", args.kills, args.seed)
    card = {
        "command": f"python bench/gallery_crash.py --kills {args.kills} --seed {args.seed}",
        "machine": machine(),
        "kills": found.kills,
        "acknowledged": found.acknowledged,
        "recoveries": found.recoveries,
        "losses": len(found.losses),
        "lost": found.losses,
        "died_in": dict(found.died_in),
        "kept_unacknowledged": found.kept_unacknowledged,
        "conditions": {
            k: load[k] for k in ("load_before", "load_after", "seconds", "others_cores")
        },
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(card, indent=1) + "\n")
    print(json.dumps(card, indent=1))
    sys.exit(bool(found.losses))


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--as-writer"] else main()
