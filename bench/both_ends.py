"""Are both ends of every figure right? An oracle, blind chance, random weights.

`python bench/both_ends.py --data D` writes results/both_ends.json. D holds ARMBench's folders, such
as `robollm sim dataset` writes. Each case is `robollm eval armbench D --limit N`:

- oracle: every figure must be exactly 1, of errors and false rates exactly 0; `imperfect` names
  those that are not, and the program fails;
- chance: answers from seed and pixels;
- sketch: the bundle with random weights. Masks and defects are at chance; embeddings are not quite:
  a random encoder still tells colours apart, so its recall lies above `chance@1_container`.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import kit

from robollm.export.sketch import write_sketch_bundle

CASES = ("oracle", "chance", "sketch")
ZERO = ("fpr", "false_reject", "ece", "brier", "nll", "to_flag", "false_flag_share", "early_flags")
"""Figures of which 0 is perfect, by a part of their names."""
NOT_OF_THE_PREDICTOR = ("chance@", "latency_")
SHOWN = {
    "segmentation": ("object_only_mask_mAP50",),
    "identification": ("recall@1_container_product_n1", "chance@1_container", "auroc_n1"),
    "defects": ("image_multi_pick_auc", "image_package_defect_auc", "image_combined_auc"),
}


def perfect(name: str) -> float:
    """What a figure is when nothing is wrong."""
    return float(not ("recall@" not in name and any(part in name for part in ZERO)))


def evaluate(case: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run the verb anew and read its figures."""
    run = args.work / case
    shutil.rmtree(run, ignore_errors=True)
    who = ["--predictor", case]
    if case == "sketch":
        bundle = write_sketch_bundle(args.work / "sketch-bundle")
        who = ["--bundle", str(bundle), "--allow-untrained"]
    words = ["eval", "armbench", str(args.data), "--out", str(run), *who]
    words += ["--limit", str(args.limit), "--no-report", "--json"]
    words += [w for task in SHOWN for w in ("--task", task)]
    done = subprocess.run(
        [sys.executable, "-m", "robollm.cli.main", *words], stdout=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise SystemExit(f"{case}: robollm {' '.join(words)} ended with {done.returncode}")
    metrics = json.loads((run / "metrics.json").read_text())
    seen, wrong, shown, samples = 0, {}, {}, {}
    for section in metrics["sections"]:
        place = "/".join(filter(None, (section["task"], section["subset"])))
        samples[place] = section["samples"]
        for name, one in section["figures"].items():
            if name in SHOWN[section["task"]]:
                shown[f"{place}/{name}"] = {k: one[k] for k in ("value", "low", "high")}
            value = one["value"]
            if name.startswith(NOT_OF_THE_PREDICTOR) or value is None or math.isnan(value):
                continue
            seen += 1
            if value != perfect(name):
                wrong[f"{place}/{name}"] = value
    found = {"figures": seen, "perfect": seen - len(wrong), "shown": shown}
    if case == "oracle":
        found["imperfect"] = wrong
    return {**found, "samples": samples}


def main() -> int:
    """Measure, print, fail if the oracle isn't perfect."""
    parser = kit.options(__doc__ or "", "both_ends", CASES, rounds=1)
    parser.add_argument("--data", type=Path, required=True, help="holds ARMBench's folders")
    parser.add_argument("--limit", type=int, default=200, help="samples of each kind")
    args = kit.parse(parser)
    args.work.mkdir(parents=True, exist_ok=True)
    results = kit.Results(args, limit=args.limit)
    for case in args.cases:
        results.run(case, partial(evaluate, case, args))
    for case, found in results.measured("shown"):
        print(f"{case}: {found['perfect']} of {found['figures']} figures perfect")
        for name, one in found["shown"].items():
            print(f"  {name}: {one['value']:.4f} [{one['low']:.4f}, {one['high']:.4f}]")
    wrong = results.cases.get("oracle", {}).get("imperfect", {})
    for name, value in wrong.items():
        print(f"error: the oracle's {name} is {value}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(kit.told(main))
