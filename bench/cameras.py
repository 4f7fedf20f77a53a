"""How do several cameras share one backbone: throughput, latency and fairness of shared runs.

`python bench/cameras.py` writes results/cameras.json. Cameras are threads of this process; each has
pictures of its own, comes at a fixed rate with a random phase, and takes the newest picture when it
is free (what came in between is dropped), as the nodes do. The rate is half of what the machine
manages from one camera, so that 1, 2, 4 and 8 cameras ask for 0.5, 1, 2 and 4 times as much as
there is. Two kinds of work: `tote` (segment an image) and `view` (inspect one crop-sized image).
The settings are compared in turns, in one process:

- one by one: a run takes one picture (`batch_max` 1);
- shared: a run takes what queued up while the one before was busy (`batch_max` 16);
- window: the same, and an idle backbone waits 5 ms for company.

Figures of a case: served pictures a second, of all cameras; latency from when a picture was due to
its result, ms, of all cameras and of the worst one (its p95); fairness, the fewest served pictures
of a camera over the most; pictures in a run.

`flood` is one tote camera beside a thread that has 64 crops inspected again and again: the camera's
latency when runs take turns, and, as a control, when a whole call holds a lock.

`batch_ms` is what the backbone alone takes for each picture of a run of n, ms: what can be gained.

Another provider: `--provider openvino --precision bf16 --out results/cameras_openvino.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.frame import Frame
from robollm.core.settings import RuntimeConfig
from robollm.export import pictures
from robollm.export.sketch import SketchSize, write_sketch_bundle
from robollm.runtime.measure import conditions, fixed, interleave
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pixels import Region

ROOT = Path(__file__).resolve().parent.parent
CAMERAS = (1, 2, 4, 8)
SETTINGS = {"one by one": (1, 0.0), "shared": (16, 0.0), "window": (16, 5.0)}
HW = {"tote": (480, 640), "view": (240, 320)}
STAMPS = count(1)  # no two pictures are the same, or memory would answer

Job = Callable[[Frame], object]


@dataclass
class Camera:
    """One camera's pictures and what became of them.

    Attributes:
        images: shown in turns, (H, W, 3) uint8 RGB.
        latency_ms: from due to done, of every picture that was looked at.
        due: pictures that came.
    """

    images: list[NDArray[np.uint8]]
    latency_ms: list[float] = field(default_factory=list)
    due: int = 0

    def run(self, job: Job, begin: float, period: float, seconds: float) -> None:
        """Serve the newest picture whenever there is one, until the time is up."""
        never = threading.Event()
        shown = -1
        while True:
            now = time.perf_counter() - begin
            if min(now, seconds) < (shown + 1) * period:
                if (shown + 1) * period >= seconds:
                    break
                never.wait((shown + 1) * period - now)
                continue
            if now >= seconds and shown >= 0:
                break
            shown = int(now / period)
            job(Frame(self.images[shown % len(self.images)], "rgb", stamp_ns=next(STAMPS)))
            done = time.perf_counter() - begin
            self.latency_ms.append(1e3 * (done - shown * period))
        self.due += math.ceil(seconds / period)


@dataclass
class Cell:
    """All rounds of one case."""

    cameras: list[Camera] = field(default_factory=list)
    seconds: float = 0.0
    runs: int = 0
    rows: int = 0

    def row(self) -> dict[str, Any]:
        """Its figures."""
        latency = [v for c in self.cameras for v in c.latency_ms]
        served = [len(c.latency_ms) for c in self.cameras]
        worst = max(float(np.percentile(c.latency_ms, 95)) for c in self.cameras)
        p50, p95, p99 = (round(float(v), 1) for v in np.percentile(latency, [50, 95, 99]))
        return {
            "served_hz": round(sum(served) / self.seconds, 2),
            "served": sum(served),
            "dropped": sum(c.due for c in self.cameras) - sum(served),
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "worst_camera_p95_ms": round(worst, 1),
            "fairness": round(min(served) / max(served), 2),
            "pictures_a_run": round(self.rows / max(1, self.runs), 2),
        }


def draw(rng: np.random.Generator, kind: str) -> list[NDArray[np.uint8]]:
    """Four pictures of a camera."""
    return [(255 * pictures.tote(rng, HW[kind])).astype(np.uint8) for _ in range(4)]


def work(perceiver: Perceiver, kind: str) -> Job:
    """What is done with a picture."""
    if kind == "tote":
        return lambda frame: perceiver.segment(frame)
    return lambda frame: perceiver.inspect([Region(frame)])


def service_s(job: Job, images: list[NDArray[np.uint8]]) -> float:
    """What one picture takes when nobody else is there, s: the median of 9."""
    times = []
    for i in range(11):
        start = time.perf_counter()
        job(Frame(images[i % len(images)], "rgb", stamp_ns=next(STAMPS)))
        times.append(time.perf_counter() - start)
    return float(np.median(times[2:]))


def batch_ms(perceiver: Perceiver, kind: str, rounds: int) -> dict[str, dict[str, float]]:
    """Wall and processor time of the backbone for a picture in a run of n, medians, ms."""
    hw = perceiver.bundle.tote.hw if kind == "tote" else perceiver.bundle.crop.hw
    batch = np.random.default_rng(0).normal(size=(16, 3, *hw)).astype(np.float32)
    backbone = perceiver.backbone
    usual, backbone.batch_max = backbone.batch_max, 10_000  # else a large one is cut up
    sizes = (1, 2, 4, 8, 16) if kind == "view" else (1, 2, 4)
    cases = {f"{n}": fixed(partial(backbone.run, batch[:n])) for n in sizes}
    times = interleave(cases, rounds=rounds, warm_up=1)
    backbone.batch_max = usual
    return {
        n: {
            "wall_ms": round(1e3 * float(np.median(t.wall)) / int(n), 1),
            "cpu_ms": round(1e3 * float(np.median(t.cpu)) / int(n), 1),
        }
        for n, t in times.items()
    }


def play(
    cell: Cell, perceiver: Perceiver, jobs: list[Job], period: float, seconds: float, seed: int
) -> None:
    """One round of a case: all its cameras at once."""
    before = perceiver.backbone.runs, perceiver.backbone.rows
    phases = np.random.default_rng(seed).uniform(0, period, len(cell.cameras))
    begin = time.perf_counter() + 0.05
    threads = [
        threading.Thread(target=c.run, args=(job, begin + phase, period, seconds))
        for c, job, phase in zip(cell.cameras, jobs, phases, strict=True)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    cell.seconds += time.perf_counter() - begin  # with what was begun in time and ended late
    cell.runs += perceiver.backbone.runs - before[0]
    cell.rows += perceiver.backbone.rows - before[1]


def flooded(
    perceiver: Perceiver,
    lock: AbstractContextManager[object],
    cell: Cell,
    period: float,
    seconds: float,
) -> None:
    """A tote camera while another thread has 64 crops inspected, again and again."""
    stop = threading.Event()
    image = draw(np.random.default_rng(9), "tote")[0]
    h, w = HW["tote"]
    boxes = [(x, y, x + w / 8, y + h / 8) for y in range(0, h, h // 8) for x in range(0, w, w // 8)]

    def flood() -> None:
        while not stop.is_set():
            frame = Frame(image, "rgb", stamp_ns=next(STAMPS))
            with lock:
                perceiver.inspect([Region(frame, b) for b in boxes])

    def segment(frame: Frame) -> None:
        with lock:
            perceiver.segment(frame)

    flooder = threading.Thread(target=flood)
    flooder.start()
    play(cell, perceiver, [segment], period, seconds, seed=0)
    stop.set()
    flooder.join()


def perceivers(config: RuntimeConfig) -> dict[str, Perceiver]:
    """One for each setting."""
    found = {}
    for name, (most, window) in SETTINGS.items():
        found[name] = Perceiver(replace(config, batch_window_ms=window))
        found[name].backbone.batch_max = most
        found[name].warm_up()
    return found


def measure(args: argparse.Namespace, config: RuntimeConfig) -> dict[str, Any]:
    """All cases, in turns."""
    by_setting = perceivers(config)
    alone = by_setting["one by one"]
    rng = np.random.default_rng(0)
    images = {kind: [draw(rng, kind) for _ in range(max(CAMERAS))] for kind in HW}
    takes = {kind: service_s(work(alone, kind), images[kind][0]) for kind in HW}
    cells = {
        (kind, n, name): Cell([Camera(images[kind][i]) for i in range(n)])
        for kind in HW
        for n in CAMERAS
        for name in SETTINGS
    }
    floods = {name: Cell([Camera(images["tote"][0])]) for name in (*SETTINGS, "one lock")}
    for turn in range(args.rounds):
        order = list(cells.items())
        for (kind, n, name), cell in order if turn % 2 == 0 else reversed(order):
            perceiver = by_setting[name]
            jobs = [work(perceiver, kind)] * n
            seconds = args.pictures * takes[kind]
            play(cell, perceiver, jobs, 2 * takes[kind], seconds, seed=turn)
        for name, cell in floods.items():
            lock: AbstractContextManager[object] = nullcontext()
            if name == "one lock":
                lock = threading.Lock()
            perceiver = by_setting.get(name, by_setting["shared"])
            seconds = 2 * args.pictures * takes["tote"]
            flooded(perceiver, lock, cell, 4 * takes["tote"], seconds)
    table: dict[str, Any] = {kind: {} for kind in HW}
    for (kind, n, name), cell in cells.items():
        table[kind].setdefault(f"{n} cameras" if n > 1 else "1 camera", {})[name] = cell.row()
    table["flood"] = {name: cell.row() for name, cell in floods.items()}
    return {
        "where": alone.backbone.where,
        "bundle": {
            "name": alone.bundle.name,
            "tote_hw": alone.bundle.tote.hw,
            "crop_hw": alone.bundle.crop.hw,
        },
        "one_picture_ms": {kind: round(1e3 * s, 1) for kind, s in takes.items()},
        "batch_ms": {kind: batch_ms(alone, kind, args.rounds) for kind in HW},
        "cases": table,
    }


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Several cameras on one backbone.")
    parser.add_argument("--bundle", type=Path, help="default: a sketch of 192 x 6")
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--pictures", type=int, default=16, help="a round of a case lasts as long as so many take"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "cameras.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temp, conditions() as about:
        bundle = args.bundle or write_sketch_bundle(
            Path(temp) / "sketch",
            size=SketchSize(dim=192, depth=6, heads=3),
            tote_hw=(256, 320),
        )
        config = RuntimeConfig(
            bundle=str(bundle),
            provider=args.provider,
            precision=args.precision,
            threads=args.threads,
            allow_untrained=True,
        )
        found = measure(args, config)
    card = {
        "command": " ".join(["python bench/cameras.py", *sys.argv[1:]]),
        "conditions": about,
        "rounds": args.rounds,
        "pictures_a_round": args.pictures,
        **found,
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(card, indent=1) + "\n")
    for kind, rows in found["cases"].items():
        for name, row in rows.items():
            print(f"{kind}, {name}: {json.dumps(row)}")
    print(f"batch_ms: {json.dumps(found['batch_ms'])}")
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
