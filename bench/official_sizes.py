"""Do BEiT-3 Base and Large export and run, at crop and tote sizes, with windows and without?

`python bench/official_sizes.py` writes results/official_sizes.json. The weights are random (seed
0): they stand in for published ones, of the same names and shapes. A case is a size of encoder, an
attention and a size of picture:

- 224x224, two crops; 640x640 and 1024x1024, one tote;
- "global": every block sees the whole picture; "window 14": ViTDet's, with four global blocks.

Each case has a process for PyTorch, which also writes the graph, and one for ONNX Runtime, float32,
which does nothing else: load_s, wall_s and cpu_s (best of the rounds) and peak_rss_mib are its own.
parity is the largest absolute difference of any output number to PyTorch's. Cases called "variants"
turn the graph into half precision and 8 bits: seconds, bytes, peak memory, and whether it runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import kit
import numpy as np
from numpy.typing import NDArray

GLOBAL_BLOCKS = {"base": (2, 5, 8, 11), "large": (5, 11, 17, 23)}
PICTURES = {
    "224 x2": (2, 3, 224, 224),
    "640": (1, 3, 640, 640),
    "1024": (1, 3, 1024, 1024),
}
WINDOW = 14
FITS_GIB = 20
TOLERANCE = 1e-4


def cases() -> dict[str, tuple[str, int, str]]:
    """Name -> size of encoder, window, picture; a window's runs follow each other."""
    every = {}
    for size in GLOBAL_BLOCKS:
        for window in (0, WINDOW):
            for picture in PICTURES:
                attention = f"window {window}" if window else "global"
                every[f"{size}, {attention}, {picture}"] = (size, window, picture)
        every[f"{size}, variants"] = (size, 0, "224 x2")
    return every


def peak_mib() -> float:
    """Most memory that this process ever had."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def picture_of(picture: str) -> NDArray[np.float32]:
    """Noise, normalised as the encoder wants it."""
    return np.random.default_rng(0).uniform(-1, 1, PICTURES[picture]).astype(np.float32)


def run_torch(case: str, folder: Path, threads: int) -> dict[str, Any]:
    """Write the graph, and what PyTorch makes of the picture."""
    import torch

    from robollm.export.beit3_graph import build_backbone
    from robollm.train.beit3.encoder import Beit3Encoder

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    size, window, picture = cases()[case]
    blocks = GLOBAL_BLOCKS[size] if window else ()
    encoder = Beit3Encoder(size, window=window, global_blocks=blocks).eval()
    weights = {name: weight.numpy() for name, weight in encoder.state_dict().items()}
    heads = encoder.settings.heads
    start = time.perf_counter()
    model = build_backbone(weights, heads=heads, window=window, global_blocks=blocks)
    data = model.SerializeToString(deterministic=True)
    built = time.perf_counter() - start
    (folder / "backbone.onnx").write_bytes(data)
    operators = Counter(node.op_type for node in model.graph.node)
    domains = sorted({node.domain for node in model.graph.node})
    del model
    image = torch.from_numpy(picture_of(picture))
    with torch.inference_mode():
        start, cpu = time.perf_counter(), time.process_time()
        want = encoder(image)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    np.savez(folder / "want.npz", map=want.map.numpy(), cls=want.cls.numpy())
    return {
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "export_s": round(built, 2),
        "file_bytes": len(data),
        "domains": domains,
        "operators": dict(sorted(operators.items())),
        "torch_wall_s": round(wall, 2),
        "torch_cpu_s": round(cpu, 2),
    }


def run_onnx(case: str, folder: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Load the graph, run it, and compare."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    start = time.perf_counter()
    session = ort.InferenceSession(
        str(folder / "backbone.onnx"), options, providers=["CPUExecutionProvider"]
    )
    loaded = time.perf_counter() - start
    image, names = picture_of(cases()[case][2]), ["map", "cls"]
    walls, cpus = [], []
    for _ in range(rounds):
        start, cpu = time.perf_counter(), time.process_time()
        got = session.run(names, {"image": image})
        walls.append(time.perf_counter() - start)
        cpus.append(time.process_time() - cpu)
    peak = peak_mib()
    want = np.load(folder / "want.npz")
    far = {
        name: float(np.abs(value - want[name]).max())
        for name, value in zip(names, got, strict=True)
    }
    return {
        "load_s": round(loaded, 2),
        "wall_s": round(min(walls), 3),
        "cpu_s": round(min(cpus), 3),
        "peak_rss_mib": peak,
        "fits_20_gib": peak < FITS_GIB * 1024,
        "parity": {name: float(f"{value:.2e}") for name, value in far.items()},
        "within_1e-4": max(far.values()) <= TOLERANCE,
    }


def run_variants(case: str, folder: Path, threads: int, which: str) -> dict[str, Any]:
    """Make one variant of the graph, and run it."""
    import onnx
    import onnxruntime as ort

    from robollm.export.variants import to_fp16, to_int8_dynamic, to_int8_static

    model = onnx.load(folder / "backbone.onnx")
    image = picture_of(cases()[case][2])
    start = time.perf_counter()
    if which == "int8-static":
        small = to_int8_static(model, [{"image": image}])
    else:
        small = (to_fp16 if which == "fp16" else to_int8_dynamic)(model)
    data = small.SerializeToString(deterministic=True)
    made, peak = time.perf_counter() - start, peak_mib()
    del model, small
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    got = session.run(["map"], {"image": image})[0]
    want = np.load(folder / "want.npz")["map"]
    lengths = np.sqrt((got**2).sum(1) * (want**2).sum(1))
    return {
        "convert_s": round(made, 2),
        "convert_peak_rss_mib": peak,
        "file_bytes": len(data),
        "one_minus_cos": float(f"{(1 - (got * want).sum(1) / lengths).mean():.2e}"),
    }


def fresh(case: str, step: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Run one step of a case in a process of its own."""
    command = [sys.executable, __file__, "--cases", case, "--step", step, "--folder", str(folder)]
    command += ["--threads", str(args.threads), "--rounds", str(args.rounds)]
    done = subprocess.run(command, cwd=kit.ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{case}, {step} failed ({done.returncode}): {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(case: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one case."""
    with tempfile.TemporaryDirectory(dir=args.work) as temp:
        folder = Path(temp)
        of_torch = fresh(case, "torch", folder, args)
        if case.endswith("variants"):
            names = ("fp16", "int8", "int8-static")
            return {
                "float32_bytes": of_torch["file_bytes"],
                **{name: fresh(case, name, folder, args) for name in names},
            }
        return {**of_torch, **fresh(case, "onnx", folder, args)}


def main() -> int:
    """Measure all cases, or run one step of one case and print it."""
    parser = kit.options(__doc__ or "", "official_sizes", cases(), rounds=2)
    parser.add_argument("--step", help="run this step of one case here and print it")
    parser.add_argument("--folder", type=Path, help="where the steps of a case meet")
    args = kit.parse(parser)
    if args.step:
        case = args.cases[0]
        if args.step == "torch":
            found = run_torch(case, args.folder, args.threads)
        elif args.step == "onnx":
            found = run_onnx(case, args.folder, args.threads, args.rounds)
        else:
            found = run_variants(case, args.folder, args.threads, args.step)
        print(json.dumps(found))
        return 0
    args.work.mkdir(parents=True, exist_ok=True)
    results = kit.Results(args, weights="random, seed 0")
    for case in args.cases:
        results.run(case, partial(measure, case, args))
    return 0


if __name__ == "__main__":
    sys.exit(kit.told(main))
