"""`robollm export`: from runs to a bundle that was compared with torch and judged by its tasks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robollm.core.errors import ConfigError
from robollm.runtime.bundle import REFERENCE, load_bundle

Say = Callable[[str], None]
FULL, HALF = WEIGHTS = "full", "half"
"""How graphs store weights: as they were trained, or what float16 can hold of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to export.

    Attributes:
        runs: folders of `robollm train`.
        data: folder with ARMBench's folders; gives pictures to compare and to judge on.
        out: the bundle's folder.
        variants: of `runtime.bundle.PRECISIONS`; the reference is always made.
        split: to compare and judge on; "test" is what published numbers are of.
        adapters: "switched" or "baked".
        name: the bundle's; empty: the folder's.
        weights: of `WEIGHTS`: how the graphs store them.
        changes: `KEY=VALUE` for the runs' configs, for example another tote canvas.
        thresholds: JSON file for the card's decision values.
        max_loss: points of 100 that a variant may lose against fp32 in any task; from 100 on all
            are accepted.
        totes: at most so many tote images to judge on; 0: all.
        picks: at most so many picks, and so many defect samples; 0: all.
        threads: of a model run; 0: one per core.

    Raises:
        ConfigError: a value is out of range.
    """

    runs: tuple[Path, ...]
    data: Path
    out: Path
    variants: tuple[str, ...] = (REFERENCE,)
    split: str = "test"
    adapters: str = "switched"
    weights: str = FULL
    changes: tuple[str, ...] = ()
    name: str = ""
    thresholds: Path | None = None
    max_loss: float = 0.5
    totes: int = 0
    picks: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        good = self.max_loss >= 0 and min(self.totes, self.picks, self.threads) >= 0
        if not self.runs or not good:
            raise ConfigError(
                f"{len(self.runs)} runs, max_loss {self.max_loss}, totes {self.totes}, picks "
                f"{self.picks}, threads {self.threads}; want a run or more, and nothing negative",
                fix="correct the options",
            )
        chosen = {
            "adapters": (self.adapters, ("switched", "baked")),
            "split": (self.split, ("val", "test")),
            "weights": (self.weights, WEIGHTS),
        }
        wrong = [name for name, (value, known) in chosen.items() if value not in known]
        for name in wrong[:1]:
            value, known = chosen[name]
            raise ConfigError(
                f"{name} is {value!r}, want {' or '.join(known)}",
                fix="correct the options",
            )


def export(order: Order, say: Say = lambda text: None) -> dict[str, Any]:
    """Write a bundle. It appears whole, or `out` stays as it was.

    Args:
        order: what to export.
        say: takes lines of progress.

    Returns:
        What was measured, for the CLI: `bundle`, `sha256`, `status`, `accepted`, `refused`,
        `compared`, `weights`, `bytes` of the folder, `metrics`, `cases` (of a
        defect's recall: how many samples have it), `variants`, `problems`, `seconds`.

    Raises:
        ConfigError: runs, data or options don't fit together, or there is nothing to compare on.
        ModelFileError: an output of the fp32 graphs isn't torch's, `out` is no place for a bundle,
            a weight doesn't fit float16, or the disk is full. Nothing was written.
        InferenceError: a graph of the reference fails.
    """
    began = time.monotonic()
    from robollm.export.runs import need_train

    need_train()
    # heavy, and in need of torch
    from robollm.export.build import build_graphs, check_adapters
    from robollm.export.card import describe, load_thresholds
    from robollm.export.collect import collect
    from robollm.export.half_weights import moved, pack, round_weights
    from robollm.export.judge import Judge
    from robollm.export.parity import LIMITS
    from robollm.export.probes import take
    from robollm.export.reference import TorchModels
    from robollm.export.split_data import SplitData
    from robollm.export.trial import Trials, check_variants
    from robollm.export.writer import refuse_foreign, workplace, write_bundle

    names = check_variants(order.variants)
    thresholds, calibrated = load_thresholds(order.thresholds)
    refuse_foreign(order.out)
    say(f"reading {', '.join(str(r) for r in order.runs)}")
    trained = parts = collect(order.runs, order.changes)
    check_adapters(parts, order.adapters)
    data = SplitData(parts, order.data, order.split, totes=order.totes, picks=order.picks)
    say(f"{order.split}: " + ", ".join(f"{n} of {t}" for t, n in data.sizes.items()))
    weights: dict[str, Any] = {"storage": FULL}
    if order.weights == HALF:
        parts, rounding = round_weights(trained)
        weights = rounding.card()
    graphs = build_graphs(parts, adapters=order.adapters)
    card = describe(
        parts,
        name=order.name or order.out.resolve().name,
        graphs={role: f"{role}.onnx" for role in graphs},
        thresholds=thresholds,
        calibrated=calibrated,
    )
    with workplace(order.out) as place:
        trials = Trials(
            torch=TorchModels(parts),
            graphs=graphs,
            card=card,
            judge=Judge(data, parts, say),
            probes=lambda bundle: take(bundle, data),
            calibration=lambda bundle: take(
                bundle, SplitData(parts, order.data, "train"), blank=False
            ),
            place=place / "trials",
            threads=order.threads,
            max_loss=order.max_loss,
            pack=pack if order.weights == HALF else lambda model: model,
            say=say,
        )
        reference = trials.reference()
        if order.weights == HALF:
            weights["moved"] = moved(trained, parts, trials.probes)
        others = [trials.variant(name) for name in names if name != REFERENCE]
    good = [t for t in others if not t.refused]
    assert reference.verdict is not None
    assert reference.distances is not None
    card["variants"] = {t.name: t.card() for t in (reference, *good)}
    card["metrics"] = {
        "data": order.data.resolve().name,
        "split": order.split,
        "samples": dict(reference.verdict.samples),
        "values": dict(reference.verdict.metrics),
        "max_loss": order.max_loss,
    }
    card["provenance"] |= {
        "weights": weights,
        "refused_variants": {t.name: t.refused for t in others if t.refused},
        "parity": {
            "compared": reference.distances.counts,
            "limits": {name: limit.most for name, limit in LIMITS.items()},
        },
    }
    models = {name: m for t in (reference, *good) for name, m in t.models.items()}
    write_bundle(order.out, models, card)
    bundle = load_bundle(order.out, allow_untrained=True)
    return {
        "bundle": str(order.out),
        "sha256": bundle.sha256,
        "status": bundle.status,
        "accepted": [REFERENCE, *(t.name for t in good)],
        "refused": {t.name: t.refused for t in others if t.refused},
        "compared": reference.distances.counts,
        "weights": weights,
        "bytes": sum(p.stat().st_size for p in order.out.iterdir()),
        "metrics": card["metrics"],
        "cases": dict(reference.verdict.cases),
        "variants": {t.name: t.card() for t in (reference, *others)},
        "problems": data.problems.counts,
        "seconds": round(time.monotonic() - began, 1),
    }
