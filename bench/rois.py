"""What do fewer proposals cost, and what does it cost to encode a tote once instead of its crops?

`python bench/rois.py --run RUN --bundle B --data D` writes results/rois.json and docs/rois.png. RUN
is a `robollm train multitask` folder, B its export, D holds ARMBench's folders. All on the test
split, through `Perceiver`.

- proposals: boxes that the RoI heads look at, 20 to 1000, against the time of a tote to masks (all
  take turns) and the mask mAP50 (COCO's, one class, at most 100 instances); ratio and points_lost
  (of 100) are against the bundle's own number;
- crops or tote: recall@1 within the container of picks that are named from the tote's picture and
  the outlined box, the box encoded as a crop of its own, or pooled from the tote's own map
  (`crop_features: tote`), against the gallery of references, which are encoded as ever; and the
  time of a tote with 10 crops both ways. Defects have no labels in totes: not measured.
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
from numpy.typing import NDArray

from robollm.core.frame import Frame
from robollm.core.settings import RuntimeConfig
from robollm.runtime.measure import interleave, table
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pixels import Region
from robollm.runtime.workload import Workload

PROPOSALS = (20, 35, 50, 75, 100, 200, 300, 1000)
MOST = 100


def perceiver(args: argparse.Namespace, **wanted: Any) -> Perceiver:
    """The bundle under these settings."""
    place = {"provider": args.provider, "precision": args.precision, "threads": args.threads}
    return Perceiver(
        RuntimeConfig(bundle=str(args.bundle), allow_untrained=True, **place, **wanted)
    )


def mask_map(model: Perceiver, totes: list[Any], classes: str) -> float:
    """Mask mAP50 on test totes."""
    from robollm.export.judge import as_predicted
    from robollm.metrics.instances import PROTOCOLS
    from robollm.train.detector.metric import InstanceMetric

    metric = InstanceMetric(classes, kinds=("mask",))
    for i, tote in enumerate(totes):
        frame = Frame(tote.rgb, "rgb", i + 1, stream="score")
        found = model.segment(frame, score_min=0.0, max_instances=MOST)
        metric.process(None, [{**tote.truth, "pred_instances": as_predicted(found)}])
    name = f"{next(iter(PROTOCOLS[classes]))}_mask_mAP50"
    return round(float(metric.compute_metrics(metric.results)[name]), 4)


def proposals(args: argparse.Namespace, parts: Any) -> dict[str, Any]:
    """Time and mAP50 by number of proposals."""
    from robollm.export.split_data import SplitData

    totes = list(SplitData(parts, args.data, "test", totes=args.totes, picks=1).totes())
    own = str(perceiver(args).bundle.proposals)
    numbers = sorted({*PROPOSALS, int(own)})
    models = {str(n): perceiver(args, proposals=n) for n in numbers}
    pictures = [t.rgb for t in totes[:: max(1, len(totes) // 12)]]
    jobs = {n: Workload(m, pictures, 0, score_min=0.0) for n, m in models.items()}
    rows: dict[str, dict[str, Any]] = {**table(interleave(jobs, rounds=args.rounds), own)}
    for n, row in rows.items():
        row["rois_ms"] = jobs[n].stages_ms().get("tote rois", 0.0)
        row["mask_mAP50"] = mask_map(models[n], totes, parts.detector.classes)
    for row in rows.values():
        row["points_lost"] = round(100 * (rows[own]["mask_mAP50"] - row["mask_mAP50"]), 2)
    return {"totes": len(totes), "of_the_bundle": int(own), "rows": rows}


def crops_or_tote(args: argparse.Namespace, parts: Any) -> dict[str, Any]:
    """Recall and time of both ways to look at an instance."""
    from robollm.export.split_data import SplitData
    from robollm.train.identification.metric import RetrievalMetric

    models = {how: perceiver(args, crop_features=how) for how in ("crops", "tote")}
    data = SplitData(parts, args.data, "test", totes=12, picks=args.picks)
    gallery = [
        {**about, "embedding": models["crops"].embed([Region(Frame(rgb, "rgb", i + 1))])[0]}
        for i, (about, rgb) in enumerate(data.references())
    ]
    pictures = [t.rgb for t in data.totes()]
    jobs = {how: Workload(m, pictures, 10) for how, m in models.items()}
    rows: dict[str, dict[str, Any]] = {**table(interleave(jobs, rounds=args.rounds), "crops")}
    picks = list(outlined(parts, args.data, args.picks))
    for how, model in models.items():
        metric = RetrievalMetric(at=(1,), galleries=("container",), protocols=("product",))
        metric.process(None, gallery)
        for i, (about, rgb, box) in enumerate(picks):
            frame = Frame(rgb, "rgb", i + 1, stream="pick")
            vectors, _ = model.look([Region(frame, box)])
            metric.process(None, [{**about, "embedding": vectors[0]}])
        rows[how] |= {
            name: round(float(value), 4)
            for name, value in metric.compute_metrics(metric.results).items()
            if name.startswith(("recall@1", "chance@1"))
        }
    return {"picks": len(picks), "references": len(gallery), "rows": rows}


def outlined(parts: Any, root: Path, most: int) -> list[tuple[dict[str, Any], Any, Any]]:
    """Picks of the test split: what the metric reads, the tote's picture, and the item's box."""
    from robollm.data import armbench_identification as armbench
    from robollm.data.images import read_image
    from robollm.train.identification.data import PickData

    settings = {k: v for k, v in parts.data["identification"].items() if k != "type"}
    settings |= {"data_root": str(root), "split": "test", "val_picks": 0, "val_distractors": 0}
    data = PickData(**settings)
    step = max(1, len(data.picks) // most)
    found = []
    for pick in data.picks[::step][:most]:
        outline = armbench.polygons(data.root, pick.id, "PickRGB")
        if "PickRGB" not in pick.views or not outline:
            continue
        points = np.concatenate([np.array(one).reshape(-1, 2) for one in outline])
        about = {"kind": "pick", "pick": pick.id, "product_id": pick.truth,
                 "manifest": pick.manifest}  # fmt: skip
        rgb = read_image(pick.views["PickRGB"])
        found.append((about, rgb, with_margin(points, (rgb.shape[0], rgb.shape[1]))))
    return found


def with_margin(
    points: NDArray[np.float64], hw: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The box of an outline, as in training: a twentieth more on each side, inside the picture."""
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.array(hw[::-1])
    margin = 0.05 * (high - low)
    x1, y1 = np.clip(low - margin, 0, size)
    x2, y2 = np.clip(high + margin, 0, size)
    return float(x1), float(y1), float(x2), float(y2)


def plot(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """mAP50 against time, a point for each number of proposals."""

    def curve(plt: Any) -> None:
        times = [r["p50_ms"] for r in rows.values()]
        values = [r["mask_mAP50"] for r in rows.values()]
        plt.plot(times, values, "o-")
        for n, x, y in zip(rows, times, values, strict=True):
            plt.annotate(n, (x, y), textcoords="offset points", xytext=(4, -10), fontsize=8)
        plt.xlabel("ms, tote to masks (p50)")
        plt.ylabel("mask mAP50")
        plt.title("Number of proposals")

    kit.draw(path, curve, (5, 3.2))


def main() -> int:
    """Measure, write, plot."""
    cases = {"proposals": proposals, "crops or tote": crops_or_tote}
    parser = kit.options(__doc__, "rois", cases, rounds=12)
    parser.add_argument("--run", type=Path, required=True, help="folder of a multitask run")
    parser.add_argument("--bundle", type=Path, help="its export; made in --work if not given")
    parser.add_argument("--data", type=Path, required=True, help="holds ARMBench's folders")
    parser.add_argument("--totes", type=int, default=0, help="at most so many; 0: all of the split")
    parser.add_argument("--picks", type=int, default=400, help="at most so many")
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--plot", type=Path, default=kit.ROOT / "docs" / "rois.png")
    args = kit.parse(parser)
    kit.use_torch(args.threads, args.work)
    from robollm.export.collect import collect

    parts = collect([args.run])
    args.bundle = args.bundle or bundles.write(parts, args.work / "trained")
    place = f"{args.provider} {args.precision}"
    results = kit.Results(args, place=place, model=bundles.about(parts))
    for name in args.cases:
        results.run(name, partial(cases[name], args, parts))
    shown = dict(results.measured())
    for name, found in shown.items():
        print(f"\n{name}")
        columns = ("p50_ms", "p95_ms", "ratio", "mask_mAP50", "recall@1_container")
        kit.print_rows(found["rows"], columns)
    if "proposals" in shown:
        plot(shown["proposals"]["rows"], args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(kit.told(main))
