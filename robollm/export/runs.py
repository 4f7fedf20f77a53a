"""One run folder of `robollm train`, as an export sees it: its model with the best weights."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robollm.core.errors import ConfigError, ModelFileError
from robollm.data.armbench_files import read_object
from robollm.runtime.bundle import file_sha256

CONFIG, BEST, RUN = "config.py", "best.pth", "run.json"
TASKS = ("segmentation", "identification", "defects")
Settings = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """What one run gives to a bundle.

    Attributes:
        folder: the run folder.
        encoder: its `Beit3Encoder`, with the adapters that it was trained with.
        heads: task -> `ToteCascadeRCNN` (its backbone is `encoder`), `IdentificationHead` or
            `DefectHead`.
        data: task -> config of its validation data.
        step: of the checkpoint; 0 is random weights.
        about: for the card's provenance.
        changes: those of the `KEY=VALUE` whose key its config has; they are made.
    """

    folder: Path
    encoder: Any
    heads: Mapping[str, Any]
    data: Mapping[str, Settings]
    step: int
    about: Mapping[str, Any]
    changes: tuple[str, ...] = ()


def need_train() -> None:
    """Say what is missing, if this Python can't build the models of a run.

    Raises:
        ConfigError: without PyTorch and MMDetection.
    """
    missing = [m for m in ("torch", "mmengine", "mmdet") if importlib.util.find_spec(m) is None]
    if missing:
        raise ConfigError(
            f"export reads runs of `robollm train`, and needs {', '.join(missing)}",
            fix="make train-setup, or the two pip lines in docs/training.md",
        )


def read_run(folder: Path, changes: Sequence[str] = ()) -> Run:
    """Build the model of a run with its best checkpoint: what `robollm train` chose, EMA or not.

    Args:
        folder: of a `robollm train`.
        changes: `KEY=VALUE` for its config; those whose key it lacks are left out.

    Raises:
        ConfigError: it is no run folder with a best checkpoint, or a change is no KEY=VALUE.
        ModelFileError: the checkpoint is damaged, or not of this config.
    """
    need_train()
    lost = [n for n in (CONFIG, BEST, RUN) if not (folder / n).is_file()]
    if lost:
        raise ConfigError(
            f"{folder} has no {', '.join(lost)}: it is no finished run",
            fix="give the --out of a `robollm train`",
        )
    from mmengine.config import Config

    from robollm.train.engine.runner import load
    from robollm.train.folder import read_task

    task = read_task(folder)
    config = Config.fromfile(str(folder / CONFIG), lazy_import=False, import_custom_modules=False)
    made = _change(config, changes)
    checkpoint = load(folder / BEST)
    model = build_model(config.model)
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as e:
        raise ModelFileError(
            f"{folder / BEST} doesn't fit {folder / CONFIG}: {str(e).splitlines()[0]}",
            fix="use the folder as `robollm train` wrote it",
        ) from e
    step = int(checkpoint.get("meta", {}).get("iter", 0))
    about = {**_about(folder, task, checkpoint, step), "changes": list(made)}
    return replace(as_run(folder, model.eval(), config, step=step, about=about), changes=made)


def build_model(config: Any) -> Any:
    """The model of a run's config, with first weights of no meaning."""
    from mmengine.registry import MODELS, DefaultScope

    from robollm.train.parts import register_parts

    register_parts("multitask")  # an export always has a detector
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(config)


def as_run(folder: Path, model: Any, config: Any, *, step: int, about: Mapping[str, Any]) -> Run:
    """A model and the config it was built from, as an export sees them.

    Args:
        folder: of the run; for messages.
        model: `ToteCascadeRCNN` or `TaskModel`.
        config: of the run.
        step: of the model's weights; 0 is random ones.
        about: for the card's provenance.

    Raises:
        ConfigError: for another model.
    """
    encoder, heads = _parts(folder, model)
    data = config.to_dict()["val_dataloader"]["dataset"]
    data = data["datasets"] if "datasets" in data else dict.fromkeys(heads, data)
    return Run(folder=folder, encoder=encoder, heads=heads, data=data, step=step, about=about)


def _change(config: Any, changes: Sequence[str]) -> tuple[str, ...]:
    """Make the changes whose key the config has; those are given back."""
    from robollm.train.config import change

    made = []
    for text in changes:
        key, equals, _ = text.partition("=")
        if not equals or _has(config, key.strip()):
            change(config, text)  # says what is wrong with a text without "="
            made.append(text)
    return tuple(made)


def _has(place: Any, key: str) -> bool:
    for name in key.split("."):
        if isinstance(place, list | tuple):
            place = {str(i): one for i, one in enumerate(place)}
        if not hasattr(place, "keys") or name not in place:
            return False
        place = place[name]
    return True


def _parts(folder: Path, model: Any) -> tuple[Any, dict[str, Any]]:
    from robollm.train.detector.cascade import ToteCascadeRCNN
    from robollm.train.model import TaskModel

    if isinstance(model, ToteCascadeRCNN):
        return model.backbone.encoder, {"segmentation": model}
    if not isinstance(model, TaskModel):
        raise ConfigError(
            f"{folder} trained a {type(model).__name__}, want a ToteCascadeRCNN or a TaskModel",
            fix="train with a config of robollm/train/configs, or one like them",
        )
    heads = {t: h.detector if t == "segmentation" else h for t, h in model.heads.items()}
    detector = heads.get("segmentation")
    if detector is not None and not isinstance(detector, ToteCascadeRCNN):
        raise ConfigError(
            f"{folder} has a {type(detector).__name__} for segmentation, want a ToteCascadeRCNN",
            fix="use type='ToteCascadeRCNN' in the config",
        )
    return model.encoder, heads


def _about(folder: Path, task: str, checkpoint: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Names, digests, versions; no path of the machine."""
    run = read_object(folder / RUN)
    starts = run.get("starts") or [{}]
    chosen = checkpoint.get("selected") or {}
    return {
        "run": folder.resolve().name,
        "task": task,
        "step": step,
        "seed": run.get("seed"),
        "selected_by": chosen.get("metric"),
        "best_sha256": file_sha256(folder / BEST),
        "config_sha256": hashlib.sha256((folder / CONFIG).read_bytes()).hexdigest(),
        "robollm": run.get("robollm"),
        "packages": dict(starts[-1].get("packages", {})),
        **{k: run[k] for k in ("unpacked_from",) if k in run},
    }
