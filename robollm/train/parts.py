"""Imports what configs name: MMEngine's registries know a part once its module was imported."""

from __future__ import annotations

import importlib

_ENGINE = ("engine.journal", "engine.layer_decay", "engine.loops", "engine.optim",
           "engine.runner", "engine.select", "multitask", "model", "beit3.encoder")  # fmt: skip
_TASKS = {
    "segmentation": ("detector.backbone", "detector.simple_fpn", "detector.totes",
                     "detector.metric", "detector.cascade"),
    "identification": ("losses.modules", "identification.data", "identification.batches",
                       "identification.head", "identification.metric",
                       "identification.collect"),
    "defects": ("defects.data", "defects.batches", "defects.head", "defects.metric"),
}  # fmt: skip


def register_parts(task: str) -> None:
    """Register the engine and the parts of a task; of all tasks for `multitask`."""
    tasks = _TASKS if task == "multitask" else {task: _TASKS[task]}
    if "segmentation" in tasks:
        from robollm.train.detector.ops import prepare

        prepare()
    for name in (*_ENGINE, *(m for modules in tasks.values() for m in modules)):
        importlib.import_module(f"robollm.train.{name}")
