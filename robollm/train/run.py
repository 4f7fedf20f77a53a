"""One training run, from a config and a data folder to a run folder."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_distributed
from mmengine.logging import MMLogger
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import DataLoader

from robollm.core.errors import ConfigError
from robollm.train import config as cfgs
from robollm.train.engine.draws import collate
from robollm.train.engine.evaluation import WholeBatches
from robollm.train.engine.journal import CountProblems, Journal
from robollm.train.engine.runner import BEST, LAST, TrainRunner, load
from robollm.train.engine.select import Select
from robollm.train.folder import CONFIG, prepare_folder, read_task, record
from robollm.train.multitask import ManyData
from robollm.train.parts import register_parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to train.

    Attributes:
        task: one of `config.TASKS`.
        config: name, size or path of a config.
        data: folder with ARMBench's folders.
        out: run folder.
        changes: `KEY=VALUE` for the config.
        init: checkpoint for the encoder: an official BEiT-3 file, or a run's.
        seed: overrides the config's.
        workers: processes that read data; 0: this one. Doesn't change what is learnt.
        fresh: begin anew although the run folder has a checkpoint.
        tensorboard: write TensorBoard events, too.
    """

    task: str
    config: str
    data: Path
    out: Path
    changes: tuple[str, ...] = ()
    init: str = ""
    seed: int | None = None
    workers: int = 0
    fresh: bool = False
    tensorboard: bool = False


def train(order: Order) -> dict[str, Any]:
    """Train, or go on where the run folder's last checkpoint was.

    Under `torchrun` every process calls this; the main one writes.

    Returns:
        What became of it: steps, seconds, the best validation metrics, data problems by kind.

    Raises:
        ConfigError: if config, data and run folder don't fit together.
        TrainingError: if training can't go on.
    """
    began = time.monotonic()
    register_parts(order.task)
    config = resolve(order)
    gpu = torch.cuda.is_available()
    if "RANK" in os.environ and not is_distributed():  # torchrun's
        if gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl" if gpu else "gloo")
    resumed = prepare_folder(order.out, config, fresh=order.fresh)
    train_loader = _train_loader(config, order.workers)
    val = copy.deepcopy(config.get("val_dataloader"))
    val_loader = _val_loader(val, order.workers) if val else None
    with _quiet():
        runner = _runner(order, config, train_loader, val_loader, resumed=resumed, gpu=gpu)
    journal = next(h for h in runner.hooks if isinstance(h, Journal))
    select = next(h for h in runner.hooks if isinstance(h, Select))
    samples = {"train": _length(train_loader), "val": _length(val_loader)}
    record(order.out, order.task, runner.seed, runner.model, samples)
    try:
        runner.train()
    finally:
        journal.close()
        _close_logs()
    steps = runner.iter - journal.first_step
    return {
        "run": str(order.out),
        "task": order.task,
        "steps": runner.iter,
        "steps_of_this_run": steps,
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "cpu_seconds_per_step": round(journal.cpu_seconds / max(1, steps), 5),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "trained_parameters": sum(p.numel() for p in runner.model.parameters() if p.requires_grad),
        "selected_by": select.metric,
        "best": _finite({"step": select.step, **select.metrics}) if select.metrics else None,
        "problems": journal.problems.counts,
    }


def evaluate(run: Path, data: Path, split: str, *, workers: int = 0) -> dict[str, Any]:
    """Measure a run's best checkpoint on a split, by the metrics of its validation.

    Args:
        run: a run folder.
        data: folder with ARMBench's folders.
        split: "val" or "test".
        workers: processes that read data.

    Returns:
        `metrics`, `step` of the checkpoint, and data problems by kind.

    Raises:
        ConfigError: if `run` is no run folder with a best checkpoint.
    """
    known, best = run / CONFIG, run / BEST
    if not (known.is_file() and best.is_file()):
        raise ConfigError(
            f"{run} has no {CONFIG} and {BEST}", fix="give the --out of a `robollm train`"
        )
    config = Config.fromfile(str(known), import_custom_modules=False)
    task = read_task(run)
    register_parts(task)
    cfgs.set_everywhere(config, "data_root", str(data), lambda m: "data_root" in m)
    part = copy.deepcopy(config.val_dataloader)
    for one in cfgs.walk(part):
        if "split" in one:
            one["split"] = split
    loader = _val_loader(part, workers)
    with _quiet(), tempfile.TemporaryDirectory() as held:
        runner = TrainRunner(
            model=copy.deepcopy(config.model),
            work_dir=held,
            val_dataloader=loader,
            val_cfg={"type": "CheckedValLoop"},
            val_evaluator=_evaluators(config),
            default_hooks=dict.fromkeys(("checkpoint", "sampler_seed", "logger")),
            custom_hooks=[{"type": "CountProblems"}],
            visualizer={"type": "Visualizer", "vis_backends": []},
            default_scope=_scope(task),
            experiment_name=f"robollm-evaluate-{time.monotonic_ns()}",
        )
        runner.load_checkpoint(str(best))
    counted = next(h for h in runner.hooks if isinstance(h, CountProblems)).problems
    counted.merge(loader.dataset.problems)  # type: ignore[attr-defined]
    try:
        metrics = runner.val()
    finally:
        _close_logs()
    step = load(best)["selected"]["step"]
    return {
        "run": str(run),
        "task": task,
        "split": split,
        "step": step,
        "metrics": _finite(metrics),
        "problems": counted.counts,
    }


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no number for what could not be measured."""
    return {k: v if math.isfinite(v) else None for k, v in values.items()}


def resolve(order: Order) -> Config:
    """The config as it will be run: with its data folder, seed and first weights.

    Raises:
        ConfigError: see `config.load`; or nothing in it takes a data folder.
    """
    config = cfgs.load(order.task, order.config, order.changes)
    if order.seed is not None:
        config.randomness = {"seed": order.seed}
    seed = int(config.setdefault("randomness", {"seed": 0})["seed"])
    if not cfgs.set_everywhere(config, "data_root", str(order.data), lambda m: "data_root" in m):
        raise ConfigError(
            f"no dataset of config {order.config} has a data_root", fix="write data_root=''"
        )
    plan, data = config.train_dataloader["batch_sampler"], config.train_dataloader["dataset"]
    for one in (plan, *(m for m in cfgs.walk(data) if "data_root" in m)):
        one.setdefault("seed", seed)
    if order.init:
        kinds = ("Beit3Encoder", "BEiT3Backbone")
        found = cfgs.set_everywhere(
            config, "init_checkpoint", order.init, lambda m: m.get("type") in kinds
        )
        if not found:
            raise ConfigError(f"config {order.config} has no encoder to start from {order.init}")
    return config


def _train_loader(config: Config, workers: int) -> DataLoader[Any]:
    part = copy.deepcopy(config.train_dataloader)
    dataset = DATASETS.build(part["dataset"])
    size = part.get("batch_size", 1)
    plan = DATA_SAMPLERS.build({"batch_size": size, **part["batch_sampler"], "dataset": dataset})
    return DataLoader(dataset, batch_sampler=plan, num_workers=workers, collate_fn=collate)


def _schedules(config: Config, loader: DataLoader[Any]) -> list[dict[str, Any]] | None:
    """The schedules; a `begin` or `end` that is a float is a share of all steps."""
    given = copy.deepcopy(config.get("param_scheduler"))
    if not given:
        return None
    cfg = config.train_cfg
    plan: Any = loader.batch_sampler
    steps = cfg.get("max_steps") or max(1, round(cfg.get("max_epochs", 0) * len(plan)))
    schedules = [given] if isinstance(given, dict) else list(given)
    for one in schedules:
        for key in ("begin", "end"):
            if isinstance(one.get(key), float):
                one[key] = round(one[key] * steps)
        one["begin"] = min(one.get("begin", 0), max(0, steps - 1))
        if "end" in one:
            one["end"] = max(one["end"], one["begin"] + 1)
    return schedules


def _val_loader(part: dict[str, Any], workers: int) -> DataLoader[Any]:
    dataset = DATASETS.build(part["dataset"])
    lengths = dataset.lengths if isinstance(dataset, ManyData) else [len(dataset)]
    plan = WholeBatches(lengths, part.get("batch_size", 1))
    return DataLoader(dataset, batch_sampler=plan, num_workers=workers, collate_fn=collate)


def _scope(task: str) -> str:
    """MMEngine imports a scope's package: the detector's only where there is one."""
    return "mmdet" if task in ("segmentation", "multitask") else "mmengine"


def _length(loader: DataLoader[Any] | None) -> int:
    dataset: Any = loader.dataset if loader is not None else ()
    return len(dataset)


def _evaluators(config: Config) -> list[dict[str, Any]]:
    """One metric, or task -> metric."""
    given = dict(config.val_evaluator)
    if "type" in given:
        return [{"type": "OfTask", "task": "", "metric": given}]
    return [{"type": "OfTask", "task": t, "metric": m, "named": True} for t, m in given.items()]


def _runner(
    order: Order,
    config: Config,
    train_loader: DataLoader[Any],
    val_loader: DataLoader[Any] | None,
    *,
    resumed: bool,
    gpu: bool,
) -> TrainRunner:
    out = str(order.out)
    selected = config.select["metric"]
    name = f"robollm-{order.task}-{time.monotonic_ns()}"  # MMEngine keeps loggers by name
    hooks = [
        {"type": "Journal", "folder": out, "every": config.get("log_every", 20),
         "title": f"{order.task} {order.out.name}",
         "shown": config.get("shown", selected if isinstance(selected, list) else [selected])},
        {"type": "KeepLast", "folder": out, "every": config.get("keep_every", 200)},
        {"type": "Select", "folder": out, **config.select},
        *copy.deepcopy(config.get("custom_hooks", [])),
    ]  # fmt: skip
    backends = []
    default_hooks: dict[str, Any] = dict.fromkeys(("checkpoint", "sampler_seed", "logger"))
    if order.tensorboard:
        backends = [{"type": "TensorboardVisBackend", "save_dir": f"{out}/tensorboard"}]
        del default_hooks["logger"]
    validation = {
        "val_dataloader": val_loader,
        "val_cfg": {"type": "CheckedValLoop"},
        "val_evaluator": _evaluators(config),
    }
    return TrainRunner(
        model=copy.deepcopy(config.model),
        work_dir=f"{out}/log",
        train_dataloader=train_loader,
        train_cfg=dict(config.train_cfg),
        **(validation if val_loader is not None else {}),
        optim_wrapper={**copy.deepcopy(config.optim_wrapper), "device": "cuda" if gpu else "cpu"},
        param_scheduler=_schedules(config, train_loader),
        default_hooks=default_hooks,
        custom_hooks=hooks,
        load_from=f"{out}/{LAST}" if resumed else None,
        resume=resumed,
        launcher="pytorch" if is_distributed() else "none",
        visualizer={"type": "Visualizer", "vis_backends": backends, "name": name},
        default_scope=_scope(order.task),
        randomness=dict(config.randomness),
        experiment_name=name,
        # MMEngine's own wrapper, but not tied to a GPU's number.
        cfg={
            "model_wrapper_cfg": {
                "type": "MMDistributedDataParallel",
                "device_ids": None,
                "broadcast_buffers": False,
                "find_unused_parameters": config.get("find_unused_parameters", False),
            }
        }
        if is_distributed()
        else None,
    )


@contextlib.contextmanager
def _quiet() -> Any:
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
                handler.setStream(sys.stderr)
                handler.setLevel(logging.ERROR)  # its log file has the rest


def _logs() -> list[MMLogger]:
    return [one for one in MMLogger._instance_dict.values() if isinstance(one, MMLogger)]


def _close_logs() -> None:
    for logger in _logs():
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
    MMLogger._instance_dict.clear()
