"""`robollm train`: teach the encoder and its heads, on ARMBench's folders."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from robollm.core.errors import ConfigError

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_COUNT = click.IntRange(0, 256)
_DATA = "Folder that holds ARMBench's folders."
_OUT = "Run folder: config, metrics, curves, best and last checkpoint."
_CONFIG = "small, base, large, another config's name, or a path ending in .py."
_SET = "Change the config, for example train_cfg.max_epochs=3; repeatable."
_INIT = "Encoder weights to start from: a BEiT-3 file, or a checkpoint of a run."
_WORKERS = "Processes that read data; changes the speed, not the result."
_EMBEDDINGS = "Folder for isotropy, cosines and t-SNE of what identification embeds."
_HELP = {
    "segmentation": "Instance masks: Cascade Mask R-CNN on BEiT-3 (thesis 8.3.3).",
    "identification": "Retrieval: pick and reference images side by side (thesis 8.3.4).",
    "defects": "Multi-pick and package defects (thesis 8.3.5).",
    "multitask": "One encoder for all three tasks, in turns.",
}


@click.group(help="Train a task on ARMBench's folders; the same command goes on where it was.")
def command() -> None:
    """Group of the tasks."""


def _verb(task: str) -> None:
    @command.command(name=task, help=_HELP[task])
    @click.option("--data", type=_FOLDER, required=True, help=_DATA)
    @click.option("--out", type=click.Path(path_type=Path), required=True, help=_OUT)
    @click.option("--config", default="small", show_default=True, help=_CONFIG)
    @click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help=_SET)
    @click.option("--init", default="", help=_INIT)
    @click.option("--seed", type=click.IntRange(0), help="Of weights, batches and augmentation.")
    @click.option("--workers", type=_COUNT, default=0, show_default=True, help=_WORKERS)
    @click.option("--fresh", is_flag=True, help="Begin anew even if --out has a checkpoint.")
    @click.option("--tensorboard", is_flag=True, help="Write TensorBoard events, too.")
    def verb(**options: Any) -> None:
        _run(task, options)


def _need_torch() -> None:
    missing = [m for m in ("torch", "mmengine", "mmdet") if importlib.util.find_spec(m) is None]
    if missing:
        raise ConfigError(
            f"training needs {', '.join(missing)}, which this Python lacks",
            fix="make train-setup, or the two pip lines in docs/training.md",
        )


def _run(task: str, options: dict[str, Any]) -> None:
    _need_torch()
    from robollm.train.run import Order, train

    try:
        done = train(Order(task=task, **{**options, "changes": tuple(options["changes"])}))
    except KeyboardInterrupt:
        click.echo(f"stopped; the same command goes on from {options['out']}/last.pth", err=True)
        sys.exit(130)
    _say(done)


def _say(done: dict[str, Any]) -> None:
    """One line of JSON; under torchrun, from the first process."""
    if os.environ.get("RANK", "0") == "0":
        click.echo(json.dumps(done))


for _task in _HELP:
    _verb(_task)


@command.command(help="Measure RUN's best checkpoint on a split, by its validation metrics.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=_FOLDER, required=True, help=_DATA)
@click.option("--split", type=click.Choice(["val", "test"]), default="test", show_default=True)
@click.option("--workers", type=_COUNT, default=0, show_default=True, help=_WORKERS)
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help=_SET)
@click.option("--embeddings", type=click.Path(path_type=Path, file_okay=False), help=_EMBEDDINGS)
def evaluate(run: Path, data: Path, **options: Any) -> None:
    """Measure a run."""
    _need_torch()
    from robollm.train.evaluate import evaluate as measure

    options["changes"] = tuple(options["changes"])
    _say(measure(run, data, **options))
