"""A tote image to masks, 10 crops identified and inspected: our runtime against torch eager.

`python bench/end_to_end.py --run RUN --bundle B --data D` writes results/end_to_end.json. RUN is a
`robollm train multitask` folder and B its export; D holds ARMBench's folders, whose test totes are
looked at. Without them only the official size runs: BEiT-3 Base with the official heads (three box
stages, 1000 proposals), random weights (seed 0), drawn totes at 640 px, crops at 224.

The baseline has the same weights in torch eager: MMDetection's own resize, `test_step` and pasting
of masks, then all crops in one batch, encoded once, through both heads; also under bf16 autocast.
Ours runs through `Perceiver`, the nodes' path. All take turns in one process, on the same pictures
and threads, every run on a picture that nothing remembers. For every row:

- p50_ms, p95_ms, p99_ms, cpu_ms; ratio (cpu_ratio): how many times as fast as torch eager float32;
- stages_ms: where our time goes; instances: found per tote, all of them pasted;
- loss: points of 100 that the precision costs by task metric, from the bundle's card.

`equal` says how far the float32 runtime is from torch in the same run. `baseline_operators`: with
mmcv-lite, MMDetection's RoIAlign and NMS are ours in torch, slower than compiled ones. Their share
of one run of the baseline is there, and ratio_bound is what a ratio would be if they took it no
time at all: what a compiled mmcv could not get below.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bundles
import kit
from operators import Meter

from robollm.core.errors import RobollmError
from robollm.core.settings import RuntimeConfig
from robollm.runtime.measure import interleave, table
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.workload import Workload

CASES = ("trained", "base 640")
REFERENCE = "torch fp32"
PLACES = (("cpu", "fp32"), ("cpu", "int8"), ("openvino", "bf16"), ("openvino", "int8-static"))
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
    from eager import Eager, equal_outputs

    jobs: dict[str, Callable[[], None]] = {
        REFERENCE: Eager(parts, pictures, CROPS),
        "torch bf16 autocast": Eager(parts, pictures, CROPS, bf16=True),
    }
    refused, where = {}, {}
    for name, wanted in settings(case).items():
        config = RuntimeConfig(
            bundle=str(bundle), threads=args.threads, allow_untrained=True, **wanted
        )
        try:
            perceiver = Perceiver(config)
        except RobollmError as e:
            refused[name] = e.what
            continue
        if name == "cpu fp32":
            equal = equal_outputs(parts, perceiver, pictures[: 4 if case == CASES[0] else 1])
        jobs[name] = Workload(perceiver, pictures, CROPS, score_min=0.0)
        where[name] = perceiver.summary
    with Meter() as meter:
        jobs[REFERENCE]()
    times = interleave(jobs, rounds=rounds, warm_up=1)
    rows: dict[str, dict[str, Any]] = {**table(times, REFERENCE)}
    meter.bound(rows, (REFERENCE, "torch bf16 autocast"))
    for name, row in rows.items():
        job: Any = jobs[name]
        row["instances"] = round(sum(job.found) / len(job.found), 1)
        if isinstance(job, Workload):
            row["stages_ms"] = job.stages_ms(skip=1)
            row["loss"] = dict(job.perceiver.bundle.variant(job.perceiver.precision).loss)
    return {
        "model": bundles.about(parts),
        "equal": equal,
        "rows": rows,
        "where": where,
        "refused": refused,
        "baseline_operators": {"whose": meter.whose, "share": round(meter.share, 3)},
    }


def main() -> int:
    """Measure and write."""
    parser = kit.options(__doc__, "end_to_end", CASES, rounds=12)
    parser.add_argument("--run", type=Path, help="folder of a multitask run")
    parser.add_argument("--bundle", type=Path, help="its export; made in --work if not given")
    parser.add_argument("--data", type=Path, help="holds ARMBench's folders")
    args = parser.parse_args()
    kit.use_torch(args.threads, args.work)
    given = "--run RUN --bundle B --data D " if args.run else ""
    command = f"python bench/end_to_end.py {given}--rounds {args.rounds}"
    results = kit.Results(args, command, reference=REFERENCE, crops=CROPS)
    if CASES[0] in args.cases and args.run:
        results.run(CASES[0], lambda: trained(args))
    if CASES[1] in args.cases:
        results.run(CASES[1], lambda: official(args))
    for name, found in results.card["cases"].items():
        print(f"\n{name}: {found['model']}\nequal: {found['equal']}")
        kit.print_rows(
            found["rows"], ("p50_ms", "p95_ms", "cpu_ms", "ratio", "ratio_bound", "cpu_ratio")
        )
        for row, why in found["refused"].items():
            print(f"{row}: not run: {why}")
    return 0


def trained(args: argparse.Namespace) -> dict[str, Any]:
    """The weights of a run."""
    from robollm.export.collect import collect

    parts = collect([args.run])
    bundle = args.bundle or bundles.write(parts, args.work / "trained", calibrated=True)
    hw = (3 * parts.tote.hw[0] // 2, 3 * parts.tote.hw[1] // 2)
    pictures = bundles.test_totes(args.data, 12) if args.data else bundles.drawn(6, hw)
    return measure(CASES[0], parts, bundle, pictures, args, args.rounds)


def official(args: argparse.Namespace) -> dict[str, Any]:
    """BEiT-3 Base with random weights."""
    parts = bundles.random_parts("base", tote=640, crop=224)
    bundle = bundles.write(parts, args.work / "base-640", calibrated=True)
    rounds = max(2, args.rounds // 6)
    return measure(CASES[1], parts, bundle, bundles.drawn(2, (960, 960)), args, rounds)


if __name__ == "__main__":
    sys.exit(main())
