"""Adapters as files of their own: a few MB, and never on another backbone than their own."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robollm.core.errors import ConfigError, ModelFileError
from robollm.train.adapters.multiway import (
    AdapterSettings,
    MultiWayAdapter,
    attach,
    attached,
    settings_of_task,
)
from robollm.train.beit3.checkpoint import encoder_state
from robollm.train.beit3.encoder import Beit3Encoder

FORMAT = "robollm adapter 1"
_KEYS = {"format", "task", "settings", "backbone", "weights"}


def fingerprint(encoder: Beit3Encoder) -> str:
    """Sha256 of all that decides the frozen encoder's outputs: sizes, windows, every weight."""
    s = encoder.settings
    digest = hashlib.sha256(repr((_sizes(encoder), s.window, s.global_blocks)).encode())
    for name, weight in sorted(encoder_state(encoder).items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def adapter_state(encoder: Beit3Encoder, task: str) -> dict[str, Tensor]:
    """One task's weights, named `blocks.i.{extractor,enhancer}.{down,up}.{weight,bias}`.

    Raises:
        ConfigError: the encoder has no adapter for this task.
    """
    settings_of_task(encoder, task)
    mark = f".adapters.{task}."
    return {k.replace(mark, "."): v for k, v in encoder.state_dict().items() if mark in k}


def save_adapter(encoder: Beit3Encoder, task: str, path: Path | str) -> None:
    """Write one task's adapters with all that is needed to put them back.

    Args:
        encoder: holds them, on the backbone that they were trained on.
        task: whose.
        path: overwritten, and only by a whole file.

    Raises:
        ConfigError: the encoder has no adapter for this task.
    """
    path = Path(path)
    # clones: a view would take its whole storage along
    weights = {k: v.detach().cpu().clone() for k, v in adapter_state(encoder, task).items()}
    part = path.with_name(path.name + ".part")
    torch.save(
        {
            "format": FORMAT,
            "task": task,
            "settings": asdict(settings_of_task(encoder, task)),
            "backbone": {"sha256": fingerprint(encoder), "sizes": _sizes(encoder)},
            "weights": weights,
        },
        part,
    )
    part.replace(path)


def load_adapter(encoder: Beit3Encoder, path: Path | str) -> str:
    """Put saved adapters on the encoder; none is switched on.

    Args:
        encoder: with the backbone that they belong to. It gets the task, or, if it has it
            already, the task's weights.
        path: written by `save_adapter`.

    Returns:
        The task.

    Raises:
        ModelFileError: the file is missing, damaged or no adapter, or belongs to another
            backbone. Then the encoder is unchanged.
        ConfigError: the encoder has adapters of other sizes for this task.
    """
    path = Path(path)
    saved = _read(path)
    task: str = saved["task"]
    settings = AdapterSettings(**saved["settings"])
    mine = fingerprint(encoder)
    if saved["backbone"]["sha256"] != mine:
        raise ModelFileError(
            f"adapter {path} belongs to backbone {saved['backbone']['sha256'][:12]} "
            f"({saved['backbone']['sizes']}), this encoder is {mine[:12]} ({_sizes(encoder)})",
            fix="load the backbone it was trained on, with the same windows, or train it again",
        )
    with torch.device("meta"):
        part = MultiWayAdapter(encoder.settings.dim, settings).state_dict()
    want = {f"blocks.{i}.{k}": v for i in range(encoder.settings.depth) for k, v in part.items()}
    if {k: v.shape for k, v in want.items()} != {k: v.shape for k, v in saved["weights"].items()}:
        raise ModelFileError(
            f"adapter {path} has not the weights that its settings promise, {settings}",
            fix="save it again with save_adapter",
        )
    if task not in attached(encoder):
        attach(encoder, [task], settings)
    elif settings_of_task(encoder, task) != settings:
        raise ConfigError(
            f"adapter {path} is {settings}, the encoder's is {settings_of_task(encoder, task)}",
            fix="attach with the file's settings, or load into an encoder without this task",
        )
    own = adapter_state(encoder, task)
    with torch.no_grad():
        for name, value in saved["weights"].items():
            own[name].copy_(value)
    return task


def _read(path: Path) -> dict[str, Any]:
    """A file of `save_adapter`, checked for wholeness."""
    if not path.is_file():
        raise ModelFileError(f"there is no adapter {path}", fix="correct the path")
    try:
        saved: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # whatever a damaged or foreign file makes torch raise
        raise ModelFileError(
            f"{path} can't be read as an adapter: {type(e).__name__}",
            fix="copy it again, or save it again with save_adapter",
        ) from e
    if not isinstance(saved, dict) or saved.get("format") != FORMAT or saved.keys() != _KEYS:
        seen = saved.get("format") if isinstance(saved, dict) else type(saved).__name__
        raise ModelFileError(
            f"{path} is no adapter: its format is {seen!r}, want {FORMAT!r}",
            fix="give a file of save_adapter",
        )
    return saved


def _sizes(encoder: Beit3Encoder) -> str:
    s = encoder.settings
    return (
        f"{s.dim} x {s.depth}, {s.heads} heads, hidden {s.hidden}, patch {s.patch}, grid {s.grid}"
    )
