"""Does a bundle see more of a defect where more of it shows? Simulated data know how much that is.

python bench/defect_evidence.py --data D --run RUN    # writes results/defect_evidence.json

RUN is an evaluation of D, `robollm eval armbench D --bundle B --out RUN`; no model runs here.
Images with a package defect are dealt into groups by the pixels that show it (`evidence_px` in D's
truth.jsonl: of the whole picture, before it is cropped). Of each group: the area under the ROC
curve of its probabilities of a package defect against those of the images of nominal picks. An area
of .5 is chance. Who has learned what a defect looks like has areas that rise from group to group.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import kit
import numpy as np

from robollm.data.armbench_defects import NOMINAL
from robollm.eval.records import DEFECTS, DefectRecord
from robollm.eval.run_folder import RunFolder
from robollm.metrics.curves import Ranking

DEFECT = "package_defect"
EDGES = (0, 300, 1000, 2500, 6000)
DRAWS = 1000


def read(data: Path, run: RunFolder) -> list[tuple[str, str, int, float]]:
    """Induct, label, visible pixels and probability of each image of nominal picks and of defects.

    Raises:
        SystemExit: if the run's images are not those of the data.
    """
    lines = (data / "truth.jsonl").read_text().splitlines()
    truth: dict[str, dict[str, Any]] = {t["id"]: t for t in map(json.loads, lines)}
    out = []
    for record in run.records(DEFECTS):
        assert isinstance(record, DefectRecord)
        if record.induct not in truth:
            sys.exit(f"{data} has no induct {record.induct}: give the data that RUN evaluated")
        shown = truth[record.induct]["images"][record.frame]
        if shown["label"] != record.label:
            sys.exit(f"{record.key} is {record.label} in RUN and {shown['label']} in {data}")
        nominal = record.label == NOMINAL and truth[record.induct]["event"] == NOMINAL
        if record.probabilities is not None and (nominal or record.label == DEFECT):
            p = record.probabilities[DEFECT]
            out.append((record.induct, record.label, int(shown["evidence_px"]), p))
    return out


def area(rows: list[tuple[str, str, int, float]], seed: int = 0) -> list[float]:
    """Area under the curve, and its 95 % limits by the bootstrap over inducts."""
    names, unit = np.unique([r[0] for r in rows], return_inverse=True)
    ranking = Ranking([r[3] for r in rows], [r[1] == DEFECT for r in rows])
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(DRAWS):
        times = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
        drawn.append(ranking.auc(times[unit].astype(np.float64)))
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return [round(float(v), 3) for v in (ranking.auc(), low, high)]


def main() -> int:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=kit.ROOT / "results" / "defect_evidence.json")
    args = parser.parse_args()
    run = RunFolder.open(args.run)
    rows = read(args.data, run)
    nominal = [r for r in rows if r[1] == NOMINAL]
    groups = []
    for low, high in zip(EDGES, (*EDGES[1:], None), strict=True):
        mine = [r for r in rows if r[1] == DEFECT and r[2] >= low and (not high or r[2] < high)]
        if mine:
            one = {"from_px": low, "to_px": high, "images": len(mine), "auc": area(mine + nominal)}
            groups.append(one)
            print(f"{low:5} px and more: {len(mine):3} images, AUC {one['auc']}")
    about = run.card["predictor"]
    card = {
        "command": "python bench/defect_evidence.py --data D --run RUN",
        "bundle": {
            k: about[k] for k in ("bundle_name", "version", "sha256", "precision") if k in about
        },
        "data": {k: run.card["data"][k] for k in ("split", "digest") if k in run.card["data"]},
        "nominal_images": len(nominal),
        "groups": groups,
    }
    args.out.write_text(json.dumps(card, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
