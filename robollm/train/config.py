"""Which config a run uses: by name or path, changed on the command line, kept with the run."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from robollm.core.errors import ConfigError
from robollm.train.beit3.settings import settings_of

FOLDER = Path(__file__).resolve().parent / "configs"
PREFIX = {
    "segmentation": "cascade-mask-rcnn",
    "identification": "identification",
    "defects": "defects",
    "multitask": "multitask",
}
TASKS = tuple(PREFIX)

WANTED = ("model", "train_dataloader", "val_dataloader", "val_evaluator", "train_cfg",
          "optim_wrapper", "select")  # fmt: skip
# custom_imports, default_scope and val_cfg are for MMDetection's own tools; ours are fixed.
KNOWN = (*WANTED, "custom_hooks", "custom_imports", "default_scope", "find_unused_parameters",
         "keep_every", "load_from", "log_every", "param_scheduler", "randomness", "shown",
         "val_cfg")  # fmt: skip
LOADER = ("dataset", "batch_sampler", "batch_size", "num_workers")
# What may differ between a run and its continuation: nothing that a step depends on. The
# checkpoint itself knows the number of steps and samples, and refuses others.
_FREE = ("train_cfg", "select.patience", "log_every", "keep_every", "num_workers", "data_root",
         "init_checkpoint", "load_from")  # fmt: skip


def names(task: str) -> list[str]:
    """The configs that come with robollm, for one task."""
    return sorted(p.stem for p in FOLDER.glob(f"{PREFIX[task]}*.py"))


def find(task: str, name: str) -> Path:
    """The file of a config: a path, a name, or a size (`small`, `base`, `large`).

    Raises:
        ConfigError: if there is none; lists the names.
    """
    path = Path(name)
    if path.suffix == ".py":
        if path.is_file():
            return path
        raise ConfigError(f"there is no config {path}", fix="give an existing file")
    for stem in (name, f"{PREFIX[task]}_beit3-{name}_armbench"):
        if (FOLDER / f"{stem}.py").is_file():
            return FOLDER / f"{stem}.py"
    raise ConfigError(
        f"{task} has no config {name!r}",
        fix=f"use small, base or large, one of {', '.join(names(task))}, or a path ending in .py",
    )


def load(task: str, name: str, changes: Sequence[str] = ()) -> Config:
    """Read a config and apply `KEY=VALUE` changes (dots go down; Python literals).

    Raises:
        ConfigError: if it can't be read, lacks a part, or a change has no such key.
    """
    path = find(task, name)
    try:
        config = Config.fromfile(str(path), lazy_import=False, import_custom_modules=False)
    except Exception as e:  # a config is the user's Python: anything may happen in it
        raise ConfigError(f"{path} can't be read: {type(e).__name__}: {e}") from e
    for one in changes:
        change(config, one)
    missing = [k for k in WANTED if k not in config]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}", fix=f"see {FOLDER.name}/ for some")
    _check_keys(path, config)
    return config


def change(config: Config, text: str) -> None:
    """Apply one `KEY=VALUE`.

    Raises:
        ConfigError: if it is none, or there is no such place.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r} is no KEY=VALUE", fix="write train_cfg.max_steps=9")
    _change(config, key.strip(), _literal(value.strip()))


def _check_keys(path: Path, config: Config) -> None:
    """A key that nobody reads is a mistake, not a wish."""
    places: dict[str, tuple[Any, tuple[str, ...]]] = {"": (config, KNOWN)}
    places |= {f"{n}.": (config[n], LOADER) for n in ("train_dataloader", "val_dataloader")}
    for at, (part, known) in places.items():
        for key in part:
            if key not in known and not key.startswith("_"):
                near = difflib.get_close_matches(key, known, n=1)
                raise ConfigError(
                    f"{path.name}: nobody reads the key {at + key!r}",
                    fix=f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}",
                )


def _literal(text: str) -> Any:
    """A Python literal, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _change(config: Config, key: str, value: Any) -> None:
    *way, last = key.split(".")
    place: Any = config
    for i, name in enumerate(way):
        inner = _step(place, name, ".".join(way[: i + 1]))
        if isinstance(inner, tuple):  # as lists they can be changed; nobody tells them apart
            inner = list(inner)
            _put(place, name, inner)
        place = inner
    if not isinstance(place, list | Mapping | Config):
        raise ConfigError(f"{'.'.join(way)} is {place!r}: nothing can be set inside it")
    if isinstance(place, list):
        _step(place, last, key)
    _put(place, last, value)


def _step(place: Any, name: str, here: str) -> Any:
    if isinstance(place, list):
        if name.isdigit() and int(name) < len(place):
            return place[int(name)]
        raise ConfigError(f"the config has no {here!r}", fix=f"the list has {len(place)} entries")
    if isinstance(place, Mapping | Config) and name in place:
        return place[name]
    known = ", ".join(map(str, place)) if isinstance(place, Mapping | Config) else repr(place)
    raise ConfigError(f"the config has no {here!r}", fix=f"known there: {known}")


def _put(place: Any, name: str, value: Any) -> None:
    if isinstance(place, list):
        place[int(name)] = value
    else:
        place[name] = value


def join_tasks(
    size: str | Mapping[str, str],
    *,
    turns: Mapping[str, float],
    batch_sizes: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Put the three tasks' configs of one size together, on the detector's encoder.

    Args:
        size: `small`, `base` or `large`; or task -> its config.
        turns: task -> share of the steps.
        batch_sizes: task -> samples of its batches; those of the tasks' own configs if not given.

    Returns:
        `model`, `train_dataloader`, `val_dataloader`, `val_evaluator`; schedule and optimiser are
        the caller's.
    """
    parts = {t: load(t, size if isinstance(size, str) else size[t]) for t in turns}
    detector = parts["segmentation"].model.to_dict()
    encoder = {"type": "Beit3Encoder", **detector.pop("backbone")["encoder"]}
    settings = {k: v for k, v in encoder.items() if k not in ("type", "init_checkpoint")}
    dim = settings_of(settings.pop("variant"), **settings).dim
    heads: dict[str, Any] = {}
    plans, train, val, metrics = {}, {}, {}, {}
    for task, part in parts.items():
        loader = part.train_dataloader.to_dict()
        size_of = {"batch_size": loader.get("batch_size", 1), **loader["batch_sampler"]}
        plans[task] = {**size_of, **({"batch_size": batch_sizes[task]} if batch_sizes else {})}
        train[task], val[task] = loader["dataset"], part.val_dataloader["dataset"].to_dict()
        metrics[task] = part.val_evaluator.to_dict()
        if task == "segmentation":
            heads[task] = detector
            continue
        head = part.model["heads"][task].to_dict()
        name = "dim" if "dim" in head else "in_channels"
        heads[task] = {**head, name: dim}
    return {
        "model": {"type": "TaskModel", "encoder": encoder, "heads": heads},
        "train_dataloader": {
            "dataset": {"type": "ManyData", "datasets": train},
            "batch_sampler": {"type": "AlternatingBatches", "plans": plans, "turns": dict(turns)},
        },
        "val_dataloader": {"batch_size": 16, "dataset": {"type": "ManyData", "datasets": val}},
        "val_evaluator": metrics,
    }


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping inside a config."""
    if isinstance(value, Mapping):
        yield value  # type: ignore[misc]
        for one in value.values():
            yield from walk(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from walk(one)


def set_everywhere(config: Config, key: str, value: Any, where: Callable[[Any], bool]) -> int:
    """Set a key in every mapping that `where` chooses; returns in how many."""
    count = 0
    for one in walk(config._cfg_dict):
        if where(one):
            one[key] = value
            count += 1
    return count


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Keys that differ and matter for the steps to come, as `key: old -> new`."""
    before, after = dict(_flat(old, "")), dict(_flat(new, ""))
    keys = sorted(before.keys() | after.keys())
    changed = [k for k in keys if before.get(k) != after.get(k)]
    return [
        f"{k}: {before.get(k, 'nothing')!r} -> {after.get(k, 'nothing')!r}"
        for k in changed
        if not any(k == f or k.startswith(f"{f}.") or k.endswith(f".{f}") for f in _FREE)
    ]


def _flat(value: Any, at: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for k, v in value.items():
            yield from _flat(v, f"{at}.{k}" if at else str(k))
    elif isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
        for i, v in enumerate(value):
            yield from _flat(v, f"{at}.{i}")
    else:
        yield at, list(value) if isinstance(value, tuple) else value
