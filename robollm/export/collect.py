"""From run folders to the parts of one bundle: an encoder, three heads, geometry and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robollm.core.errors import ConfigError
from robollm.export.runs import TASKS, Run, Settings, need_train, read_run
from robollm.runtime.bundle import Canvas

MEAN = STD = 0.5
"""Of channels in [0, 1]: what the training's (x - 127.5) / 127.5 does to bytes."""
_GEOMETRY = ("size", "fit")
_TRAINING_ONLY = ("drop_path", "checkpointing")
_EXPORTED = ("model.", "val_dataloader.dataset.")
"""Parts of a run's config that an export reads."""
_OPTIONS = {
    "data_root": "--data", "split": "--split", "limit": "--totes", "val_picks": "--picks",
    "val_distractors": "--picks",
}  # fmt: skip
"""Keys of datasets that an export sets itself, and the option for it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collected:
    """What a bundle is made of, in torch, ready for `TorchModels`.

    Attributes:
        encoder: `Beit3Encoder` with all adapters; None is switched on.
        detector: `ToteCascadeRCNN`; its backbone is the encoder.
        identification: `IdentificationHead`.
        defects: `DefectHead`.
        adapters: tasks that have adapters in the encoder, in the order of `TASKS`.
        tote: geometry of tote images.
        crop: geometry of crops.
        reference_crop: see `robollm.core.content.WAYS`.
        views: of a pick, if the head takes several.
        frames: of an induct, at most; 1: the head judges single pictures.
        instance_labels: class names of the detector.
        data: task -> config of its validation data.
        trained: False if a run's checkpoint is of step 0.
        runs: for the card's provenance.
    """

    encoder: Any
    detector: Any
    identification: Any
    defects: Any
    adapters: tuple[str, ...]
    tote: Canvas
    crop: Canvas
    reference_crop: str
    views: tuple[str, ...]
    frames: int
    instance_labels: tuple[str, ...]
    data: Mapping[str, Settings]
    trained: bool
    runs: tuple[Mapping[str, Any], ...]

    @property
    def patch(self) -> int:
        """Canvas px per cell of the map."""
        return int(self.encoder.settings.patch)


def collect(runs: Sequence[Path], changes: Sequence[str] = ()) -> Collected:
    """Read run folders and put their parts on one encoder.

    One `multitask` run has everything. Several runs fit together if they were trained on the same
    frozen encoder, with or without adapters of their own.

    Args:
        runs: folders of `robollm train`.
        changes: `KEY=VALUE` for the config of every run that has the key.

    Raises:
        ConfigError: a folder is no run, a task is missing or there twice, the encoders differ,
            the geometries contradict each other, or a change changes nothing.
        ModelFileError: a checkpoint is damaged.
    """
    need_train()
    _check_changes(changes)
    found = [read_run(one, changes) for one in runs]
    _check_changed(found, changes)
    return gather(found)


def gather(found: Sequence[Run]) -> Collected:
    """Put the parts of runs that were read on one encoder.

    Raises:
        ConfigError: see `collect`.
    """
    owner = _owners(found)
    first = found[0]
    for other in found[1:]:
        _compare(first, other)
    _gather_adapters(first.encoder, owner)
    detector = owner["segmentation"].heads["segmentation"]
    _share_encoder(detector, first.encoder)
    data = {task: owner[task].data[task] for task in TASKS}
    patch = first.encoder.settings.patch
    defects, identification = owner["defects"].heads["defects"], owner["identification"].heads
    views = tuple(data["identification"].get("views", ("PickRGB",)))
    from robollm.train.adapters.multiway import attached

    return Collected(
        encoder=first.encoder,
        detector=detector,
        identification=identification["identification"],
        defects=defects,
        adapters=tuple(t for t in TASKS if t in attached(first.encoder)),
        tote=_tote(detector, data["segmentation"], patch),
        crop=_crop(data, patch),
        reference_crop=str(data["identification"].get("reference_crop", "whole")),
        views=views if identification["identification"].views > 1 else (),
        frames=int(data["defects"].get("frames", 1)),
        instance_labels=_instance_labels(detector.classes),
        data=data,
        trained=all(r.step > 0 for r in found),
        runs=tuple(r.about for r in found),
    )


def _check_changes(changes: Sequence[str]) -> None:
    """Refuse changes that would change nothing."""
    for text in changes:
        key = text.partition("=")[0].strip()
        if not key.startswith(_EXPORTED):
            raise ConfigError(
                f"--set {text}: a bundle doesn't depend on {key!r}",
                fix=f"set something in {' or '.join(k.rstrip('.') for k in _EXPORTED)}",
            )
        name = key.rpartition(".")[2]
        if key.startswith("val_") and name in _OPTIONS:
            raise ConfigError(
                f"--set {text}: {_OPTIONS[name]} has the last word on {name!r}",
                fix=f"use {_OPTIONS[name]}",
            )


def _check_changed(runs: Sequence[Run], changes: Sequence[str]) -> None:
    lost = [c for c in changes if not any(c in run.changes for run in runs)]
    if lost:
        names = ", ".join(str(run.folder) for run in runs)
        raise ConfigError(
            f"no config of {names} has the key {lost[0].partition('=')[0].strip()!r}",
            fix="give a key that stands in config.py; dots go down, as in model.type",
        )


def _owners(runs: Sequence[Run]) -> dict[str, Run]:
    """Task -> the run that has its head."""
    owner: dict[str, Run] = {}
    for run in runs:
        for task in run.heads:
            if task in owner:
                raise ConfigError(
                    f"{owner[task].folder} and {run.folder} both trained {task}",
                    fix="leave one of them out",
                )
            owner[task] = run
    lost = [t for t in TASKS if t not in owner]
    if lost:
        have = ", ".join(owner) or "nothing"
        raise ConfigError(
            f"no run trained {' and '.join(lost)}; there is {have}, a bundle needs "
            f"{', '.join(TASKS)}",
            fix="name more runs, trained on the same frozen encoder, or a multitask run",
        )
    return owner


def _compare(one: Run, other: Run) -> None:
    """Refuse two runs whose encoders, adapters aside, are not the same."""
    import torch

    from robollm.train.beit3.checkpoint import encoder_state

    fix = (
        "train one multitask run; or train heads (--set model.frozen=True) or adapters "
        f"(--set model.adapters={{}}) with --init {one.folder}/best.pth"
    )
    mine, theirs = asdict(one.encoder.settings), asdict(other.encoder.settings)
    for name in mine:
        if mine[name] != theirs[name] and name not in _TRAINING_ONLY:
            raise ConfigError(
                f"the encoders differ: {name} is {mine[name]} in {one.folder}, {theirs[name]} in "
                f"{other.folder}",
                fix=fix,
            )
    a, b = encoder_state(one.encoder), encoder_state(other.encoder)
    for name, weight in a.items():
        if not torch.equal(weight, b[name]):
            apart = float((weight - b[name]).abs().max())
            raise ConfigError(
                f"the encoders of {one.folder} and {other.folder} differ, first in {name!r}, by "
                f"up to {apart:.3g}: a bundle has one encoder",
                fix=fix,
            )


def _gather_adapters(encoder: Any, owner: Mapping[str, Run]) -> None:
    """Put each task's adapters on the shared encoder; none is switched on."""
    from robollm.train.adapters.files import adapter_state
    from robollm.train.adapters.multiway import attach, attached, settings_of_task

    for task, run in owner.items():
        theirs = run.encoder
        if theirs is encoder or task not in attached(theirs):
            continue
        attach(encoder, [task], settings_of_task(theirs, task))
        mine = adapter_state(encoder, task)
        for name, value in adapter_state(theirs, task).items():
            mine[name].copy_(value)
    encoder.task = None
    encoder.eval()


def _share_encoder(detector: Any, encoder: Any) -> None:
    """Give the detector the encoder that all heads have; in a multitask run it has it already."""
    if hasattr(detector.backbone, "encoder"):
        detector.backbone.encoder = encoder


def _tote(detector: Any, data: Settings, patch: int) -> Canvas:
    h, w = (int(v) for v in data.get("canvas_hw", (1024, 1024)))
    about = detector.data_preprocessor
    divisor = int(getattr(about, "pad_size_divisor", 1))
    step = max(patch, divisor)
    if h % step or w % step:
        raise ConfigError(
            f"tote images are {w}x{h} px, want sides that {step} divides (patch {patch} px, "
            f"pad_size_divisor {divisor})",
            fix="train or --set such a canvas_hw: MMDetection would pad this one by itself",
        )
    mean, std = (getattr(about, name).flatten().tolist() for name in ("mean", "std"))
    swaps = bool(getattr(about, "_channel_conversion", False))
    if swaps or mean != [255 * MEAN] * 3 or std != [255 * STD] * 3:
        raise ConfigError(
            f"the detector normalises by mean {mean}, std {std}, swapped channels: {swaps}; want "
            f"{255 * MEAN} for all, and RGB, as for the other tasks",
            fix="leave data_preprocessor as in robollm/train/configs",
        )
    return Canvas((h, w), "letterbox")


def _crop(data: Mapping[str, Settings], patch: int) -> Canvas:
    """The one geometry of crops; each dataset's own defaults where its config is silent."""
    found = {}
    for task in ("identification", "defects"):
        settings = {"size": 224, "fit": "stretch", **data[task]}
        found[task] = tuple(settings[k] for k in _GEOMETRY)
    if len(set(found.values())) > 1:
        words = "; ".join(f"{t}: {s} px, {f}" for t, (s, f) in found.items())
        raise ConfigError(
            f"the tasks look at crops differently ({words}), but share a backbone batch",
            fix="train them with the same size and fit",
        )
    size, fit = found["defects"]
    if size % patch:
        raise ConfigError(f"crops are {size} px, want a multiple of the patch, {patch} px")
    return Canvas((int(size), int(size)), str(fit))


def _instance_labels(classes: str) -> tuple[str, ...]:
    """Names by label; agnostic detectors call everything an object, totes included."""
    from robollm.train.detector.totes import CLASSES, class_count

    if class_count(classes) == 1:
        return ("object",)
    names = {label: name for name, label in CLASSES[classes].items()}
    return tuple(names[i] for i in range(class_count(classes)))
