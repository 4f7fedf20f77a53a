"""Folders, a bag and ROS: the same picks evaluated three ways. Same numbers? How fast? How flat?

`python bench/evaluation.py --data D --bundle B` writes results/evaluation.json. D holds ARMBench's
`armbench-object-id-0.1`; without it drawn pictures in that layout are made, whose figures mean
nothing, but must be equal all the same; without --bundle a small one with random weights.

- folders, bag: `robollm eval picks`, and `eval bag` on what `eval make-bag` made of the same picks;
- ros: `eval bag --ros`, in lock step into the running nodes;
- resume: `eval bag`, killed with SIGKILL at half of its picks, and begun again.

Of each: pictures a second (the whole command, and steady: between the first and the last tenth of
the picks), cores that were busy meanwhile, resident memory of all its processes at each tenth of
the way, and the figures, with name and digest of the bundle and of the data; and how many seconds
the bag was recorded for. `differs` counts picks whose answer is not the folders' one, to the last
bit.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bundles
import kit
import psutil

from robollm.data import armbench_identification as armbench
from robollm.data.bag import BagReader
from robollm.data.jpeg import encode
from robollm.eval.records import PICKS, PickRecord
from robollm.eval.run_folder import RunFolder
from robollm.runtime.bundle import load_bundle

CASES = ("folders", "bag", "ros", "resume")
HW = (480, 640)
LOOK_S = 0.25
VIEWS = ("PickRGB", "OnArmLowRGB", "ToteWallRGB")
SHOWN = ("recall@1_published", "identified_precision", "verdict_combined_recall",
         "verdict_combined_fpr")  # fmt: skip

Words = list[str]


def draw_data(out: Path, picks: int) -> Path:
    """ARMBench's layout with drawn pictures, four picks of a product; kept between runs."""
    root = out / armbench.ROOT
    if root.is_dir():
        return out
    part = out.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    root, products = part / armbench.ROOT, [f"P{n:05}" for n in range(max(20, picks // 4))]
    for n, name in enumerate(products):
        pictures = [encode(rgb) for rgb in bundles.drawn(2, HW, seed=10_000 + n)]
        armbench.write_references(root, name, pictures)
    ids = [f"pick-{n:06}" for n in range(picks)]
    for n, pick in enumerate(ids):
        views = VIEWS if n % 10 else VIEWS[:2]
        shown = [encode(rgb) for rgb in bundles.drawn(len(views), HW, seed=n)]
        inside = {products[(n + k) % len(products)]: {"title": "drawn"} for k in range(20)}
        annotation = {"GT_ID": products[n % len(products)], "segmentation": {}}
        armbench.write_pick(root, pick, dict(zip(views, shown, strict=True)), inside, annotation)
    nobody: dict[str, list[str]] = {"train": [], "val": []}
    armbench.write_split(root, {**nobody, "test": ids}, {**nobody, "test": products})
    part.rename(out)
    return out


class Watched:
    """A command, with what it and all its processes use.

    Args:
        words: of `robollm`.
        run: the run folder that it fills.
        picks: how many there are.
    """

    def __init__(self, words: Words, run: Path, picks: int) -> None:
        self._words, self._run, self._picks = words, run, picks
        self._cpu: dict[int, float] = {}
        self.looks: list[tuple[float, int, float, float]] = []  # s, picks done, MiB, CPU s

    def run(self, stop_at: int = 0) -> int:
        """Run it; `stop_at`: kill it after so many picks. Returns the exit code."""
        began = time.perf_counter()
        command = [sys.executable, "-m", "robollm.cli.main", *self._words, "--json"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            tree = psutil.Process(process.pid)
            while process.poll() is None:
                time.sleep(LOOK_S)
                done = self._done()
                mib, cpu = self._usage(tree)
                self.looks.append((time.perf_counter() - began, done, mib, cpu))
                if stop_at and done >= stop_at:
                    process.kill()
        return process.returncode

    def row(self, pictures: int) -> dict[str, Any]:
        """What was measured; the memory at each tenth of the picks."""
        end = self.looks[-1]
        tenth = self._picks // 10
        some = [look for look in self.looks if tenth <= look[1] <= self._picks - tenth]
        first, last = (some[0], some[-1]) if len(some) > 1 else (self.looks[0], end)
        share = (last[1] - first[1]) / self._picks
        seconds = max(last[0] - first[0], 1e-9)
        memory = [
            round(next((mib for _, done, mib, _ in self.looks if done >= k * tenth), end[2]))
            for k in range(1, 11)
        ]
        return {
            "seconds": round(end[0], 1),
            "pictures_per_second": round(pictures / end[0], 2),
            "steady_pictures_per_second": round(pictures * share / seconds, 2),
            "cores_busy": round((last[3] - first[3]) / seconds, 2),
            "memory_mib": memory,
        }

    def _done(self) -> int:
        files = (self._run / "records").glob(f"{PICKS}.*.jsonl")
        return sum(f.read_bytes().count(b"\n") for f in files)

    def _usage(self, tree: psutil.Process) -> tuple[float, float]:
        mib = 0.0
        try:
            processes = [tree, *tree.children(recursive=True)]
        except psutil.NoSuchProcess:
            processes = []
        for process in processes:
            try:
                spent = process.cpu_times()
                self._cpu[process.pid] = spent.user + spent.system
                memory = process.memory_info()
                mib += (memory.rss - memory.shared) / 2**20  # shared pages would count twice
            except psutil.NoSuchProcess:
                continue
        return mib, sum(self._cpu.values())


def answers(run: Path) -> dict[str, Any]:
    """Pick -> what was decided, without what ROS does not publish."""
    found = {}
    for r in RunFolder.open(run).records(PICKS):
        assert isinstance(r, PickRecord)
        judged = {e["view"]: e["probabilities"] for e in r.evidence if e["probabilities"]}
        parts = [(p["decision"], p["ranked"]) for p in (r.identification, r.verdict) if p]
        found[r.key] = (parts, judged, r.error)
    return found


def figures(run: Path) -> dict[str, dict[str, float]]:
    """Name -> value and limits, of what is not a time."""
    sections = json.loads((run / "metrics.json").read_text())["sections"]
    return {k: v for s in sections for k, v in s["figures"].items() if not k.startswith("latency")}


def asked(run: Path) -> dict[str, Any]:
    """Which data and bundle a run is of, by name and digest."""
    card = RunFolder.open(run).card
    data, made = card["data"], card["predictor"]
    names = {"name": "bundle_name", "version": "version", "sha256": "sha256"}
    return {
        "data": {k: data[k] for k in ("name", "kind", "split", "samples", "digest") if k in data},
        "bundle": {k: made[name] for k, name in names.items() if name in made},
    }


def bag_seconds(bag: Path) -> float:
    """From the first message of a bag to the last, s."""
    with BagReader(bag) as opened:
        stamps = [message.log_ns for message in opened.messages()]
    return round((max(stamps) - min(stamps)) / 1e9, 1)


def compared(run: Path, reference: Path) -> dict[str, Any]:
    """How a run's answers and figures differ from the folders'."""
    mine, theirs = answers(run), answers(reference)
    assert mine.keys() == theirs.keys(), "not the same picks"
    a, b = figures(run), figures(reference)
    return {
        "picks": len(mine),
        "pictures": sum(1 + len(judged) for _, judged, _ in mine.values()),
        "errors": sum(error is not None for _, _, error in mine.values()),
        "differs": sum(mine[k] != theirs[k] for k in mine),
        "figures": len(a),
        "figures_differ": sum(a[k] != b.get(k) for k in a),
        "values": {k: a[k]["value"] for k in SHOWN if k in a},
        **asked(run),
        "precision": RunFolder.open(run).card["predictor"]["precision"],
        "problems": RunFolder.open(run).card["problems"]["counts"],
    }


def cases(args: argparse.Namespace) -> dict[str, Callable[[], dict[str, Any]]]:
    """Name -> measurement. The bag needs the folders' gallery, and is compared with them."""
    runs = {name: args.work / f"run-{name}" for name in CASES}
    common = ["--bundle", str(args.bundle), "--allow-untrained", "--draws", "100"]
    gallery = args.work / f"gallery-{args.bundle.name}"
    made = args.work / f"bag-{args.picks}"

    def words(name: str) -> Words:
        out = ["--out", str(runs[name]), *common, "--gallery", str(gallery)]
        if name == "folders":
            some = ["--split", args.split, "--limit", str(args.picks)]
            return ["eval", "picks", str(args.data), *some, "--workers", str(args.threads), *out]
        out += ["--manifest", str(made / "manifest.json")]
        ros = ["--ros"] if name == "ros" else ["--workers", str(args.threads)]
        return ["eval", "bag", str(made / "bag"), *ros, *out]

    def measure(name: str) -> dict[str, Any]:
        shutil.rmtree(runs[name], ignore_errors=True)
        watched = Watched(words(name), runs[name], args.picks)
        killed: dict[str, int] = {}
        if name == "resume":
            code = watched.run(stop_at=args.picks // 2)
            kept = len(answers(runs[name]))
            killed = {"exit_code_when_killed": code, "picks_kept": kept}
            watched = Watched(words(name), runs[name], args.picks)
        if code := watched.run():
            raise SystemExit(f"{name}: robollm {' '.join(words(name))} ended with {code}")
        found = compared(runs[name], runs["folders"])
        if killed:
            return {**found, **killed, "seconds": round(watched.looks[-1][0], 1)}
        return {**found, **watched.row(found["pictures"])}

    prepare(args, gallery, made, common)
    return {name: lambda name=name: measure(name) for name in args.cases}  # type: ignore[misc]


def prepare(args: argparse.Namespace, gallery: Path, made: Path, common: Words) -> None:
    """The gallery and the bag that all cases share."""

    def robollm(*words: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "robollm.cli.main", *words], check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    if not gallery.is_dir():
        references = armbench.find_root(args.data) / "Reference_Images"
        robollm("gallery", "build", "--images", str(references), "--out", str(gallery),
                *common[:-2])  # fmt: skip
    if not made.is_dir():
        robollm("eval", "make-bag", str(args.data), "--out", str(made), "--split", args.split,
                "--limit", str(args.picks))  # fmt: skip


def main() -> int:
    """Measure and print a table."""
    parser = kit.options(__doc__ or "", "evaluation", CASES, rounds=1)
    parser.add_argument("--data", type=Path, help="default: drawn pictures")
    parser.add_argument("--split", default="all", help="of the data")
    parser.add_argument("--bundle", type=Path, help="default: a small one with random weights")
    parser.add_argument("--picks", type=int, default=1000)
    args = kit.parse(parser)
    args.work = args.work / f"{args.picks}-{args.data.name if args.data else 'drawn'}"
    args.work.mkdir(parents=True, exist_ok=True)
    drawn = args.data is None
    args.data = args.data or draw_data(args.work / "data", args.picks)
    if args.bundle is None:
        args.bundle = bundles.write(bundles.random_parts("small", tote=384, crop=128),
                                    args.work / "small")  # fmt: skip
    bundle = load_bundle(args.bundle, allow_untrained=True)
    told = {"name": bundle.name, "version": bundle.version, "sha256": bundle.sha256}
    measures = cases(args)
    results = kit.Results(
        args, bundle=told, drawn=drawn, split=args.split, picks=args.picks,
        bag_seconds=bag_seconds(args.work / f"bag-{args.picks}" / "bag"),
    )  # fmt: skip
    for name, measure in measures.items():
        results.run(name, measure)
    columns = ("picks", "differs", "pictures_per_second", "steady_pictures_per_second",
               "cores_busy", "seconds")  # fmt: skip
    kit.print_rows(results.cases, columns)
    return 0


if __name__ == "__main__":
    sys.exit(kit.told(main))
