"""A tiny test set that even random weights answer well, and the gate's tools as modules."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import tiny_armbench
from in_process import answered
from onnx import numpy_helper

from robollm.data import armbench_identification as picks
from robollm.data import armbench_segmentation as totes
from robollm.data.jpeg import encode
from robollm.eval.score import score
from robollm.runtime.bundle import file_sha256

TOOLS = Path(__file__).resolve().parents[2] / "tools"
DRAWS = 200
EVENTS = ("nominal", "multi_pick", "open", "deconstruction")


def tool(name):
    """A program of tools/ as a module."""
    if str(TOOLS) not in sys.path:
        sys.path.insert(0, str(TOOLS))
    return importlib.import_module(name)


def write_dataset(root, seed=0):
    """ARMBench's folders of drawn pictures, with our simulator's card and truth beside."""
    tiny_armbench.write_totes(root, images=12, subsets=totes.SUBSETS, seed=seed)
    for file in root.rglob("test*.json"):
        split = json.loads(file.read_text())
        for image in split.get("images", ()):
            image["drop"] = image["id"] // 2
        file.write_text(json.dumps(split))
    tiny_armbench.write_picks(root, products=8, count=16)
    tiny_armbench.write_defects(root, inducts=18)
    card = {"format": "robollm-dataset", "command": "robollm sim dataset --out D", "robollm": "0"}
    (root / "card.json").write_text(json.dumps(card))
    rows = [
        {"split": "test", "id": f"pick{i:04}", "event": ("nominal", "open")[i % 8 == 0],
         "product_id": f"B{i % 8:03}", "images": [], "truth": {"gap_m": [0.1] * 50}}
        for i in range(16)
    ] + [
        {"split": "test", "id": f"{i:021}", "event": EVENTS[i % 3 + (i % 6 == 5)], "images": []}
        for i in range(18)
    ]  # fmt: skip
    (root / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def blocks(seed):
    """(96, 96, 3) uint8: large blocks of colour, which survive JPEG and random weights."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.repeat(np.repeat(small, 16, axis=0), 16, axis=1)


def write_easy(root, products=20):
    """Every pick looks like its product's reference; every third induct has a defect."""
    folder = root / picks.ROOT
    names = [f"B{p:03}" for p in range(products)]
    for p, name in enumerate(names):
        picks.write_references(folder, name, [encode(blocks(p))])
        shown = {view: encode(blocks(p), 70 + v) for v, view in enumerate(tiny_armbench.VIEWS)}
        inside = {other: {"title": other} for other in names}
        picks.write_pick(folder, f"pick{p:04}", shown, inside, {"GT_ID": name, "segmentation": {}})
    ids = [f"pick{p:04}" for p in range(products)]
    none = {"train": [], "val": []}
    picks.write_split(folder, none | {"test": ids}, none | {"test": names})
    tiny_armbench.write_defects(root, inducts=36, frames=1)
    return root


def with_thresholds(bundle, value):
    """Set a bundle's thresholds of both defects."""
    card = json.loads((bundle / "bundle.json").read_text())
    card["thresholds"]["defects"] |= {"multi_pick": value, "package_defect": value}
    (bundle / "bundle.json").write_text(json.dumps(card))
    return bundle


def with_equal_weights(bundle, role="identification"):
    """Damage a graph: each of its matrices gets its mean in every place."""
    card = json.loads((bundle / "bundle.json").read_text())
    name = card["graphs"][role]
    model = onnx.load(bundle / name)
    for one in model.graph.initializer:
        values = numpy_helper.to_array(one)
        if values.ndim == 2 and values.dtype == np.float32:
            flat = np.full_like(values, values.mean() + 0.01)
            one.CopyFrom(numpy_helper.from_array(flat, one.name))
    onnx.save(model, bundle / name)
    size = (bundle / name).stat().st_size
    card["files"][name] = {"bytes": size, "sha256": file_sha256(bundle / name)}
    (bundle / "bundle.json").write_text(json.dumps(card))
    return bundle


def evaluate_here(monkeypatch):
    """`gate.evaluate` without processes, and with few draws."""

    def evaluate(order, *_):
        run = order.out / "run"
        shutil.rmtree(run, ignore_errors=True)
        done = answered(monkeypatch, order.gate / "data", run, "bundle", bundle=order.bundle)
        score(done, draws=DRAWS).write(run)
        return run

    return evaluate
