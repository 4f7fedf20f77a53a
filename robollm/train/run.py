"""One training run, from a config and a data folder to a run folder."""

from __future__ import annotations

import copy
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_distributed, is_main_process
from torch.utils.data import DataLoader

from robollm.core.errors import ConfigError
from robollm.train import assemble
from robollm.train import config as cfgs
from robollm.train.adapters.files import save_adapter
from robollm.train.engine.journal import Journal
from robollm.train.engine.runner import BEST, LAST, TrainRunner, load
from robollm.train.engine.select import Select
from robollm.train.folder import prepare_folder, record
from robollm.train.model import TaskModel
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
    register_parts(order.task)
    config = resolve(order)
    with assemble.processes():
        return _train(order, config)


def _train(order: Order, config: Config) -> dict[str, Any]:
    began = time.monotonic()
    resumed = prepare_folder(order.out, config, fresh=order.fresh)
    train_loader = assemble.train_loader(config, order.workers)
    val_loader = assemble.val_loader(copy.deepcopy(config.val_dataloader), order.workers)
    try:
        with assemble.quiet():
            runner = _runner(order, config, train_loader, val_loader, resumed=resumed)
    except TypeError as e:  # MMEngine builds parts from the config's keys
        raise ConfigError(f"config {order.config}: {e}", fix="correct that part's keys") from e
    journal = next(h for h in runner.hooks if isinstance(h, Journal))
    select = next(h for h in runner.hooks if isinstance(h, Select))
    samples = {"train": assemble.length(train_loader), "val": assemble.length(val_loader)}
    record(order.out, order.task, runner.seed, runner.model, samples)
    try:
        runner.train()
    finally:
        journal.close()
        assemble.close_logs()
    _write_adapters(order.out, runner.model)
    steps = runner.iter - journal.first_step
    found = {"step": select.step, **select.metrics}
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
        "best": assemble.finite(found) if select.metrics else None,
        "problems": journal.problems.counts,
    }


def _write_adapters(out: Path, model: Any) -> None:
    """Each task's adapter alone, of the best checkpoint: what is shipped beside one encoder."""
    model = getattr(model, "module", model)
    if not (isinstance(model, TaskModel) and model.adapted and is_main_process()):
        return
    if (out / BEST).is_file():
        model.load_state_dict(load(out / BEST)["state_dict"])
    for task in model.heads:
        save_adapter(model.encoder, task, out / f"adapter-{task}.pth")


def resolve(order: Order) -> Config:
    """The config as it will be run: with its data folder, seed and first weights.

    Raises:
        ConfigError: see `config.load`; or nothing in it takes a data folder.
    """
    config = cfgs.load(order.task, order.config, order.changes)
    if order.seed is not None:
        config.randomness = {**config.get("randomness", {}), "seed": order.seed}
    seed = int(config.setdefault("randomness", {"seed": 0})["seed"])
    if not cfgs.set_everywhere(config, "data_root", str(order.data), lambda m: "data_root" in m):
        raise ConfigError(
            f"no dataset of config {order.config} has a data_root", fix="write data_root=''"
        )
    plan, data = config.train_dataloader["batch_sampler"], config.train_dataloader["dataset"]
    for one in (plan, *(m for m in cfgs.walk(data) if "data_root" in m)):
        one.setdefault("seed", seed)
    if order.init:
        found = cfgs.set_everywhere(
            config, "init_checkpoint", order.init, lambda m: m.get("type") == "Beit3Encoder"
        )
        if not found:
            raise ConfigError(f"config {order.config} has no encoder to start from {order.init}")
    return config


def _runner(
    order: Order,
    config: Config,
    train_loader: DataLoader[Any],
    val_loader: DataLoader[Any],
    *,
    resumed: bool,
) -> TrainRunner:
    out = str(order.out)
    selected = config.select["metric"]
    name = f"robollm-{order.task}-{time.monotonic_ns()}"  # MMEngine keeps loggers by name
    hooks = [
        {"type": "Journal", "folder": out, "every": config.get("log_every", 20),
         "title": f"{order.task} {order.out.name}",
         "shown": config.get("shown", selected if isinstance(selected, list) else [selected])},
        {"type": "KeepLast", "folder": out},
        {"type": "Select", "folder": out, **config.select},
        *copy.deepcopy(config.get("custom_hooks", [])),
    ]  # fmt: skip
    backends = []
    default_hooks: dict[str, Any] = dict.fromkeys(("checkpoint", "sampler_seed", "logger"))
    if order.tensorboard:
        backends = [{"type": "TensorboardVisBackend", "save_dir": f"{out}/tensorboard"}]
        del default_hooks["logger"]
    model = copy.deepcopy(config.model)
    if resumed:  # its weights are in the checkpoint
        for part in cfgs.walk(model):
            part.pop("init_checkpoint", None)
    start = f"{out}/{LAST}" if resumed else config.get("load_from")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return TrainRunner(
        model=model,
        work_dir=f"{out}/log",
        train_dataloader=train_loader,
        train_cfg={"keep_every": config.get("keep_every", 200), **config.train_cfg},
        val_dataloader=val_loader,
        val_cfg={"type": "CheckedValLoop"},
        val_evaluator=assemble.evaluators(config),
        optim_wrapper={**copy.deepcopy(config.optim_wrapper), "device": device},
        param_scheduler=assemble.schedules(config, train_loader),
        default_hooks=default_hooks,
        custom_hooks=hooks,
        load_from=start,
        resume=resumed,
        launcher="pytorch" if is_distributed() else "none",
        visualizer={"type": "Visualizer", "vis_backends": backends, "name": name},
        default_scope=assemble.scope_of(order.task),
        randomness=dict(config.randomness),
        experiment_name=name,
        cfg=assemble.model_wrapper(config),
    )
