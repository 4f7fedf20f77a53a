"""What does one more instance cost, and one more pixel?

`python bench/instances.py` writes results/instances.json and docs/instances.png. The small detector
of `multitask_beit3-small_armbench` (random weights, seed 0: all of its RoIs become instances) looks
at drawn totes; every row takes turns with the others of its case.

- instances: 1 to 40 instances get masks, and their crops are identified and inspected, in each way
  to run; ms_each and ms_fixed are the line through the medians;
- canvas: the tote's canvas, px, square; the crops stay as they are, 10 of them;
- picture: the camera's picture, px, on one canvas: resizing and pasting masks.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import bundles
import kit
import numpy as np

from robollm.core.errors import RobollmError
from robollm.core.settings import RuntimeConfig
from robollm.runtime.measure import interleave, table
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.workload import Workload

COUNTS = (1, 5, 10, 20, 40)
SIDES = (256, 384, 512, 640, 896, 1024)
PICTURES = {"VGA": (480, 640), "720p": (720, 1280), "1080p": (1080, 1920), "4K": (2160, 3840)}
CANVAS = 384
WAYS: dict[str, dict[str, Any]] = {
    "cpu fp32": {"precision": "fp32"},
    "cpu fp32, features once": {"precision": "fp32", "crop_features": "tote"},
    "cpu int8": {"precision": "int8"},
    "openvino bf16": {"provider": "openvino", "precision": "bf16"},
}


def bundle(args: argparse.Namespace, side: int) -> Path:
    """A bundle with that canvas, made once."""
    parts = bundles.random_parts("small", tote=side, crop=args.crop)
    return bundles.write(parts, args.work / f"small-{side}-{args.crop}")


def perceiver(args: argparse.Namespace, side: int, **wanted: Any) -> Perceiver:
    """A bundle, loaded."""
    folder = str(bundle(args, side))
    config = RuntimeConfig(bundle=folder, threads=args.threads, allow_untrained=True, **wanted)
    return Perceiver(config)


def instances(args: argparse.Namespace) -> dict[str, Any]:
    """By number of instances, in every way to run."""
    pictures = bundles.drawn(4, (480, 640))
    refused, jobs = {}, {}
    for way, wanted in WAYS.items():
        try:
            model = perceiver(args, CANVAS, **wanted)
        except RobollmError as e:
            refused[way] = e.what
            continue
        for n in COUNTS:
            jobs[way, n] = Workload(model, pictures, n, score_min=0.0, masks=n)
    times = interleave({f"{w}: {n}": job for (w, n), job in jobs.items()}, rounds=args.rounds)
    rows: dict[str, dict[str, Any]] = {}
    for way in dict.fromkeys(w for w, _ in jobs):
        ms = {n: times[f"{way}: {n}"].row()["p50_ms"] for n in COUNTS}
        each, fixed = np.polyfit(list(ms), list(ms.values()), 1)
        shown = {str(n): jobs[way, n].found[args.rounds - 1] for n in COUNTS}
        rows[way] = {"p50_ms": {str(n): v for n, v in ms.items()}, "ms_each": round(float(each), 2),
                     "ms_fixed": round(float(fixed), 1), "masks": shown}  # fmt: skip
    return {"canvas": CANVAS, "rows": rows, "refused": refused}


def canvas(args: argparse.Namespace) -> dict[str, Any]:
    """By side of the canvas."""
    jobs = {
        str(side): Workload(
            perceiver(args, side, precision="fp32"),
            bundles.drawn(2, (side, side)),
            10,
            score_min=0.0,
            masks=10,
        )
        for side in SIDES
    }
    return {"crops": 10, "rows": _with_stages(jobs, args.rounds, str(CANVAS))}


def picture(args: argparse.Namespace) -> dict[str, Any]:
    """By the camera's resolution."""
    model = perceiver(args, CANVAS, precision="fp32")
    jobs = {
        name: Workload(model, bundles.drawn(1, hw), 10, score_min=0.0, masks=10)
        for name, hw in PICTURES.items()
    }
    return {"canvas": CANVAS, "crops": 10, "rows": _with_stages(jobs, args.rounds, "VGA")}


def _with_stages(
    jobs: dict[str, Workload], rounds: int, reference: str
) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {**table(interleave(jobs, rounds=rounds), reference)}
    for name, row in rows.items():
        row["stages_ms"] = jobs[name].stages_ms()
    return rows


def plot(cases: dict[str, Any], path: Path) -> None:
    """Both curves."""

    def curves(plt: Any) -> None:
        plt.subplot(1, 2, 1)
        for way, row in cases["instances"]["rows"].items():
            counts = [int(n) for n in row["p50_ms"]]
            plt.plot(counts, list(row["p50_ms"].values()), "o-", label=way)
        plt.xlabel(f"instances (tote canvas {CANVAS} px)")
        plt.ylabel("ms, p50: masks, identity, defects")
        plt.ylim(bottom=0)
        plt.legend(fontsize=7)
        plt.subplot(1, 2, 2)
        rows = cases["canvas"]["rows"]
        stages = list(dict.fromkeys(s for r in rows.values() for s in r["stages_ms"]))
        heights = [[r["stages_ms"].get(s, 0.0) for r in rows.values()] for s in stages]
        plt.stackplot([int(s) for s in rows], heights, labels=stages)
        plt.xlabel("tote canvas, px (10 instances, cpu fp32)")
        plt.legend(fontsize=6, loc="upper left")

    kit.draw(path, curves, (9, 3.6))


def main() -> int:
    """Measure, write, plot."""
    cases = {"instances": instances, "canvas": canvas, "picture": picture}
    parser = kit.options(__doc__, "instances", cases, rounds=8)
    parser.add_argument("--crop", type=int, default=96, help="side of a crop, px")
    parser.add_argument("--plot", type=Path, default=kit.ROOT / "docs" / "instances.png")
    args = kit.parse(parser)
    kit.use_torch(args.threads, args.work)
    about = bundles.about(bundles.random_parts("small", tote=CANVAS, crop=args.crop))
    results = kit.Results(args, model=about, pictures="drawn")
    for name in args.cases:
        results.run(name, partial(cases[name], args))
    shown = dict(results.measured())
    for name, found in shown.items():
        print(f"\n{name}")
        columns = ("p50_ms", "ms_each", "ms_fixed", "p95_ms", "ratio")
        kit.print_rows(found["rows"], columns)
    if {"instances", "canvas"} <= shown.keys():
        plot(shown, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(kit.told(main))
