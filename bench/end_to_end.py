"""A tote image to masks, 10 crops embedded and inspected: our runtime against torch eager.

`python bench/end_to_end.py --run RUN --bundle B --data D` writes results/end_to_end.json. RUN is a
`robollm train multitask` folder and B its export; D holds ARMBench's folders, whose test totes are
looked at. Without them only the official size runs: BEiT-3 Base with the official heads (three box
stages, 1000 proposals), random weights (seed 0), drawn totes at 640 px, crops at 224.

The baseline has the same weights in torch eager: MMDetection's own resize, `test_step` and pasting
of masks, then all crops in one batch, encoded once, through both heads; also under bf16 autocast.
Ours runs through `Perceiver`, the nodes' path. All take turns in one process, on as many threads;
each round has one picture for all, which nothing remembers. For every row:

- p50_ms, p95_ms, p99_ms, cpu_ms; ratio (cpu_ratio): how many times as fast as torch eager float32;
- stages_ms: where our time goes; instances: found per tote, all of them pasted;
- loss: points of 100 that the precision costs by task metric, from the bundle's card.

`equal` says how far the float32 runtime is from torch in the same run; beyond the limits of
`eager.py` nothing is timed, and the case is recorded as refused. `baseline_operators`: with
mmcv-lite, MMDetection's RoIAlign and NMS are ours in torch, slower than compiled ones. Their share
of a run of the baseline is there, the median over its timed runs, and ratio_bound is what a ratio
would be if they took it no time at all: what a compiled mmcv could not get below.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import bundles
import kit
from operators import Meter

from robollm.core.errors import RobollmError
from robollm.core.settings import RuntimeConfig
from robollm.runtime.measure import Job, interleave, table
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.workload import Workload

CASES = ("trained", "base 640")
REFERENCE = "torch fp32"
EXACT = "cpu fp32"
PLACES = (("cpu", "fp32"), ("cpu", "int8"), ("openvino", "bf16"), ("openvino", "int8-static"))
OFFICIAL = ("base", 640, 224)
"""Size of the other case's model, side of its canvas and of its crops, px."""
FEW = {"trained": 50, "base 640": 100}
"""Proposals of the reduced rows: results/rois.json has what they cost."""
CROPS = 10
LARGE = (
    "cpu fp32",
    "cpu int8, 100 proposals",
    "openvino bf16",
    "openvino bf16, 100 proposals",
    "openvino bf16, 100 proposals, features once",
    "openvino int8-static, 100 proposals",
)


def settings(case: str) -> dict[str, dict[str, Any]]:
    """Name of a row -> settings. Of the large model not all: each row has its own copy of it."""
    rows: dict[str, dict[str, Any]] = {}
    for provider, precision in PLACES:
        name, where = f"{provider} {precision}", {"provider": provider, "precision": precision}
        few = {**where, "proposals": FEW[case]}
        rows |= {
            name: where,
            f"{name}, {FEW[case]} proposals": few,
            f"{name}, {FEW[case]} proposals, features once": {**few, "crop_features": "tote"},
        }
    return {n: rows[n] for n in LARGE} if case == CASES[1] else rows


def measure(
    case: str, parts: Any, bundle: Path, pictures: list[Any], args: argparse.Namespace, rounds: int
) -> dict[str, Any]:
    """All rows of one case in turns."""
    from eager import Eager, equal_outputs, refuse_unequal

    jobs: dict[str, Eager | Workload] = {
        REFERENCE: Eager(parts, pictures, CROPS),
        "torch bf16 autocast": Eager(parts, pictures, CROPS, bf16=True),
    }
    equal, refused, where = {}, {}, {}
    for name, wanted in settings(case).items():
        config = RuntimeConfig(
            bundle=str(bundle), threads=args.threads, allow_untrained=True, **wanted
        )
        try:
            perceiver = Perceiver(config)
        except RobollmError as e:
            if name == EXACT:
                raise  # without it nothing says that the others are the same model
            refused[name] = e.what
            continue
        if name == EXACT:
            equal = equal_outputs(parts, perceiver, pictures[: 4 if case == CASES[0] else 1])
            refuse_unequal(equal, trained=parts.trained)
        jobs[name] = Workload(perceiver, pictures, CROPS, score_min=0.0)
        where[name] = perceiver.summary
    meter = Meter()
    timed: dict[str, Job] = {**jobs, REFERENCE: meter.metered(jobs[REFERENCE])}
    times = interleave(timed, rounds=rounds, warm_up=1)
    rows: dict[str, dict[str, Any]] = {**table(times, REFERENCE)}
    meter.bound(rows, (REFERENCE, "torch bf16 autocast"))
    for name, row in rows.items():
        job = jobs[name]
        row["instances"] = job.instances()
        if isinstance(job, Workload):
            row["stages_ms"] = job.stages_ms()
            row["loss"] = dict(job.perceiver.bundle.variant(job.perceiver.precision).loss)
    return {
        "model": bundles.about(parts),
        "equal": equal,
        "rows": rows,
        "where": where,
        "refused": refused,
        "baseline_operators": meter.about(),
    }


def main() -> int:
    """Measure and write."""
    parser = kit.options(__doc__, "end_to_end", CASES, rounds=12)
    parser.add_argument("--run", type=Path, help="folder of a multitask run")
    parser.add_argument("--bundle", type=Path, help="its export; made in --work if not given")
    parser.add_argument("--data", type=Path, help="holds ARMBench's folders")
    args = kit.parse(parser)
    kit.use_torch(args.threads, args.work)
    totes = bundles.test_totes(args.data, 12) if args.data else []
    results = kit.Results(args, reference=REFERENCE, crops=CROPS)
    asked = [name for name in args.cases if name != CASES[0] or args.run]
    for name in asked:
        measured = partial(trained, args, totes) if name == CASES[0] else partial(official, args)
        results.run(name, measured)
    for name, found in results.measured():
        print(f"\n{name}: {found['model']}\nequal: {found['equal']}")
        kit.print_rows(
            found["rows"], ("p50_ms", "p95_ms", "cpu_ms", "ratio", "ratio_bound", "cpu_ratio")
        )
        for row, why in found["refused"].items():
            print(f"{row}: not run: {why}")
    return int(any("rows" not in results.cases[name] for name in asked))


def trained(args: argparse.Namespace, totes: list[bundles.Rgb]) -> dict[str, Any]:
    """The weights of a run."""
    from robollm.export.collect import collect

    parts = collect([args.run])
    bundle = args.bundle or bundles.write(parts, args.work / "trained", calibrated=True)
    hw = (3 * parts.tote.hw[0] // 2, 3 * parts.tote.hw[1] // 2)
    pictures = totes or bundles.drawn(6, hw)
    return measure(CASES[0], parts, bundle, pictures, args, args.rounds)


def official(args: argparse.Namespace) -> dict[str, Any]:
    """BEiT-3 Base with random weights."""
    size, tote, crop = OFFICIAL
    parts = bundles.random_parts(size, tote=tote, crop=crop)
    bundle = bundles.write(parts, args.work / f"{size}-{tote}", calibrated=True)
    rounds, side = max(2, args.rounds // 6), 3 * tote // 2
    return measure(CASES[1], parts, bundle, bundles.drawn(2, (side, side)), args, rounds)


if __name__ == "__main__":
    sys.exit(kit.told(main))
