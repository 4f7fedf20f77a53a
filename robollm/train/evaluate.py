"""Measuring a run's best checkpoint, on any split."""

from __future__ import annotations

import copy
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from robollm.core.errors import ConfigError
from robollm.train import assemble
from robollm.train import config as cfgs
from robollm.train.engine.journal import CountProblems
from robollm.train.engine.runner import BEST, TrainRunner, load
from robollm.train.folder import CONFIG, read_task
from robollm.train.identification.collect import KeepEmbeddings
from robollm.train.parts import register_parts
from robollm.train.quality.report import write_quality


def evaluate(
    run: Path,
    data: Path,
    split: str,
    *,
    workers: int = 0,
    embeddings: Path | None = None,
    changes: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure a run's best checkpoint on a split, by the metrics of its validation.

    Args:
        run: a run folder.
        data: folder with ARMBench's folders.
        split: "val" or "test".
        workers: processes that read data.
        embeddings: folder for pictures and figures of the embedding space (thesis section 5.3);
            None: none.
        changes: `KEY=VALUE` for the run's config, for example another subset or gallery.

    Returns:
        `metrics`, `step` of the checkpoint, and data problems by kind.

    Raises:
        ConfigError: if `run` is no run folder with a best checkpoint, a task without embeddings
            is asked for them, or torchrun started this.
    """
    known, best = run / CONFIG, run / BEST
    if not (known.is_file() and best.is_file()):
        raise ConfigError(
            f"{run} has no {CONFIG} and {BEST}", fix="give the --out of a `robollm train`"
        )
    if "RANK" in os.environ:
        raise ConfigError("measuring is for one process", fix="start it without torchrun")
    config = Config.fromfile(str(known), lazy_import=False, import_custom_modules=False)
    task = read_task(run)
    if embeddings is not None and task not in ("identification", "multitask"):
        raise ConfigError(f"{run} trained {task}, which has no embeddings")
    register_parts(task)
    cfgs.set_everywhere(config, "data_root", str(data), lambda m: "data_root" in m)
    for one in cfgs.walk(config.val_dataloader):
        if "split" in one:
            one["split"] = split
        for limit in ("val_picks", "val_distractors"):  # they are for quick looks while training
            if limit in one:
                one[limit] = 0
    for change in changes:  # what was asked for has the last word
        cfgs.change(config, change)
    loader = assemble.val_loader(copy.deepcopy(config.val_dataloader), workers)
    with assemble.quiet(), tempfile.TemporaryDirectory() as held:
        runner = TrainRunner(
            model=copy.deepcopy(config.model),
            work_dir=held,
            val_dataloader=loader,
            val_cfg={"type": "CheckedValLoop"},
            val_evaluator=assemble.evaluators(config),
            default_hooks=dict.fromkeys(("checkpoint", "sampler_seed", "logger")),
            custom_hooks=[{"type": "CountProblems"}, {"type": "KeepEmbeddings"}],
            visualizer={"type": "Visualizer", "vis_backends": []},
            default_scope=assemble.scope_of(task),
            experiment_name=f"robollm-evaluate-{time.monotonic_ns()}",
        )
        runner.load_checkpoint(str(best))
    counted = next(h for h in runner.hooks if isinstance(h, CountProblems)).problems
    counted.merge(loader.dataset.problems)  # type: ignore[attr-defined]
    try:
        metrics = runner.val()
    finally:
        assemble.close_logs()
    if embeddings is not None:
        kept = next(h for h in runner.hooks if isinstance(h, KeepEmbeddings))
        write_quality(embeddings, np.stack(kept.vectors), kept.labels(), f"{run.name}-{split}")
    step = load(best)["selected"]["step"]
    return {
        "run": str(run),
        "task": task,
        "split": split,
        "step": step,
        "metrics": assemble.finite(metrics),
        "problems": counted.counts,
    }
