"""How often are the weights in memory? Slopes of anonymous memory over two sizes of encoder.

`python tools/openvino_memory.py` writes results/openvino_memory.json. Every case runs in a process
of its own, first with a small and then with a large encoder of random weights: it loads the graph,
runs it at two sizes, gives back what is free, and reads /proc/self/smaps_rollup. The difference
between the two encoders, per MiB of their files, is how often the weights are in memory; what the
runtime itself takes cancels out. Anonymous memory is what can't be dropped: pages of mapped files
are not in it, and are in `resident`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from robollm.core.errors import ModelFileError
from robollm.runtime.measure import machine
from robollm.runtime.memory import give_back_free_memory
from robollm.runtime.session import Place, Session

ROOT = Path(__file__).resolve().parent.parent
DIM, HEADS = 512, 8
DEPTHS = (6, 18)
SIZES = ((96, 96), (192, 240))  # px
CASES = (
    ("cpu", "fp32", False),
    ("openvino", "fp32", False),
    ("openvino", "bf16", False),
    ("openvino", "fp32", True),
    ("openvino", "bf16", True),
)


def write_encoder(path: Path, depth: int) -> float:
    """Write an encoder of random weights; its size in MiB."""
    from robollm.export.beit3_graph import EncoderShape, build_backbone
    from robollm.export.sketch_weights import encoder_weights

    shape = EncoderShape(DIM, depth, 4 * DIM, 16, 14, HEADS)
    weights = encoder_weights(np.random.default_rng(0), shape)
    onnx.save(build_backbone(weights, heads=HEADS), path)
    return path.stat().st_size / 2**20


def memory() -> dict[str, float]:
    """Anonymous and resident memory of this process, MiB, without what is free."""
    give_back_free_memory()
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines())
    kib = {words[0]: int(words[1]) for words in lines if len(words) == 3 and words[2] == "kB"}
    return {"anonymous": kib["Anonymous:"] / 1024, "resident": kib["Rss:"] / 1024}


def weigh(path: Path, place: Place) -> dict[str, Any]:
    """Load and run one encoder in this process; what that took, MiB."""
    import onnxruntime  # noqa: F401 - not what is weighed

    if place.provider == "openvino":
        from robollm.runtime.openvino_engine import _core

        _core().available_devices  # noqa: B018 - loads its plugin
    before = memory()
    session = Session(path, place, inputs=("image",), outputs=("map", "cls"))
    for hw in SIZES:
        for _ in range(3):
            session.run({"image": np.zeros((1, 3, *hw), np.float32)})
    return {"where": session.where, **{k: v - before[k] for k, v in memory().items()}}


def measure(path: Path, provider: str, precision: str, cache: str) -> dict[str, Any]:
    """`weigh` in a fresh process.

    Raises:
        ModelFileError: if this provider or precision isn't here.
    """
    words = ["--weigh", str(path), provider, precision, cache]
    done = subprocess.run(
        [sys.executable, __file__, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ModelFileError(done.stderr.strip().splitlines()[-1], fix="see the case")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def slopes(files: dict[Path, float], provider: str, precision: str, cache: str) -> dict[str, Any]:
    """How often the weights are in memory.

    Args:
        files: an encoder -> its size, MiB; two, the smaller first.
        provider: where they run.
        precision: in which arithmetic.
        cache: folder for copies; empty: none.
    """
    (small, large), (low, high) = files, files.values()
    a, b = (measure(path, provider, precision, cache) for path in (small, large))
    kinds = ("anonymous", "resident")
    return {"where": a["where"], **{k: round((b[k] - a[k]) / (high - low), 2) for k in kinds}}


def main() -> int:
    """Measure all cases and write results/openvino_memory.json, or weigh one encoder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weigh", nargs=4, metavar=("FILE", "PROVIDER", "PRECISION", "CACHE"))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "openvino_memory.json")
    args = parser.parse_args()
    if args.weigh:
        file, provider, precision, cache = args.weigh
        place = Place(provider, precision, threads=1, cache=cache)
        print(json.dumps(weigh(Path(file), place)))
        return 0
    cases: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temp:
        files = {}
        for depth in DEPTHS:
            path = Path(temp) / f"depth{depth}.onnx"
            files[path] = write_encoder(path, depth)
        for provider, precision, cached in CASES:
            names = ("copy is written", "copy was there") if cached else ("no engine_cache",)
            for name in names:
                key = f"{provider} {precision}, {name}"
                cache = str(Path(temp) / precision) if cached else ""
                try:
                    cases[key] = slopes(files, provider, precision, cache)
                except ModelFileError as e:
                    cases[key] = f"not measured: {e.what}"
        sizes = [round(mib, 1) for mib in files.values()]
    card = {
        "command": "python tools/openvino_memory.py",
        "unit": "MiB of memory per MiB of the fp32 file",
        "conditions": {
            **machine(),
            "model": f"encoders {DIM}-d x {' and '.join(map(str, DEPTHS))}, random weights, 1 "
            f"thread, pictures of {' and '.join(f'{w}x{h}' for h, w in SIZES)} px",
        },
        "files_mib": sizes,
        "cases": cases,
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
