"""`robollm train`: teach the encoder and its heads, on ARMBench's folders."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from robollm.core.errors import ConfigError

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
    @click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False),
                  required=True, help="Folder that holds ARMBench's folders.")  # fmt: skip
    @click.option("--out", type=click.Path(path_type=Path), required=True,
                  help="Run folder: config, metrics, curves, best and last checkpoint.")  # fmt: skip
    @click.option("--config", default="small", show_default=True,
                  help="small, base, large, another config's name, or a path ending in .py.")  # fmt: skip
    @click.option("--set", "changes", multiple=True, metavar="KEY=VALUE",
                  help="Change the config, for example train_cfg.max_epochs=3; repeatable.")  # fmt: skip
    @click.option("--init", default="", help="Encoder weights to start from: a BEiT-3 file, or a "
                  "checkpoint of a run.")  # fmt: skip
    @click.option("--seed", type=click.IntRange(0), help="Of weights, batches and augmentation.")
    @click.option("--workers", type=click.IntRange(0, 256), default=0, show_default=True,
                  help="Processes that read data; changes the speed, not the result.")  # fmt: skip
    @click.option("--fresh", is_flag=True, help="Begin anew even if --out has a checkpoint.")
    @click.option("--tensorboard", is_flag=True, help="Write TensorBoard events, too.")
    def verb(**options: Any) -> None:
        _run(task, options)


def _run(task: str, options: dict[str, Any]) -> None:
    try:
        from robollm.train.run import Order, train
    except ModuleNotFoundError as e:
        raise ConfigError(
            f"training needs {e.name}, which is not installed",
            fix="make train-setup; or the two pip lines in docs/training.md",
        ) from e
    try:
        done = train(Order(task=task, **{**options, "changes": tuple(options["changes"])}))
    except KeyboardInterrupt:
        click.echo(f"stopped; the same command goes on from {options['out']}/last.pth", err=True)
        sys.exit(130)
    click.echo(json.dumps(done))


for _task in _HELP:
    _verb(_task)
