"""All numbers of the default bundle: `robollm eval` on the test sets of both renderers.

`python bench/tote_small.py --gl GL --cycles CYCLES` writes results/tote_small.json, from which
`python tools/results_tote_small.py` makes the tables of README.md and docs/tote-small.md. GL and
CYCLES are datasets of `robollm sim`, of products that training never saw; without --cycles that
column stays "not measured". Run folders with every record and a report stay in --runs; the same
command goes on with them, and so does a later one that adds --cycles.

Of each set (`COMMANDS` has the words):

- default: `robollm eval armbench`, in the precision that `auto` takes;
- picks: `robollm eval picks`, what the nodes would publish, one process for its latency;
- visible: masks without the objects of which less than 20 % shows.

Of GL alone, because Cycles has no column for it:

- the baselines of `--baselines` (default's run), and chance, of masks;
- fp32: as default, in float32; left out where default was float32 already.

The gap is GL - Cycles; the two sets are resampled apart from each other.

`--demo REPORT` takes the time per pick event from what `make demo` left (demo_out/report.json); it
must be of the same bundle.

Time, reckoned from .16 CPU seconds a tote picture and .01 a crop: GL with 1,440 totes, 355 picks
and 1,686 references about 8 minutes of two idle cores (default 5 with its baselines, chance 1,
picks 2), fp32 3 more; Cycles by its size; the gap a minute.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kit

from robollm.eval.figures import Metrics, Section
from robollm.eval.records import IDENTIFICATION, IdentificationRecord
from robollm.eval.run_folder import RunFolder
from robollm.eval.score import tallies
from robollm.eval.tasks.folders import find
from robollm.metrics.bootstrap import Interval, independent
from robollm.runtime.bundle import load_bundle

Json = dict[str, Any]
SETS = ("gl", "cycles")
BASELINES = "--baselines"
BUNDLE = "models/tote-small"
COMMANDS = {
    "default": "robollm eval armbench DATA --bundle BUNDLE --references split --baselines",
    "chance": "robollm eval armbench DATA --predictor chance --task segmentation",
    "fp32": "robollm eval armbench DATA --bundle BUNDLE --references split --precision fp32",
    "visible": "robollm eval armbench DATA --bundle BUNDLE --task segmentation "
    "--subset mix-object-tote --min-visibility 0.2",
    "picks": "robollm eval picks DATA --bundle BUNDLE --gallery GALLERY --workers 1",
}
"""Run -> words, without --out, --split, --limit, --draws and --workers; see `wanted`."""
KEPT = re.compile(
    r"(object_only|class_agnostic|two_class)_(mask|box)_mAP(50|75)?(_1-5|_6-12|_13\+)?"
    r"|recall@[123]_(container|all)_(product|image)_n[13](max)?"
    r"|recall@1_container_product_n[13]_manifest-.*|chance@[123]_container"
    r"|(unknown_rejected_at_fr|false_reject_at_fa)0\.05_n[13]|auroc_n[13]"
    r"|(image|induct)_(multi_pick|package_defect|combined)_(precision|recall|fpr|auc|recall@.*)"
    r"|verdict_.*_(precision|recall|fpr|auc|recall@.*)|uninspected_share|ece(_floor)?(_.*)?"
    r"|recall@[123]_published|identified_(share|precision)|latency_(answer|total)_p(50|95)"
)
"""Figures that the results keep; metrics.json of a run has them all."""
GAPS = re.compile(
    r"object_only_(mask|box)_mAP(50|75)(_1-5|_6-12|_13\+)?"
    r"|recall@1_(container|all)_product_n[13]|unknown_rejected_at_fr0\.05_n[13]"
    r"|induct_(multi_pick|package_defect)_(recall@fpr0\.05|auc)"
    r"|verdict_(multi_pick|package_defect|combined)_(recall|fpr|recall@fpr0\.05|auc)"
)


def words(args: argparse.Namespace, run: str, name: str, data: Path) -> list[str]:
    """The command of one run on one set, with its paths."""
    folder = args.runs / name
    places = {"DATA": data, "BUNDLE": args.bundle, "GALLERY": folder / "default" / "gallery"}
    said = [str(places.get(word, word)) for word in COMMANDS[run].split()]
    if name != SETS[0] and BASELINES in said:
        said.remove(BASELINES)
    said += ["--out", str(folder / run), "--split", args.split, "--draws", str(args.draws)]
    if args.limit:
        said += ["--limit", str(args.limit)]
    return said if run == "picks" else [*said, "--workers", str(args.threads)]


def measure(args: argparse.Namespace, name: str, data: Path) -> Json:
    """All runs on one set that say something new."""
    runs: Json = {}
    tasks = frozenset(find(data).tasks)
    for run in COMMANDS:
        if run == args.without or not wanted(run, name, tasks, runs):
            continue
        said, folder = words(args, run, name, data), args.runs / name / run
        print(" ".join(said), file=sys.stderr, flush=True)
        kept = folder.with_name(f"{run}-load.json")
        if not folder.exists():
            kept.unlink(missing_ok=True)  # of a run that was thrown away
        load = {**under_load(said, kept), "workers": 1 if run == "picks" else args.threads}
        runs[run] = {**summary(folder), "conditions": load}
    return {"data": {**runs["default"].pop("data"), **made_by(data)}, "runs": runs}


def wanted(run: str, name: str, tasks: frozenset[str], done: Mapping[str, Json]) -> bool:
    """Whether one of `COMMANDS` says something new of a set.

    Args:
        run: its name.
        name: of `SETS`.
        tasks: that the set has.
        done: summaries of the runs before it.
    """
    if run == "picks":
        return "identification" in tasks
    if run == "visible":
        return "segmentation" in tasks
    if run == "chance":
        return name == SETS[0] and "segmentation" in tasks
    if run == "fp32":
        return name == SETS[0] and done["default"]["predictor"]["precision"] != "fp32"
    return True


def under_load(said: list[str], kept: Path) -> Json:
    """Run a command; the machine's load of the first time that it ended, when its times are of."""
    command = [sys.executable, "-m", "robollm.cli.main", *said[1:], "--json"]
    with kit.conditions(()) as load:
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    if code:
        raise SystemExit(f"{' '.join(said)} ended with {code}")
    if not kept.is_file():
        about = {k: load[k] for k in ("load_before", "load_after", "others_cores")}
        kept.write_text(json.dumps(about))
    found: Json = json.loads(kept.read_text())
    return found


def demo(report: Path, sha256: str) -> Json:
    """Times of `make demo`: of the picks all of whose views came; the others wait for a timeout.

    Args:
        report: its report.json.
        sha256: of the bundle that it must be of.
    """
    card = json.loads(report.read_text())
    if f"({sha256[:12]})" not in card["bundle"]:
        raise SystemExit(
            f"{report} is of {card['bundle']}, want the bundle {sha256[:12]}: run `make demo` again"
        )
    whole = [p for p in card["picks"] if len(p["views"]) == card["views_expected"]]
    times = sorted(p["event_ms"] for p in whole if p["event_ms"] is not None)
    if not times:
        raise SystemExit(f"{report} has no pick with all of its views and a time")
    return {
        "bundle": card["bundle"], "trained": card["trained"], "picks": len(card["picks"]),
        "timed": len(times), "median_ms": round(statistics.median(times), 1),
        "worst_ms": round(times[-1], 1),
    }  # fmt: skip


def made_by(data: Path) -> Json:
    """What the simulator's card says of a dataset; {} if there is none."""
    card = data / "card.json"
    about = json.loads(card.read_text()) if card.is_file() else {}
    return {k: about[k] for k in ("command", "robollm") if k in about}


def summary(folder: Path) -> Json:
    """What is kept of a run: figures, protocols, and what it was made of."""
    run = RunFolder.open(folder)
    metrics = Metrics.from_json(json.loads((folder / "metrics.json").read_text()))
    card = run.card
    about = card["predictor"]
    told = ("name", "bundle_name", "version", "sha256", "precision", "provider", "classes",
            "fused_views", "defect_thresholds", "defect_over_views")  # fmt: skip
    out: Json = {
        "predictor": {k: about[k] for k in told if k in about},
        "machine": card["machine"],
        "versions": card["versions"],
        "partial": list(metrics.partial_reasons),
        "bootstrap": dict(metrics.bootstrap),
        "sections": {s.name: section(s) for s in metrics.sections},
        "baselines": {n: {s.name: section(s) for s in ss} for n, ss in metrics.baselines.items()},
        "problems": dict(card["problems"]["counts"]),
        "data": {k: card["data"][k] for k in ("kind", "split", "samples", "digest")
                 if k in card["data"]},
    }  # fmt: skip
    records = run.records(IDENTIFICATION)
    sizes = [len(r.manifest) for r in records if isinstance(r, IdentificationRecord)]
    if sizes:
        least, most = min(sizes), max(sizes)
        out["manifests"] = {"least": least, "median": statistics.median(sizes), "most": most}
    return out


def keep_baselines(new: Json, old: Json) -> None:
    """Take over baselines that were measured on the very same pictures, and can't be here.

    Those of defects learn from the training split, which is hours of rendering; no baseline knows
    the bundle. What is taken over is marked `kept`.

    Args:
        new: a set's results, to be filled.
        old: the same set's, as they were.
    """
    digest = new["data"].get("digest")
    if not digest or digest != old.get("data", {}).get("digest"):
        return
    mine = new["runs"]["default"]["baselines"]
    for name, sections in old["runs"]["default"]["baselines"].items():
        for part, found in sections.items():
            mine.setdefault(name, {}).setdefault(part, {**found, "kept": True})


def section(found: Section) -> Json:
    """A section without curves, worst samples and figures that nobody shows."""
    figures = {k: row(v) for k, v in found.figures.items() if KEPT.fullmatch(k)}
    about = ("protocol", "samples", "units", "unit", "counts")
    return {**{k: getattr(found, k) for k in about}, "figures": figures}


def row(one: Interval) -> list[float | int | None]:
    """[value, low, high, cases]; None: there is none."""
    return [*map(short, (one.value, one.low, one.high)), one.cases]


def short(value: float) -> float | None:
    """Five decimals; None for what is no number."""
    return None if math.isnan(value) else round(value, 5)


def gaps(gl: Path, cycles: Path, draws: int) -> Json:
    """Section -> figure -> [GL - Cycles, low, high, p]."""
    mine, theirs = (tallies(RunFolder.open(folder)) for folder in (cycles, gl))
    out: Json = {}
    for (task, subset), tally in theirs.items():
        if (task, subset) not in mine:
            continue
        found = independent(mine[task, subset], tally, draws=draws)
        out[f"{task}/{subset}" if subset else task] = {
            name: [*map(short, (d.delta, d.low, d.high, d.p))]
            for name, d in found.items()
            if GAPS.fullmatch(name)
        }
    return out


def write(path: Path, card: Mapping[str, Any]) -> None:
    """As JSON, a list of numbers on one line."""
    text = json.dumps(card, indent=1)
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n")


def command(args: argparse.Namespace) -> str:
    """The command that makes these results again, without paths."""
    said = "python bench/tote_small.py --gl GL"
    said += " --cycles CYCLES" if args.cycles else ""
    said += " --demo REPORT" if args.demo else ""
    said += f" --without {args.without}" if args.without else ""
    for name, usual in (("split", "test"), ("limit", 0), ("draws", 1000), ("threads", 2)):
        if getattr(args, name) != usual:
            said += f" --{name} {getattr(args, name)}"
    return said


def main() -> int:
    """Run what is missing, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gl", type=Path, required=True, help="test set of OpenGL")
    parser.add_argument("--cycles", type=Path, help="test set of Cycles; default: not measured")
    parser.add_argument("--bundle", type=Path, default=kit.ROOT / BUNDLE)
    parser.add_argument("--runs", type=Path, default=kit.WORK / "tote_small")
    parser.add_argument("--split", default="test")
    parser.add_argument("--without", choices=sorted({*COMMANDS} - {"default"}), help="leave it out")
    parser.add_argument("--limit", type=int, default=0, help="samples of each kind; a quick look")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2, help="processes of one thread")
    parser.add_argument("--out", type=Path, default=kit.ROOT / "results" / "tote_small.json")
    parser.add_argument("--demo", type=Path, help="report.json that `make demo` left")
    args = parser.parse_args()
    card: Json = {
        "command": command(args),
        "commands": {run: said for run, said in COMMANDS.items() if run != args.without},
        "limit": args.limit,
        "machine": kit.machine(),
        "demo": demo(args.demo, load_bundle(args.bundle).sha256) if args.demo else None,
        "sets": {},
        "gap": {},
    }
    before = json.loads(args.out.read_text()).get("sets", {}) if args.out.is_file() else {}
    for name in SETS:
        data = getattr(args, name)
        if data is None:
            continue
        card["sets"][name] = measure(args, name, data)
        keep_baselines(card["sets"][name], before.get(name, {}))
        write(args.out, card)
    if args.cycles:
        gl, cycles = (args.runs / name / "default" for name in SETS)
        card["gap"] = gaps(gl, cycles, args.draws)
        write(args.out, card)
    return 0


if __name__ == "__main__":
    sys.exit(main())
