"""Keep what the default bundle's training runs noted: results/tote_small_runs.json.

python tools/results_tote_small_runs.py RUN...

Of each run folder of `robollm train`, in the order given: its commands, seed, samples and versions,
and every line of its journal: losses, learning rate, seconds per step, validations. Paths are cut
down to their last part, numbers to five digits.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from robollm.eval.model_card.sources import TrainRun, train_runs

OUT = Path(__file__).resolve().parent.parent / "results" / "tote_small_runs.json"


def record(run: TrainRun) -> dict[str, Any]:
    """What is kept of a run."""
    kept = ("task", "robollm", "seed", "parameters", "trained_parameters", "samples")
    last = run.card["starts"][-1]
    return {
        "run": run.name,
        **{k: run.card[k] for k in kept if k in run.card},
        "commands": run.commands,
        **{k: last[k] for k in ("processes", "threads", "python", "packages") if k in last},
        "steps": run.steps,
        "hours": round(run.hours, 3),
        "rows": [{k: short(v) for k, v in row.items()} for row in run.rows],
    }


def short(value: Any) -> Any:
    """A number with five digits that count; anything else as it is."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def main() -> int:
    """Write the file; 0 if it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    lines = [json.dumps(record(run)) for run in train_runs(args.runs)]
    args.out.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
