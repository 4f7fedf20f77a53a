"""Is the backbone in memory once? Resident memory with one node, three nodes and two input sizes.

`python bench/memory.py` writes results/memory.json. Every case runs in a process of its own and
reports its resident set (RSS) in MiB after each step:

- station: three nodes' worth of use on one Station, then all released;
- separate: the control, three Perceivers that share nothing;
- tote-crop and crop-tote: one Perceiver at both input sizes, in both orders, so that activations
  (whichever size comes second) are told apart from a second copy of the weights.

These run in fp32 on ONNX Runtime. `by_precision` repeats `station` for every provider and precision
that the machine has: the first user pays for weights and activations, the others must add nothing.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil

from robollm.core.errors import ModelFileError
from robollm.core.frame import Frame
from robollm.core.settings import RuntimeConfig
from robollm.runtime.measure import machine
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pixels import Region
from robollm.runtime.session import Place, Session
from robollm.runtime.station import Station

ROOT = Path(__file__).resolve().parent.parent
CASES = ("station", "separate", "tote-crop", "crop-tote")
PRECISIONS = (
    ("cpu", "fp32"),
    ("cpu", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
)


class Scale:
    """Resident memory after each step."""

    def __init__(self) -> None:
        self.mib: dict[str, float] = {}

    def step(self, name: str) -> None:
        """Weigh; what is freed goes back to the system first, so that RSS is what is used."""
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        self.mib[name] = round(psutil.Process().memory_info().rss / 2**20, 1)


def picture(rng: np.random.Generator, stamp: int) -> Frame:
    """A picture of noise."""
    return Frame(rng.integers(0, 255, (240, 320, 3), np.uint8), "rgb", stamp)


def use(perceiver: Perceiver, size: str, rng: np.random.Generator) -> None:
    """Run the models at one input size."""
    for i in range(3):
        if size == "tote":
            perceiver.segment(picture(rng, i + 1))
        else:
            view = [Region(picture(rng, 100 + i))]
            perceiver.embed(view)
            perceiver.inspect(view)


def run_case(case: str, config: RuntimeConfig) -> dict[str, float]:
    """Run one case in this process; step -> MiB."""
    import onnxruntime  # noqa: F401 - its own weight belongs to the first step

    if config.provider == "openvino":
        import openvino

        openvino.Core().available_devices  # noqa: B018 - loads its plugin
    rng, scale = np.random.default_rng(0), Scale()
    scale.step("imports")
    if case in ("tote-crop", "crop-tote"):
        perceiver = Perceiver(config)
        scale.step("loaded")
        for size in case.split("-"):
            use(perceiver, size, rng)
            scale.step(size)
        return scale.mib
    station, alive = Station(), []
    for user in range(3):
        alive.append(station.acquire(config) if case == "station" else Perceiver(config))
        use(alive[-1], "tote", rng)
        use(alive[-1], "crop", rng)
        scale.step(f"user {user + 1}")
    if case == "station":
        alive.clear()
        for _ in range(3):
            station.release(config)
        scale.step("released")
    return scale.mib


def measure(
    case: str, bundle: Path, provider: str = "cpu", precision: str = "fp32"
) -> dict[str, float]:
    """Run one case in a fresh process; step -> MiB."""
    words = ["--bundle", str(bundle), "--provider", provider, "--precision", precision]
    command = [sys.executable, __file__, "--case", case, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{case} failed: {done.stderr}")
    mib: dict[str, float] = json.loads(done.stdout)
    return mib


def runs_here(bundle: Path, provider: str, precision: str) -> str:
    """What it runs on, or why it doesn't run here."""
    name = {"int8": "backbone.int8.onnx"}.get(precision, "backbone.onnx")
    try:
        place = Place(provider, precision, 1)
        return Session(bundle / name, place, inputs=("image",), outputs=("map", "cls")).where
    except ModelFileError as e:
        return f"not measured: {e.what}"


def write_big_bundle(out: Path) -> dict[str, float]:
    """Write a sketch whose weights outweigh everything else; precision -> MiB of its backbone."""
    from robollm.export.sketch import SketchSize, write_sketch_bundle
    from robollm.export.variants import to_int8_dynamic
    from robollm.export.writer import write_bundle

    size = SketchSize(dim=512, depth=6, heads=8, embedding=16, channels=16)
    write_sketch_bundle(out, size=size, tote_hw=(192, 240), crop_hw=(96, 96))
    card = json.loads((out / "bundle.json").read_text())
    models: dict[str, bytes | onnx.ModelProto] = {f: (out / f).read_bytes() for f in card["files"]}
    models["backbone.int8.onnx"] = to_int8_dynamic(onnx.load(out / "backbone.onnx"))
    int8 = {"graphs": {"backbone": "backbone.int8.onnx"}}
    write_bundle(out, models, {**card, "variants": {"fp32": {}, "bf16": {}, "int8": int8}})
    files = {"fp32": "backbone.onnx", "int8": "backbone.int8.onnx"}
    return {k: round((out / f).stat().st_size / 2**20, 1) for k, f in files.items()}


def main() -> int:
    """Measure all cases and write results/memory.json, or run one case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, help="run one case here and print it")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "memory.json")
    args = parser.parse_args()
    if args.case:
        config = RuntimeConfig(
            bundle=str(args.bundle),
            provider=args.provider,
            precision=args.precision,
            threads=1,
            allow_untrained=True,
        )
        print(json.dumps(run_case(args.case, config)))
        return 0
    with tempfile.TemporaryDirectory() as temp:
        bundle = Path(temp) / "bundle"
        weights = write_big_bundle(bundle)
        cases = {case: measure(case, bundle) for case in CASES}
        by_precision: dict[str, Any] = {}
        for provider, precision in PRECISIONS:
            where = runs_here(bundle, provider, precision)
            row = {} if where.startswith("not") else measure("station", bundle, provider, precision)
            by_precision[f"{provider} {precision}"] = {"where": where, **row}
    card: dict[str, Any] = {
        "command": "python bench/memory.py",
        "unit": "MiB resident, after malloc_trim",
        "conditions": {
            **machine(),
            "model": "sketch 512-d x 6, canvas 192x240, crops 96x96, ONNX Runtime CPU, 1 thread",
        },
        "backbone_file": weights,
        "cases": cases,
        "by_precision": by_precision,
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
