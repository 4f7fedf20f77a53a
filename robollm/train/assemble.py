"""What a run is put together from: loaders, schedules, metrics, quiet logs."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_distributed
from mmengine.logging import MMLogger
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import DataLoader

from robollm.train.engine.draws import collate
from robollm.train.engine.evaluation import WholeBatches
from robollm.train.multitask import ManyData


def _loader(dataset: Any, plan: Any, workers: int) -> DataLoader[Any]:
    return DataLoader(dataset, batch_sampler=plan, num_workers=workers, collate_fn=collate)


def train_loader(config: Config, workers: int) -> DataLoader[Any]:
    """The training data and its plan of batches."""
    part = copy.deepcopy(config.train_dataloader)
    dataset = DATASETS.build(part["dataset"])
    size = part.get("batch_size", 1)
    plan = DATA_SAMPLERS.build({"batch_size": size, **part["batch_sampler"], "dataset": dataset})
    return _loader(dataset, plan, workers or int(part.get("num_workers", 0)))


@contextlib.contextmanager
def processes() -> Iterator[None]:
    """Meet the other processes, if torchrun started this one, and part from them at the end."""
    started = "RANK" in os.environ and not is_distributed()
    if started:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend)
    yield
    if started:  # one that leaves early would take the others down; after an error, so it shall
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def model_wrapper(config: Config) -> dict[str, Any] | None:
    """MMEngine's own wrapper of a model among several processes, but not tied to a GPU's number."""
    if not is_distributed():
        return None
    wrapper = {
        "type": "MMDistributedDataParallel",
        "device_ids": None,
        "forward_sync_buffers": False,
        "find_unused_parameters": config.get("find_unused_parameters", False),
    }
    return {"model_wrapper_cfg": wrapper}


def schedules(config: Config, loader: DataLoader[Any]) -> list[dict[str, Any]] | None:
    """The schedules; a `begin` or `end` that is a float is a share of all steps."""
    given = copy.deepcopy(config.get("param_scheduler"))
    if not given:
        return None
    cfg = config.train_cfg
    plan: Any = loader.batch_sampler
    steps = cfg.get("max_steps") or max(1, round(cfg.get("max_epochs", 0) * len(plan)))
    out = [given] if isinstance(given, dict) else list(given)
    for one in out:
        for key in ("begin", "end"):
            if isinstance(one.get(key), float):
                one[key] = round(one[key] * steps)
        one["begin"] = min(one.get("begin", 0), max(0, steps - 1))
        if "end" in one:
            one["end"] = max(one["end"], one["begin"] + 1)
    return out


def val_loader(part: dict[str, Any], workers: int) -> DataLoader[Any]:
    """The validation data, each sample once."""
    dataset = DATASETS.build(part["dataset"])
    lengths = dataset.lengths if isinstance(dataset, ManyData) else [len(dataset)]
    plan = WholeBatches(lengths, part.get("batch_size", 1))
    return _loader(dataset, plan, workers or int(part.get("num_workers", 0)))


def scope_of(task: str) -> str:
    """MMEngine imports a scope's package: the detector's only where there is one."""
    return "mmdet" if task in ("segmentation", "multitask") else "mmengine"


def length(loader: DataLoader[Any]) -> int:
    """How many samples a loader has."""
    dataset: Any = loader.dataset
    return len(dataset)


def evaluators(config: Config) -> list[dict[str, Any]]:
    """One metric, or task -> metric."""
    given = dict(config.val_evaluator)
    if "type" in given:
        return [{"type": "OfTask", "task": "", "metric": given}]
    return [{"type": "OfTask", "task": t, "metric": m, "named": True} for t, m in given.items()]


def finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no number for what could not be measured."""
    return {k: v if math.isfinite(v) else None for k, v in values.items()}


_NOISE = ("The prefix is not set", "Dataset ", '"FileClient"', '"HardDiskBackend"')


def _worth_telling(record: logging.LogRecord) -> bool:
    """What belongs on the terminal; MMEngine's log file has the rest."""
    text = record.getMessage()
    if "encoder weights loaded" in text:  # what was taken and dropped of a checkpoint
        return True
    return record.levelno >= logging.WARNING and not text.startswith(_NOISE)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """MMEngine prints its environment while a Runner is built; its log file has it all."""
    held = io.StringIO()
    try:
        with contextlib.redirect_stdout(held):
            yield
    except BaseException:
        sys.stderr.write(held.getvalue())
        raise
    for logger in _logs():
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(
                handler, logging.FileHandler
            ):
                # Not `setStream`: it flushes the old stream, which may be closed by now, as it is
                # when somebody captured a run before this one in the same process.
                handler.stream = sys.stderr
                handler.addFilter(_worth_telling)


def _logs() -> list[MMLogger]:
    return [one for one in MMLogger._instance_dict.values() if isinstance(one, MMLogger)]


def close_logs() -> None:
    """Close MMEngine's log files; it keeps them open as long as the process lives."""
    for logger in _logs():
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
    MMLogger._instance_dict.clear()
