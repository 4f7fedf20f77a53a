"""The run folder: what a run was made of, and whether it may go on."""

from __future__ import annotations

import importlib.metadata as packages
import json
import os
import platform
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from torch import nn

from robollm import __version__
from robollm.core.errors import ConfigError
from robollm.data.armbench_files import read_object, write_bytes, write_json
from robollm.train import config as cfgs
from robollm.train.engine.runner import BEST, LAST

CONFIG, RUN = "config.py", "run.json"

_PACKAGES = ("torch", "onedl-mmengine", "mmcv-lite", "mmdet", "numpy", "opencv-python-headless")


def prepare_folder(out: Path, config: Config, *, fresh: bool) -> bool:
    """Make the run folder, or see that it belongs to the same run.

    The main process looks and decides; of several machines, all must see the same folder.

    Args:
        out: the folder.
        config: as it will be run.
        fresh: forget the run that is there.

    Returns:
        Whether there is a checkpoint to go on from.

    Raises:
        ConfigError: if the folder holds a run of another config, or something else.
    """
    answer: list[Any] = [None]
    if is_main_process():
        try:
            answer = [_prepare(out, config, fresh=fresh)]
        except ConfigError as e:
            answer = [(e.what, e.fix)]
        except OSError as e:
            answer = [(f"{out} can't be written: {e}", "give another --out")]
    broadcast_object_list(answer)
    if isinstance(answer[0], bool):
        return answer[0]
    what, fix = answer[0]
    raise ConfigError(what, fix=fix)


def _prepare(out: Path, config: Config, *, fresh: bool) -> bool:
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file, want a run folder", fix="give another --out")
    last, known = out / LAST, out / CONFIG
    if fresh:
        for name in (LAST, BEST, "metrics.jsonl", CONFIG, RUN):
            (out / name).unlink(missing_ok=True)
        for adapter in out.glob("adapter-*.pth"):
            adapter.unlink()
        shutil.rmtree(out / "tensorboard", ignore_errors=True)
    if known.is_file() and last.is_file():
        old = Config.fromfile(str(known), lazy_import=False, import_custom_modules=False)
        changed = cfgs.differences(old.to_dict(), config.to_dict())
        if changed:
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            raise ConfigError(
                f"{out} holds a run of another config: {'; '.join(changed[:5])}{more}",
                fix="give another --out, the same config, or --fresh to begin anew",
            )
    elif out.is_dir() and any(out.iterdir()) and not known.is_file() and not fresh:
        raise ConfigError(
            f"{out} is not empty, and no run folder",
            fix="give another --out, or --fresh to use it all the same",
        )
    write_bytes(known, config.pretty_text.encode())
    return last.is_file()


def record(out: Path, task: str, seed: int, model: nn.Module, samples: dict[str, int]) -> None:
    """Write run.json: command, versions, machine, sizes; one entry per start.

    Args:
        out: the run folder.
        task: what is trained.
        seed: of the run.
        model: for its number of parameters.
        samples: how many of each split.
    """
    if not is_main_process():
        return
    path = out / RUN
    entry = {
        "command": shlex.join(["robollm", *sys.argv[1:]]),
        "processes": int(get_world_size()),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }
    starts: list[Any] = []
    if path.is_file():
        try:
            starts = json.loads(path.read_bytes())["starts"]
        except (ValueError, KeyError, TypeError):
            starts = []  # a kill cut it off; it is a record, nothing depends on it
    parameters = list(model.parameters())
    write_json(
        path,
        {
            "robollm": __version__,
            "task": task,
            "parameters": sum(p.numel() for p in parameters),
            "trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
            "samples": samples,
            "seed": seed,
            "starts": [*starts, entry],
        },
        indent=1,
    )


def read_task(out: Path) -> str:
    """What a run folder trained.

    Raises:
        ConfigError: if its run.json doesn't say.
    """
    task = read_object(out / RUN).get("task")
    if task not in cfgs.TASKS:
        raise ConfigError(
            f"{out / RUN} says task {task!r}, want one of {', '.join(cfgs.TASKS)}",
            fix="give the --out of a `robollm train`",
        )
    return str(task)


def _version(package: str) -> str:
    try:
        return packages.version(package)
    except packages.PackageNotFoundError:
        return "not installed by pip"
