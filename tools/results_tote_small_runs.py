"""Keep what the default bundle's training runs noted: results/tote_small_runs.json.

python tools/results_tote_small_runs.py RUN...

Of each run folder of `robollm train`, in the order given: its commands, seed, samples and versions,
and every line of its journal: losses, learning rate, seconds per step, validations. Paths are cut
down to their last part, numbers to five digits. A RUN may be this file itself, so that runs whose
folders are gone stay in it: `... results/tote_small_runs.json NEWRUN`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from robollm.eval.model_card.sources import record, train_runs

OUT = Path(__file__).resolve().parent.parent / "results" / "tote_small_runs.json"


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
