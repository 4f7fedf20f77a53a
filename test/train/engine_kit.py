"""A small run on the real defect parts, and how to stop and compare runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from robollm.train.engine.loops import StepLoop
from robollm.train.engine.runner import load
from robollm.train.run import Order

CONFIG = """
model = dict(
    type="TaskModel",
    encoder=dict(type="Beit3Encoder", variant="tiny", depth=2, drop_path=0.1),
    heads=dict(defects=dict(type="DefectHead", in_channels=128)),
)
_data = dict(type="DefectData", data_root="", size=32)
train_dataloader = dict(
    batch_size=4, batch_sampler=dict(type="BalancedBatches"), dataset=dict(split="train", **_data)
)
val_dataloader = dict(batch_size=8, dataset=dict(split="val", **_data))
val_evaluator = dict(type="DefectMetric")
train_cfg = dict(type="StepLoop", max_steps=24, val_steps=8)
optim_wrapper = dict(
    type="GuardedOptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3),
    clip_grad=dict(max_norm=1.0),
    constructor="LayerDecay",
    paramwise_cfg=dict(layer_decay=0.8),
)
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=False, end=24, eta_min=0)]
custom_hooks = [dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.02)]
select = dict(metric="mean_recall", rule="greater", patience=0)
log_every = 4
keep_every = 5
"""


def weights(run: Path, name: str = "last.pth", part: str = "state_dict") -> dict[str, Any]:
    found: dict[str, Any] = load(run / name)[part]
    return {k: v for k, v in found.items() if isinstance(v, torch.Tensor)}


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert [k for k in one if not torch.equal(one[k], other[k])] == []


@contextmanager
def interrupted_before(step: int) -> Iterator[None]:
    """Ctrl-C in front of a step, counted from 1."""
    real = StepLoop._step

    def maybe(self: Any, batch: Any) -> None:
        if self._iter == step - 1:
            raise KeyboardInterrupt
        real(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepLoop, "_step", maybe)
        yield


def command(order: Order, *before: str) -> list[str]:
    changes = [word for c in order.changes for word in ("--set", c)]
    program = before or (sys.executable,)
    return [*program, "-m", "robollm.cli.main", "train", order.task, "--config", order.config,
            "--data", str(order.data), "--out", str(order.out), *changes]  # fmt: skip


def one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}
