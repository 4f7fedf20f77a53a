"""How long from process start to the first verdict, cold and warm?

`python bench/startup.py --bundle B` writes results/startup.json; without --bundle a BEiT-3 Base
with the official heads and random weights is made (1.2 GB of files), and the small detector. Every
run is a new Python process that imports, verifies the bundle's digests, loads all graphs, gives a
tote masks, and a pick of two views a verdict. Warm: the files lie in memory. Cold: before each run
the system is asked to drop the bundle's files and those of the runtimes, as after a boot; files
that another process uses stay. Medians of several runs, providers and temperatures in turns;
seconds since the process was started, see `robollm.runtime.probe.start`.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import kit

from robollm.core.errors import RobollmError
from robollm.core.settings import RuntimeConfig
from robollm.runtime.measure import forget_files
from robollm.runtime.probe import start

PLACES = (("cpu", "fp32"), ("cpu", "int8"), ("openvino", "bf16"))
RUNTIMES = ("onnxruntime", "openvino", "cv2", "faiss")
SIZES = {"small": (384, 96), "base": (640, 224)}
"""Case -> side of canvas and crops, px."""


def runtimes() -> list[Path]:
    """Folders of the libraries that a start reads, found without loading them."""
    specs = (importlib.util.find_spec(name) for name in RUNTIMES)
    return [Path(p) for s in specs if s for p in s.submodule_search_locations or ()]


def measure(bundle: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All providers, cold and warm."""
    configs = {
        f"{provider} {precision}": RuntimeConfig(
            bundle=str(bundle),
            provider=provider,
            precision=precision,
            threads=args.threads,
            allow_untrained=True,
        )
        for provider, precision in PLACES
    }
    runs: dict[str, list[dict[str, float]]] = {}
    refused: dict[str, str] = {}
    dropped = True
    for turn in range(args.rounds + 1):
        for name, config in configs.items():
            if name in refused:
                continue
            try:
                found = start(config)
                if turn:  # the first brings the files into memory
                    runs.setdefault(f"{name}, warm", []).append(found)
                    dropped &= min([forget_files(f) for f in (bundle, *runtimes())])
                    runs.setdefault(f"{name}, cold", []).append(start(config))
            except RobollmError as e:
                refused[name] = e.what
    rows = {
        name: {k: round(statistics.median(r[k] for r in found), 3) for k in found[0]}
        for name, found in runs.items()
    }
    size = sum(p.stat().st_size for p in bundle.iterdir())
    return {
        "bundle_mib": round(size / 2**20),
        "runs": args.rounds,
        "files_dropped": dropped,
        "rows": rows,
        "refused": refused,
    }


def measure_made(case: str, args: argparse.Namespace) -> dict[str, Any]:
    """The same of a bundle with random weights."""
    import bundles

    tote, crop = SIZES[case]
    parts = bundles.random_parts(case, tote=tote, crop=crop)
    return measure(bundles.write(parts, args.work / f"{case}-{tote}"), args)


def main() -> int:
    """Measure and write."""
    parser = kit.options(__doc__, "startup", SIZES, rounds=3)
    parser.add_argument("--bundle", type=Path, help="instead of bundles with random weights")
    args = kit.parse(parser)
    results = kit.Results(args)
    if args.bundle:
        results.run("given", lambda: measure(args.bundle, args))
    else:
        for case in args.cases:
            results.run(case, partial(measure_made, case, args))
    for name, found in results.measured():
        print(f"\n{name}: {found['bundle_mib']} MiB of files")
        columns = ("imports_s", "loaded_s", "masks_s", "verdict_s", "next_ms", "rss_mib")
        kit.print_rows(found["rows"], columns)
        for row, why in found["refused"].items():
            print(f"{row}: not run: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(kit.told(main))
