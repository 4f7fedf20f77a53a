"""How much faster are the vectorised losses than the loops that the tests trust?

`python bench/losses.py` writes results/losses.json. One thread, float64, forward and backward. A
batch of n is n queries with n references (so 2n embeddings for the supervised losses), two pairs of
each product. The slow loops of test/train/loss_loops.py follow the printed formulas pair by pair;
a loop is left out where it would take longer than the limit. Times are the process' own processor
time, which load from elsewhere distorts less. For every loss and batch:

- fast_ms: the median over repetitions; fast32_ms: in float32, as in training;
- loop_ms: one run, measured between the two halves of the fast repetitions;
- ratio: loop_ms / fast_ms; difference: of the two values, relative.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from robollm.train.losses import clce, info_nce, lacvit, scl_rhe

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test" / "train"))
import loss_loops  # noqa: E402

BATCHES = (32, 64, 128, 256)
DIM = 256
SETTINGS: dict[str, Any] = {
    "temperature": 0.5,
    "tau_plus": 0.935,
    "tau_minus": 0.999,
    "beta_positive": 1.0,
    "beta_negative": 1.0,
}

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def twice(y: Tensor) -> Tensor:
    """The labels of both views."""
    return torch.cat([y, y])


CASES: dict[str, tuple[Loss, Loss]] = {
    "info_nce": (
        lambda q, r, y, z: info_nce(q, r, 14.0, y),
        lambda q, r, y, z: loss_loops.info_nce(q, r, 14.0, y),
    ),
    "lacvit": (
        lambda q, r, y, z: lacvit(torch.cat([q, r]), twice(y), 0.1),
        lambda q, r, y, z: loss_loops.lacvit(torch.cat([q, r]), twice(y), 0.1),
    ),
    "clce": (
        lambda q, r, y, z: clce(torch.cat([q, r]), twice(y), z, y),
        lambda q, r, y, z: loss_loops.clce(torch.cat([q, r]), twice(y), z, y, 0.9, 0.5),
    ),
    "scl_rhe": (
        lambda q, r, y, z: scl_rhe(torch.cat([q, r]), twice(y), **SETTINGS),
        lambda q, r, y, z: loss_loops.scl_rhe(torch.cat([q, r]), twice(y), **SETTINGS),
    ),
}


def batch(n: int, dtype: torch.dtype) -> list[Tensor]:
    """Queries, references, labels, and a classifier's logits."""
    g = torch.Generator().manual_seed(n)
    q, r = (normalize(torch.randn(n, DIM, generator=g, dtype=torch.float64)) for _ in range(2))
    y = torch.arange(n) // 2
    z = torch.randn(n, n // 2, generator=g, dtype=torch.float64)
    return [q.to(dtype), r.to(dtype), y, z.to(dtype)]


def run(loss: Loss, parts: list[Tensor]) -> tuple[float, float]:
    """Processor seconds of one forward and backward, and the value."""
    q, r, y, z = parts
    leaves = [each.clone().requires_grad_() for each in (q, r, z)]
    began = time.process_time()
    value = loss(leaves[0], leaves[1], y, leaves[2])
    value.backward()  # type: ignore[no-untyped-call]
    return time.process_time() - began, value.item()


def measure(fast: Loss, loop: Loss | None, n: int, repeats: int) -> dict[str, Any]:
    """One row of the results; the loop runs amid the fast repetitions."""
    double, single = batch(n, torch.float64), batch(n, torch.float32)
    run(fast, double)
    run(fast, single)
    times = [run(fast, double) for _ in range(repeats)]
    slow = run(loop, double) if loop else None
    times += [run(fast, double) for _ in range(repeats)]
    fast_s, value = statistics.median(t for t, _ in times), times[0][1]
    row: dict[str, Any] = {
        "batch": n,
        "fast_ms": round(1e3 * fast_s, 2),
        "fast32_ms": round(
            1e3 * statistics.median(run(fast, single)[0] for _ in range(2 * repeats)), 2
        ),
    }
    if slow is not None:
        row["loop_ms"] = round(1e3 * slow[0])
        row["ratio"] = round(slow[0] / fast_s)
        row["difference"] = float(f"{abs(slow[1] - value) / abs(value):.1e}")
    return row


def compare(name: str, limit: float, repeats: int) -> list[dict[str, Any]]:
    """All batches of one loss; a loop that would pass the limit is left out."""
    fast, loop = CASES[name]
    rows: list[dict[str, Any]] = []
    expected = 0.0
    for n in BATCHES:
        rows.append(measure(fast, loop if expected < limit else None, n, repeats))
        # four times as many pairs in the next batch
        expected = 4e-3 * rows[-1].get("loop_ms", 1e3 * limit)
        beside = f", loop {rows[-1]['loop_ms']} ms" if "ratio" in rows[-1] else ""
        print(f"{name} {n}: {rows[-1]['fast_ms']} ms{beside}", flush=True)
    return rows


def main() -> int:
    """Measure all losses and write results/losses.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, default=20.0, help="longest loop, in seconds")
    parser.add_argument("--repeats", type=int, default=10, help="before and after the loop")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "losses.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    conditions = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": 1,
        "load_before": round(os.getloadavg()[0], 2),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "dim": DIM,
        "scl_rhe": SETTINGS,
    }
    began = time.perf_counter()
    losses = {name: compare(name, args.limit, args.repeats) for name in CASES}
    card: dict[str, Any] = {
        "command": "python bench/losses.py",
        "conditions": conditions,
        "seconds": round(time.perf_counter() - began),
        "losses": losses,
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))
    return 0


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "?")


if __name__ == "__main__":
    sys.exit(main())
