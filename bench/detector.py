"""How fast does the small detector train on one core, and what do the fast layers bring?

`python bench/detector.py --data FOLDER` writes results/detector.json. FOLDER holds
`armbench-segmentation-0.1`. One thread; one step is 4 totes at 320x256 px, drawn as in training:
forward, backward, AdamW; loading is measured by itself. The four cases take turns, so that a busy
machine slows all of them. Figures are medians:

- images_per_cpu_s: images per second of this process' CPU time;
- images_per_s: images per second of wall time; lower where others use the machine;
- roi_ms: RoIAlign of 192 RoIs, 7x7 bins, 128 channels, stride 8, forward and backward: ours.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS

from robollm.train.detector import ops
from robollm.train.engine.draws import Draw, collate
from robollm.train.engine.layer_decay import LayerDecay

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "robollm/train/configs/cascade-mask-rcnn_beit3-small_armbench.py"


def stepper(config: Any, batch: dict[str, Any], *, fast: bool, bf16: bool) -> Callable[[], None]:
    """One training step of a new model."""
    torch.manual_seed(0)
    model = MODELS.build({**config.model, "fast": fast}).train()
    for head in (model.rpn_head, *model.roi_head.bbox_head, *model.roi_head.mask_head):
        head.init_weights()
    wrapper = LayerDecay({"optimizer": dict(config.optim_wrapper.optimizer)})(model)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            data = model.data_preprocessor(copy.deepcopy(batch), True)
            loss, _ = model.parse_losses(model.loss(data["inputs"], data["data_samples"]))
        wrapper.update_params(loss)

    return step


def roi_align() -> Callable[[], None]:
    """RoIAlign alone."""
    ops.prepare()
    from mmcv.ops import RoIAlign

    rng = torch.Generator().manual_seed(0)
    features = torch.randn(4, 128, 32, 40, generator=rng).requires_grad_()
    low = torch.rand(192, 2, generator=rng) * torch.tensor([224.0, 180.0])
    size = torch.rand(192, 2, generator=rng) * torch.tensor([96.0, 76.0]) + 4
    image = torch.randint(0, 4, (192, 1), generator=rng).float()
    rois, layer = torch.cat([image, low, low + size], 1), RoIAlign(7, 1 / 8, 0)

    def run() -> None:
        torch.autograd.grad(layer(features, rois).sum(), features)

    return run


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "detector.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.INFO)  # MMEngine tells how each weight was drawn
    config = Config.fromfile(CONFIG)
    data = DATASETS.build({**config.train_dataloader.dataset, "data_root": args.data})
    began = time.process_time()
    batch = collate([data[Draw(i, i % len(data))] for i in range(4)])
    load = (time.process_time() - began) / 4
    cases = {
        f"{'bf16' if bf16 else 'fp32'}, {'fast' if fast else 'stock'} layers": stepper(
            config, batch, fast=fast, bf16=bf16
        )
        for bf16 in (False, True)
        for fast in (False, True)
    } | {"roi": roi_align()}
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for turn in range(args.rounds + 1):
        for name, run in cases.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            if turn:  # the first warms up
                seen[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    roi = seen.pop("roi")
    middle = {n: [statistics.median(c) for c in zip(*v, strict=True)] for n, v in seen.items()}
    report = {
        "command": "python bench/detector.py --data FOLDER",
        "conditions": {
            "machine": platform.processor() or platform.machine(),
            "load": round(os.getloadavg()[0], 1),
            "threads": 1,
            "torch": version("torch"),
            "images": "4 simulated totes, 320x256 px",
            "objects": [len(s.gt_instances) for s in batch["data_samples"]],
            "rounds": args.rounds,
        },
        "load_ms_per_image": round(1e3 * load, 1),
        "roi_ms": round(1e3 * statistics.median(c for c, _ in roi), 1),
        "train_step": {
            n: {"images_per_cpu_s": round(4 / c, 2), "images_per_s": round(4 / w, 2)}
            for n, (c, w) in middle.items()
        },
    }
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
