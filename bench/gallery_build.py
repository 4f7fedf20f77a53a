"""How fast does a gallery fill, and what do more threads or Ray bring?

`python bench/gallery_build.py --bundle B` writes results/gallery_build.json; without --bundle a
BEiT-3 Base with random weights is made. Drawn pictures of 480x640 px as JPEG files, three of a
product, go into a new gallery in each way, in turns; medians of the rounds. images_per_second is of
the whole build, the commits and Ray's start included; steady_images_per_second begins with the
first picture that came back.

- plain N: one process, the model on N threads, others that read and decode ahead of it;
- model N: the model alone on N threads, with the pictures decoded before: what `plain` could reach;
- ray N: N processes of Ray Data on this machine, each with a model on one thread;
- nothing new: the plain build again, with everything there.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bundles
import cv2
import kit
import numpy as np

from robollm.core.frame import Frame
from robollm.core.settings import RuntimeConfig
from robollm.runtime.bundle import load_bundle
from robollm.runtime.embed_files import Embedding, LocalEmbedding, batch_of
from robollm.runtime.enroll import build_gallery
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.ray_embed import RayEmbedding
from robollm.runtime.references import list_pictures

HW = (480, 640)
EACH = 3
CASES = ("plain 1", "plain 2", "model 1", "model 2", "ray 2", "nothing new")

Row = dict[str, float]


def images(folder: Path, count: int) -> Path:
    """A folder of that many references, drawn once."""
    out = folder / f"images-{count}"
    if not out.is_dir():
        part = out.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        for n, rgb in enumerate(bundles.drawn(count, HW)):
            product = part / f"P{n // EACH:06}"
            product.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(product / f"{n % EACH + 1}.jpg"), rgb[..., ::-1])
        part.rename(out)
    return out


def build(args: argparse.Namespace, source: Path, out: Path, embedding: Embedding) -> Row:
    """One build."""
    first: list[float] = []

    def progress(done: int, total: int) -> None:
        if not first:
            first.append(time.perf_counter())

    began = time.perf_counter()
    done = build_gallery(
        source,
        out,
        bundle=load_bundle(args.bundle, allow_untrained=True),
        embedding=embedding,
        progress=progress,
    )
    end = time.perf_counter()
    seen = done.images + done.skipped
    batch = min(seen - 1, batch_of(args.config))
    return {
        "images": seen,
        "seconds": end - began,
        "images_per_second": seen / (end - began),
        "steady_images_per_second": (seen - batch) / (end - first[0]),
    }


def model_alone(perceiver: Perceiver, source: Path) -> Row:
    """The model without files: as many pictures, of which sixteen are decoded."""
    listed = list_pictures(source).pictures
    size = batch_of(perceiver.config)
    decoded = [np.asarray(cv2.imread(str(p.file)), np.uint8) for p in listed[:size]]
    began = time.perf_counter()
    for at in range(0, len(listed), size):
        some = decoded[: len(listed) - at]
        perceiver.embed_references(
            [Frame(p, "bgr", time.monotonic_ns(), stream=str(i)) for i, p in enumerate(some)]
        )
    seconds = time.perf_counter() - began
    return {"images": len(listed), "seconds": seconds, "images_per_second": len(listed) / seconds}


def ways(args: argparse.Namespace, source: Path) -> dict[str, Callable[[], Row]]:
    """Name -> one measurement."""
    out = args.work / "gallery"
    loaded: dict[int, Perceiver] = {}

    def config(threads: int) -> RuntimeConfig:
        return RuntimeConfig(bundle=str(args.bundle), threads=threads, allow_untrained=True)

    def perceiver(threads: int) -> Perceiver:
        if threads not in loaded:
            loaded[threads] = Perceiver(config(threads))
            loaded[threads].warm_up()
        return loaded[threads]

    def fresh(embedding: Callable[[], Embedding]) -> Row:
        shutil.rmtree(out, ignore_errors=True)
        return build(args, source, out, embedding())

    def again() -> Row:
        fresh(lambda: LocalEmbedding(perceiver(args.threads)))
        return build(args, source, out, LocalEmbedding(perceiver(args.threads)))

    sha256 = load_bundle(args.bundle, allow_untrained=True).embedding_sha256
    args.config = config(1)
    found: dict[str, Callable[[], Row]] = {
        "ray 2": lambda: fresh(
            lambda: RayEmbedding(config(1), embedding_sha256=sha256, images=source, workers=2)
        ),
        "nothing new": again,
    }
    for n in (1, 2):
        found[f"plain {n}"] = lambda n=n: fresh(lambda: LocalEmbedding(perceiver(n)))  # type: ignore[misc]
        found[f"model {n}"] = lambda n=n: model_alone(perceiver(n), source)  # type: ignore[misc]
    return {name: found[name] for name in args.cases}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All ways in turns."""
    source = images(args.work, args.images)
    rows: dict[str, list[Row]] = {}
    for turn in range(args.rounds):
        order = list(ways(args, source).items())
        for name, run in order[:: -1 if turn % 2 else 1]:
            rows.setdefault(name, []).append(run())
    return {
        "images": args.images,
        "rows": {
            name: {
                key: round(statistics.median(r[key] for r in rows[name]), 2)
                for key in rows[name][0]
            }
            for name in args.cases
        },
    }


def main() -> int:
    """Measure and print a table."""
    parser = kit.options(__doc__ or "", "gallery_build", CASES, rounds=3)
    parser.add_argument("--bundle", type=Path, help="default: BEiT-3 Base with random weights")
    parser.add_argument("--images", type=int, default=900, help="pictures of a build")
    args = kit.parse(parser)
    if args.bundle is None:
        parts = bundles.random_parts("base", tote=640, crop=224)
        args.bundle = bundles.write(parts, args.work / "base-640-224")
    results = kit.Results(args, bundle=args.bundle.name, picture=list(HW), rounds=args.rounds)
    results.run("build", lambda: measure(args))
    for _, found in results.measured():
        columns = ("images_per_second", "steady_images_per_second", "seconds")
        kit.print_rows(found["rows"], columns)
    return 0


if __name__ == "__main__":
    sys.exit(kit.told(main))
