"""How fast is the encoder alone, by engine and precision, and how near to the processor's limit?

`python bench/backbone.py` writes results/backbone.json and docs/backbone.png. Weights are random
(seed 0), one picture a run. All engines of a size take turns in one process; beside them, in the
same rounds, runs a bfloat16 product of two 4096 x 4096 matrices, in PyTorch and in OpenVINO.
For every size and engine:

- p50_ms, p95_ms, p99_ms, cpu_ms: wall time, and the median of processor time;
- ratio: how many times as fast as torch eager float32, the median over rounds; cpu_ratio the same
  in processor time;
- gflops: floating-point operations a second, by the formula of `operations`;
- of_matmul: the same as a share of the faster matrix product, measured between the engine's runs;
- one_minus_cos: mean over tokens, against torch eager float32. With random weights it says what the
  arithmetic does, not what it costs in accuracy: results/end_to_end.json has that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import kit
import made
import numpy as np
import onnx
from numpy.typing import NDArray

from robollm.core.errors import RobollmError
from robollm.data.armbench_files import write_bytes
from robollm.export import pictures
from robollm.export.beit3_graph import build_backbone
from robollm.export.graphs import Graph
from robollm.export.variants import to_int8_dynamic, to_int8_static
from robollm.runtime.measure import Times, fixed, interleave, table
from robollm.runtime.session import Place, Session
from robollm.train.beit3.settings import EncoderSettings, settings_of

MATRIX = 4096
REFERENCE = "torch fp32"
PRODUCTS = ("matmul torch bf16", "matmul openvino bf16")
ENGINES = {
    "onnxruntime fp32": ("fp32", "cpu", "fp32"),
    "onnxruntime int8 (dynamic)": ("int8", "cpu", "int8"),
    "onnxruntime int8 (calibrated)": ("int8-static", "cpu", "int8-static"),
    "openvino fp32": ("fp32", "openvino", "fp32"),
    "openvino bf16": ("fp32", "openvino", "bf16"),
    "openvino int8 (calibrated)": ("int8-static", "openvino", "int8-static"),
}
"""Name -> file, provider, precision."""


@dataclass(frozen=True)
class Case:
    """One size of model and picture; `share` of the rounds, since large ones take long."""

    variant: str
    side: int
    window: int = 0
    global_blocks: tuple[int, ...] = ()
    share: float = 1.0

    @property
    def settings(self) -> EncoderSettings:
        """Of the encoder."""
        changes = {"window": self.window, "global_blocks": self.global_blocks}
        return settings_of(self.variant, **changes)

    @property
    def model(self) -> str:
        """Name of the model files; sizes share them."""
        return f"{self.variant}-w{self.window}" if self.window else self.variant


CASES = {
    "small 224": Case("small", 224),
    "small 384": Case("small", 384),
    "base 224": Case("base", 224),
    "base 384": Case("base", 384, share=0.6),
    "base 640": Case("base", 640, share=0.4),
    "base 1024, windows of 14": Case("base", 1024, 14, (2, 5, 8, 11), share=0.2),
}


def operations(s: EncoderSettings, side: int) -> float:
    """Floating-point operations of one picture; a multiplication and an addition are two.

    T = 1 + (side/P)^2 tokens, depth blocks: 2 T (4 C^2 + 2 C F) for q, k, v, proj, fc1, fc2, and
    4 T K C for q k^T and its product with v, where K is T, or 1 + window^2 for the patches of a
    windowed block (T = 1 + padded patches; CLS adds 4 T C). Patches: 2 (T - 1) 3 P^2 C. Norms,
    softmax, GELU and the resizing of positions are not counted.
    """
    n, c = side // s.patch, s.dim
    tokens = 1 + n * n
    total = 2.0 * (tokens - 1) * 3 * s.patch**2 * c
    for block in range(s.depth):
        total += 2.0 * tokens * (4 * c * c + 2 * c * s.hidden)
        if s.window and block not in s.global_blocks:
            padded = (-(-n // s.window) * s.window) ** 2
            total += 4.0 * c * (padded * (1 + s.window**2) + tokens)
        else:
            total += 4.0 * c * tokens**2
    return total


def encoder(case: Case, torch: Any) -> Any:
    """The encoder with random weights."""
    from robollm.train.beit3.encoder import Beit3Encoder

    torch.manual_seed(0)
    return Beit3Encoder(case.variant, window=case.window, global_blocks=case.global_blocks).eval()


def write_models(case: Case, model: Any, work: Path) -> dict[str, Path]:
    """Precision -> file, whose name has a digest of the weights and of the code; made once."""
    work.mkdir(parents=True, exist_ok=True)
    name = f"{case.model}-{made.key([model], case.settings, [Path(__file__)])}"
    paths = {p: work / f"{name}.{p}.onnx" for p in ("fp32", "int8", "int8-static")}
    if all(p.is_file() for p in paths.values()):
        return paths
    s = case.settings
    weights = {k: v.numpy() for k, v in model.state_dict().items()}
    graph = build_backbone(weights, heads=s.heads, window=s.window, global_blocks=s.global_blocks)
    feeds = [{"image": picture(224, seed)} for seed in range(4)]
    write_model(graph, paths["fp32"])
    write_model(to_int8_dynamic(graph), paths["int8"])
    write_model(to_int8_static(graph, feeds), paths["int8-static"])
    return paths


def write_model(model: onnx.ModelProto, path: Path) -> None:
    """Write a file that appears whole."""
    write_bytes(path, model.SerializeToString())


def picture(side: int, seed: int) -> NDArray[np.float32]:
    """A drawn tote, normalised: (1, 3, side, side) float32."""
    drawn = pictures.tote(np.random.default_rng(seed), (side, side))
    return np.ascontiguousarray(pictures.to_input([drawn]), np.float32)


def torch_engines(model: Any, image: Any, torch: Any, *, compiled: bool) -> dict[str, Any]:
    """Name -> what runs once and returns (map, cls) as tensors."""

    def runner(module: Any, bf16: bool) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return tuple(module(image))

        return run

    engines = {REFERENCE: runner(model, False), "torch bf16 autocast": runner(model, True)}
    if compiled:
        torch._dynamo.reset()
        engines["torch.compile fp32"] = runner(torch.compile(model, dynamic=False), False)
        engines["torch.compile bf16 autocast"] = runner(torch.compile(model, dynamic=False), True)
    return engines


def products(torch: Any, work: Path, threads: int) -> dict[str, Callable[[], object]]:
    """The large matrix products, as fast as the machine does them."""
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((MATRIX, MATRIX), np.float32) for _ in range(2))
    a, b = (torch.from_numpy(m).to(torch.bfloat16) for m in (left, right))
    found: dict[str, Callable[[], object]] = {PRODUCTS[0]: lambda: a @ b}
    g = Graph("product")
    x = g.input("x", [MATRIX, MATRIX])
    g.op("MatMul", x, g.const(right, "product.weight"), out="y")
    g.output("y", [MATRIX, MATRIX])
    path = work / "product.onnx"
    write_model(g.model(), path)
    try:
        session = Session(path, Place("openvino", "bf16", threads), inputs=["x"], outputs=["y"])
    except RobollmError:
        return found
    return {**found, PRODUCTS[1]: lambda: session.run({"x": left})}


def measure(case: Case, args: Any, torch: Any) -> dict[str, Any]:
    """All engines of one case in turns."""
    model = encoder(case, torch)
    paths = write_models(case, model, args.work)
    image = picture(case.side, 100)
    refused: dict[str, str] = {}
    runs: dict[str, Callable[[], Any]] = torch_engines(
        model, torch.from_numpy(image), torch, compiled=not args.no_compile
    )
    for name, (file, provider, precision) in ENGINES.items():
        place = Place(provider, precision, args.threads)
        try:
            session = Session(paths[file], place, inputs=["image"], outputs=["map", "cls"])
        except RobollmError as e:
            refused[name] = e.what
            continue
        runs[name] = partial(session.run, {"image": image})
    far = {name: one_minus_cos(run(), runs[REFERENCE]()) for name, run in runs.items()}
    rounds = max(2, round(args.rounds * case.share))
    jobs = {**runs, **products(torch, args.work, args.threads)}
    times = interleave({n: fixed(run) for n, run in jobs.items()}, rounds=rounds, warm_up=1)
    return {"engines": rows(case, times, far), "matmul": matmuls(times), "refused": refused}


def rows(case: Case, times: dict[str, Times], far: dict[str, float]) -> dict[str, dict[str, float]]:
    """Times, ratios and shares of every engine."""
    engines = {n: t for n, t in times.items() if n in far}
    found = table(engines, REFERENCE)
    work = operations(case.settings, case.side)
    fastest = np.min([times[n].wall for n in PRODUCTS if n in times], axis=0)  # of each round
    for name, row in found.items():
        rate = work / np.array(times[name].wall)
        row["gflops"] = round(float(np.median(rate)) / 1e9)
        row["of_matmul"] = round(float(np.median(rate / (2 * MATRIX**3 / fastest))), 3)
        row["one_minus_cos"] = float(f"{far[name]:.1e}")
    return found


def matmuls(times: dict[str, Times]) -> dict[str, int]:
    """GFLOP/s of the matrix products."""
    each = {n: float(np.median(times[n].wall)) for n in PRODUCTS if n in times}
    return {f"{n}_gflops": round(2e-9 * MATRIX**3 / t) for n, t in each.items()}


def one_minus_cos(got: Any, want: Any) -> float:
    """Mean over tokens of both outputs."""

    def tokens(pair: Any) -> NDArray[np.float64]:
        grid, cls = (np.asarray(v.float() if hasattr(v, "float") else v) for v in pair)
        flat = grid.reshape(*grid.shape[:2], -1).transpose(0, 2, 1)
        found: NDArray[np.float64] = np.concatenate([cls[:, None], flat], 1).astype(np.float64)
        return found

    a, b = tokens(got), tokens(want)
    cos = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    return float(1 - cos.mean())


def plot(cases: dict[str, Any], path: Path) -> None:
    """Ratios against torch eager, by size."""

    def bars(plt: Any) -> None:
        names = list(dict.fromkeys(n for c in cases.values() for n in c["engines"]))
        for i, name in enumerate(names):
            at = np.arange(len(cases)) + 0.8 * (i / len(names) - 0.5)
            heights = [c["engines"].get(name, {}).get("ratio", 0) for c in cases.values()]
            plt.bar(at, heights, 0.8 / len(names), label=name, align="edge")
        plt.axhline(1, color="black", lw=0.5)
        plt.xticks(range(len(cases)), list(cases), fontsize=8)
        plt.ylabel("times as fast as torch eager fp32")
        plt.legend(fontsize=7, ncols=2)
        plt.title("BEiT-3 encoder, one picture")

    kit.draw(path, bars, (9, 4.5))


def main() -> int:
    """Measure all cases, write results and the picture."""
    parser = kit.options(__doc__, "backbone", CASES, rounds=10)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--plot", type=Path, default=kit.ROOT / "docs" / "backbone.png")
    args = kit.parse(parser)
    torch = kit.use_torch(args.threads, args.work)
    results = kit.Results(args, reference=REFERENCE, picture="one, drawn, square")
    for name in args.cases:
        case = CASES[name]
        flop = {"gflop": round(operations(case.settings, case.side) / 1e9, 1)}
        results.run(name, partial(measure, case, args, torch), **flop)
    shown = dict(results.measured("engines"))
    plot(shown, args.plot)
    for name, found in shown.items():
        print(f"\n{name}: {found['conditions']['gflop']} GFLOP, {found['matmul']}")
        columns = ("p50_ms", "p95_ms", "cpu_ms", "ratio", "gflops", "of_matmul", "one_minus_cos")
        kit.print_rows(found["engines"], columns)
        for engine, why in found["refused"].items():
            print(f"{engine}: not run: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(kit.told(main))
