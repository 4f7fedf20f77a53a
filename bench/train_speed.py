"""bfloat16 autocast against float32: images per second of a training step, for each task.

`python bench/train_speed.py --data FOLDER` writes results/train_speed.json. FOLDER holds ARMBench's
folders. A step is forward, backward and AdamW on one batch of the config's own training data, which
was read before; both precisions take turns in one process of one thread, so that a busy machine
slows both. Figures are medians; a sample of
identification is two pictures; `ratio` is that of CPU seconds, float32 over bfloat16. Which bf16
instructions the processor has is under conditions: `avx512_bf16`, `amx_bf16`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import DATA_SAMPLERS, DATASETS, MODELS, DefaultScope

from robollm.train.engine.draws import collate
from robollm.train.engine.layer_decay import LayerDecay
from robollm.train.parts import register_parts
from robollm.train.run import Order, resolve

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "results" / "train_speed.json"
FEW = ("train_dataloader.batch_size=4",)
CASES = {
    "segmentation, small": ("segmentation", "small", ()),
    "identification, small": ("identification", "small", ()),
    "defects, small": ("defects", "small", ()),
    "identification, base, batch of 4": (
        "identification",
        "base",
        ("train_dataloader.batch_size=4",),
    ),
    "defects, base, batch of 4": ("defects", "base", FEW),
}


class Case:
    """One task's model, batch and optimiser, in both precisions."""

    def __init__(self, task: str, config: str, changes: tuple[str, ...], data: Path) -> None:
        register_parts(task)
        order = Order(task=task, config=config, data=data, out=Path("-"), changes=changes)
        made = resolve(order)
        loader = made.train_dataloader
        dataset = DATASETS.build(loader["dataset"])
        plan = DATA_SAMPLERS.build(
            {
                "batch_size": loader.get("batch_size", 1),
                **loader["batch_sampler"],
                "dataset": dataset,
            }
        )
        draws = plan.batch(0)
        began = time.process_time()
        self.batch = collate([dataset[d] for d in draws])
        self.load_s = time.process_time() - began
        self.samples = len(draws)
        torch.manual_seed(0)
        self.model = MODELS.build(made.model).train()
        self.model.init_weights()
        self.wrapper = LayerDecay({"optimizer": dict(made.optim_wrapper.optimizer)})(self.model)

    def step(self, *, bf16: bool) -> float:
        """One step; returns its CPU seconds."""
        began = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            data = self.model.data_preprocessor(dict(self.batch), True)
            loss, _ = self.model.parse_losses(self.model(**data, mode="loss"))
        self.wrapper.update_params(loss)
        return time.process_time() - began


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Both precisions in turns."""
    seen: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(rounds + 1):
        for bf16, times in seen.items():
            took = case.step(bf16=bf16)
            if turn:  # the first warms up
                times.append(took)
    full, half = (statistics.median(seen[b]) for b in (False, True))
    return {
        "samples_per_step": case.samples,
        "fp32_samples_per_cpu_s": round(case.samples / full, 2),
        "bf16_samples_per_cpu_s": round(case.samples / half, 2),
        "ratio": round(full / half, 2),
        "load_ms_per_sample": round(1e3 * case.load_s / case.samples, 1),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    DefaultScope.get_instance("train-speed", scope_name="mmdet")
    load = os.getloadavg()[0]
    found = {}
    for name, (task, config, changes) in CASES.items():
        found[name] = measure(Case(task, config, changes, args.data), args.rounds)
        print(name, json.dumps(found[name]), flush=True)
    info = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next(x for x in info if x.startswith("flags")).split()
    OUT.write_text(
        json.dumps(
            {
                "command": f"python bench/train_speed.py --data FOLDER --rounds {args.rounds}",
                "conditions": {
                    "cpu": next(x for x in info if "model name" in x).partition(":")[2].strip(),
                    "bf16_instructions": [f for f in ("avx512_bf16", "amx_bf16") if f in flags],
                    "load_before": round(load, 1),
                    "threads": 1,
                    "rounds": args.rounds,
                    "torch": version("torch"),
                },
                "tasks": found,
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
