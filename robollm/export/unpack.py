"""The way back: a bundle's weights as a run folder, to train on from it or to export it anew.

No graph is taken apart by hand. A model of the same config is exported four times with marked
weights, which shows where each number of a graph comes from; then the bundle's numbers go back the
same way. So whatever the export writes transposed, joined or scaled, this reads.
"""

from __future__ import annotations

import copy
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from mmengine.config import Config
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from torch import nn

from robollm import __version__
from robollm.core.errors import ConfigError, ModelFileError
from robollm.export.build import build_graphs
from robollm.export.collect import Collected, gather
from robollm.export.half_weights import HALF_NAME, SAME
from robollm.export.runs import BEST, CONFIG, RUN, as_run, build_model
from robollm.export.writer import workplace
from robollm.runtime.bundle import Bundle, load_bundle
from robollm.train import config as cfgs

TASK = "multitask"
STEP = 2048
"""Places are told in two parts, this many to a step: float32 holds neither of millions exactly,
once it is multiplied by a factor."""

Array = NDArray[np.float32]
Key = tuple[str, str]
"""The role of a graph, and the name of a constant in it."""
Constants = dict[Key, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What was written.

    Attributes:
        run: the run folder.
        restored: how many weights have the bundle's numbers.
        numbers: in all of them.
        fresh: weights that a bundle doesn't hold, because only training uses them (an auxiliary
            head, a scale in a loss): as the config begins them.
    """

    run: Path
    restored: int
    numbers: int
    fresh: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Origin:
    """Where a constant's numbers come from; all arrays have its shape.

    Attributes:
        held: bool: it is a weight's number, not one of the graph's own.
        weight: int, which weight.
        place: int, where in the weight, flattened.
        factor: float, what the graph stores it times.
    """

    held: NDArray[np.bool_]
    weight: NDArray[np.int64]
    place: NDArray[np.int64]
    factor: NDArray[np.float64]


def unpack(bundle: Path, out: Path, *, config: str, changes: Sequence[str] = ()) -> Unpacked:
    """Write a run folder whose best checkpoint has a bundle's weights, those of its fp32 graphs.

    `robollm export` and `robollm train evaluate` take the folder, `--set load_from=` its best.pth.
    It has no optimiser's state: training begins anew, with these weights. Exporting it again gives
    the same constants, which is verified before anything is written.

    Args:
        bundle: its folder; of one multitask run.
        out: a folder that isn't there, or is empty.
        config: of that run: a name, a size, or a path ending in .py.
        changes: `KEY=VALUE` that the run made to its config. Those that the export made are known.

    Raises:
        ConfigError: `out` is taken, or the config can't be read or looks at other pictures.
        ModelFileError: the bundle is damaged, or not of this config.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there and not empty", fix="name a new folder")
    source = load_bundle(bundle, allow_untrained=True)
    told = _config(source, config, changes)
    first = copy.deepcopy(told.model)
    for part in cfgs.walk(first):
        part.pop("init_checkpoint", None)  # the bundle's weights come instead
    torch.manual_seed(int(told.get("randomness", {"seed": 0})["seed"]))
    model = build_model(first)
    model.init_weights()
    parts = gather([as_run(out, model.eval(), told, step=1, about={})])
    _check_geometry(parts, source, config)
    restored = _restore(parts, model, read_constants(source.graphs), config)
    run = {"task": TASK, "robollm": __version__, **_record(source, model, told)}
    trained = [int(one.get("step") or 0) for one in source.provenance.get("runs", ())]
    step = max([1, *trained]) if source.trained else 0
    with workplace(out) as place:
        new = place / "new"
        new.mkdir()
        (new / CONFIG).write_text(told.pretty_text, encoding="utf-8")
        (new / RUN).write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
        torch.save({"state_dict": model.state_dict(), "meta": {"iter": step}}, new / BEST)
        new.replace(out)
    named = dict(model.named_parameters())
    return Unpacked(
        run=out,
        restored=len(restored),
        numbers=sum(named[name].numel() for name in restored),
        fresh=tuple(name for name in named if name not in restored),
    )


def read_constants(graphs: Mapping[str, Path]) -> Constants:
    """Every float constant of a bundle's graphs; those stored in half precision as float32."""
    return _constants({role: onnx.load(path) for role, path in graphs.items()})


def _constants(graphs: Mapping[str, onnx.ModelProto]) -> Constants:
    found = {}
    for role, graph in graphs.items():
        for tensor in graph.graph.initializer:
            if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16):
                name = tensor.name.removesuffix(HALF_NAME)
                found[role, name] = numpy_helper.to_array(tensor).astype(np.float32)
    return found


def _config(source: Bundle, name: str, changes: Sequence[str]) -> Config:
    config = cfgs.load(TASK, name, changes)
    for run in source.provenance.get("runs", ()):
        for one in run.get("changes", ()):
            cfgs.change(config, one)
    return config


def _check_geometry(parts: Collected, source: Bundle, config: str) -> None:
    for what, ours, its in (
        ("tote images", parts.tote, source.tote),
        ("crops", parts.crop, source.crop),
    ):
        if ours != its:
            raise ConfigError(
                f"{config} looks at {what} as {ours.hw[1]}x{ours.hw[0]} px, {ours.fit}; bundle "
                f"{source.name!r} as {its.hw[1]}x{its.hw[0]} px, {its.fit}",
                fix="give its own config, and with --set what the run changed in it",
            )


def _restore(parts: Collected, model: nn.Module, wanted: Constants, config: str) -> set[str]:
    """Give the model the bundle's numbers; the names of the weights that got them."""
    names = [name for name, _ in model.named_parameters()]
    weights = [weight for _, weight in model.named_parameters()]
    origins = _origins(parts, weights)
    _check_constants(origins, wanted, config)
    new = [np.full(w.numel(), np.nan) for w in weights]
    table = parts.encoder.pos_embed
    new[next(i for i, w in enumerate(weights) if w is table)][: table.shape[1]] = 0
    for key, origin in origins.items():
        value = wanted[key].astype(np.float64)[origin.held] / origin.factor[origin.held]
        which, place = origin.weight[origin.held], origin.place[origin.held]
        for i in np.unique(which):
            mine = which == i
            new[i][place[mine]] = value[mine]
    written = {i for i, one in enumerate(new) if not np.isnan(one).all()}
    with torch.no_grad():
        for i in written:
            if np.isnan(new[i]).any():
                raise ModelFileError(f"the graphs hold only a part of {names[i]}", fix=_FIX)
            weights[i].copy_(torch.from_numpy(new[i].astype(np.float32)).view_as(weights[i]))
    _verify(_constants(build_graphs(parts)), wanted)
    return {names[i] for i in written}


_FIX = "unpack it with the version of robollm that exported it (`robollm bundle show`)"


def _origins(parts: Collected, weights: Sequence[nn.Parameter]) -> dict[Key, _Origin]:
    """Export with marked weights four times: what changes from mark to mark is a weight's.

    All weights are 1: a graph shows its factors. Each weight is full of its own number: which one
    it is, times the factor. Each weight counts its places, in steps and within a step: where in it,
    times the factor.

    The backbone stores the CLS token plus its position as one constant: the position is held at 0.
    """

    def marked(mark: Callable[[int, nn.Parameter], torch.Tensor]) -> Constants:
        with torch.no_grad():
            for i, weight in enumerate(weights):
                weight.copy_(mark(i, weight))
            parts.encoder.pos_embed[0] = 0
        return _constants(build_graphs(parts))

    ones = marked(lambda i, w: torch.ones_like(w))
    numbers = marked(lambda i, w: torch.full_like(w, i + 2))  # from 2: 1 is the factor's mark
    steps = marked(lambda i, w: (torch.arange(w.numel()) // STEP + 2.0).view_as(w))
    within = marked(lambda i, w: (torch.arange(w.numel()) % STEP + 2.0).view_as(w))
    return {k: _origin(k, ones[k], (numbers[k], steps[k], within[k])) for k in ones}


def _origin(key: Key, ones: Array, marks: Sequence[Array]) -> _Origin:
    held = np.any([ones != mark for mark in marks], axis=0)
    factor = np.where(held, ones, 1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        read = [mark / factor - 2 for mark in marks]
    off = max(float(np.abs(v - np.round(v))[held].max(initial=0)) for v in read)
    if not off < 0.4:  # also if it isn't a number
        raise ModelFileError(f"the export of {key[1]} in {key[0]} isn't linear", fix=_FIX)
    weight, step, rest = (np.where(held, np.round(v), 0).astype(np.int64) for v in read)
    return _Origin(held, weight, step * STEP + rest, factor)


def _check_constants(ours: Mapping[Key, Any], theirs: Constants, config: str) -> None:
    """Refuse a bundle that is not of this config."""
    fix = "give its own config, and with --set what the run changed in it"
    for have, lack, who in ((ours, theirs, "the bundle"), (theirs, ours, config)):
        lost = sorted(set(have) - set(lack))
        if lost:
            role, name = lost[0]
            raise ModelFileError(
                f"{who} has no constant {name!r} in its graph {role!r}, and {len(lost) - 1} more "
                "are missing: the bundle is not of this config",
                fix=f"{fix}; or {_FIX}",
            )
    for (role, name), origin in ours.items():
        shape, want = theirs[role, name].shape, origin.held.shape
        if shape != want:
            raise ModelFileError(
                f"{name!r} in graph {role!r} is {list(shape)}, of {config} it would be "
                f"{list(want)}: the bundle is not of this config",
                fix=fix,
            )


def _verify(ours: Constants, theirs: Constants) -> None:
    for key, value in theirs.items():
        if not np.allclose(ours[key], value, rtol=SAME, atol=0):
            raise ModelFileError(
                f"exported again, {key[1]} in graph {key[0]} has other numbers than the bundle's",
                fix=_FIX,
            )


def _record(source: Bundle, model: nn.Module, config: Config) -> dict[str, Any]:
    """What stands in run.json, beside what every run has."""
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "seed": int(config.get("randomness", {"seed": 0})["seed"]),
        "unpacked_from": {k: getattr(source, k) for k in ("name", "version", "sha256")},
        "starts": [{"command": shlex.join(["robollm", *sys.argv[1:]])}],
    }
