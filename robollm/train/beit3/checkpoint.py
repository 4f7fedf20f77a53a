"""Vision weights out of published BEiT-3 checkpoints, and of our own runs."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from robollm.core.errors import ModelFileError
from robollm.train.beit3.names import (
    HEADS,
    PUBLISHED_FIRST_ROW,
    PUBLISHED_POSITIONS,
    depth_of,
    needed,
    published_name,
    reason_to_drop,
    vision_name,
)
from robollm.train.beit3.positions import grid_of, resize_positions

if TYPE_CHECKING:
    from robollm.train.beit3.encoder import Beit3Encoder

State = dict[str, Tensor]

_WRAPPERS = ("model", "module", "state_dict")
_HEADS_WITHOUT_NORM = ("head.", "fc_norm.", "pooler.")
"""The authors' classifiers and answerers do without the encoder's last LayerNorm."""
_OWN_PREFIXES = ("", "encoder.", "backbone.encoder.")


@dataclass(frozen=True, slots=True)
class VisionWeights:
    """What a checkpoint gives to the vision encoder.

    Attributes:
        weights: float32, named as in `Beit3Encoder.state_dict()`, for the file's own grid.
        dropped: names in the file that were not taken, by reason.
        notes: what was changed on the way.
    """

    weights: State
    dropped: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]

    @property
    def size(self) -> dict[str, int]:
        """Names as in `EncoderSettings`: dim, depth, hidden, patch."""
        dim, _, patch, _ = self.weights["patch_embed.weight"].shape
        hidden = len(self.weights["blocks.0.mlp.fc1.weight"])
        return {"dim": dim, "depth": depth_of(self.weights), "hidden": hidden, "patch": patch}


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What `load_into` did; `str()` of it is for people.

    Attributes:
        path: the file.
        loaded: number of weights taken.
        dropped: see `VisionWeights`.
        notes: see `VisionWeights`; a resized position table is among them.
    """

    path: Path
    loaded: int
    dropped: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.loaded} encoder weights loaded"]
        lines += [f"  {note}" for note in self.notes]
        for reason, names in self.dropped.items():
            few = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
            lines.append(f"  dropped, {reason}: {len(names)} ({few})")
        return "\n".join(lines)


def encoder_state(encoder: Beit3Encoder) -> State:
    """The encoder's own weights, by name, without any adapters: what its ONNX graph is made of."""
    return {k: v for k, v in encoder.state_dict().items() if ".adapters." not in k}


def load_into(encoder: Beit3Encoder, path: Path | str) -> LoadReport:
    """Load a checkpoint's vision weights; adapters and everything else stay as they are.

    Args:
        encoder: gets the weights. A position table of another grid is resized to its own.
        path: see `read_checkpoint`.

    Raises:
        ModelFileError: as `read_checkpoint`, or the file is of another size. Then the encoder
            is unchanged.
    """
    path = Path(path)
    read = read_checkpoint(path)
    size = {name: getattr(encoder.settings, name) for name in read.size}
    if size != read.size:
        raise ModelFileError(
            f"{path} holds an encoder of {_words(read.size)}; this one is of {_words(size)}",
            fix="choose the encoder's variant after the file",
        )
    weights, notes = dict(read.weights), list(read.notes)
    table, grid = weights["pos_embed"], encoder.settings.grid
    if grid_of(table) != grid:
        weights["pos_embed"] = resize_positions(table, grid, grid)
        notes.append(f"positions resized from {grid_of(table)}x{grid_of(table)} to {grid}x{grid}")
    own = encoder_state(encoder)
    wrong = sorted(k for k, v in weights.items() if v.shape != own[k].shape)
    if wrong:
        raise ModelFileError(
            f"{path}: {len(wrong)} weights have odd shapes, first {wrong[0]!r}: "
            f"{tuple(weights[wrong[0]].shape)}, want {tuple(own[wrong[0]].shape)}",
            fix="download the file again",
        )
    encoder.load_state_dict(weights, strict=False)  # the names are complete; adapters aren't there
    return LoadReport(path, len(weights), read.dropped, tuple(notes))


def read_checkpoint(path: Path | str) -> VisionWeights:
    """Read the vision weights of a checkpoint.

    Known are the published files of BEiT-3 (pre-trained, -itc, -indomain, and fine-tuned ones),
    what the authors' scripts save, and checkpoints of our own runs. Only tensors and plain
    values are unpickled: a file can't run code.

    Args:
        path: the file. The weights may lie in `model`, `module` or `state_dict`, or at the top;
            published names may begin with `beit3.`, our own with `encoder.` or
            `backbone.encoder.`.

    Raises:
        ModelFileError: the file is missing, damaged or unsafe, is not of BEiT-3, misses weights
            or has some that are not finite.
    """
    path = Path(path)
    state = _state(path)
    for prefix in _OWN_PREFIXES:
        if f"{prefix}patch_embed.weight" in state and f"{prefix}pos_embed" in state:
            weights, dropped = _own(state, prefix)
            _check_names(path, state, {k: k for k in needed(_depth(weights))}, weights)
            return _checked(path, weights, dropped, [])
    return _published(path, state)


def _state(path: Path) -> State:
    """The tensors of a file, by name, however it wraps them."""
    if not path.is_file():
        raise ModelFileError(f"there is no checkpoint {path}", fix="correct the path")
    try:
        # the authors' scripts put their command line beside the weights: plain values
        with torch.serialization.safe_globals([argparse.Namespace]):
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise ModelFileError(
            f"{path} is no checkpoint, or holds more than tensors and plain values: {_first(e)}",
            fix="use the published file, or save its state_dict() alone",
        ) from e
    except Exception as e:  # whatever a damaged archive makes torch raise
        raise ModelFileError(
            f"{path} can't be read: {type(e).__name__}: {_first(e)}",
            fix="the file may be truncated: download or copy it again",
        ) from e
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise ModelFileError(
            f"{path} holds a {type(content).__name__}, want weights by name",
            fix="give a BEiT-3 checkpoint",
        )
    return {str(k): v for k, v in content.items() if isinstance(v, Tensor)}


def _own(state: State, prefix: str) -> tuple[State, dict[str, list[str]]]:
    """The encoder's weights from a checkpoint of ours."""
    weights: State = {}
    dropped: dict[str, list[str]] = {}
    for key, value in state.items():
        if not key.startswith(prefix):
            reason = "not of the encoder"
        elif ".adapters." in key:
            reason = "adapters"
        else:
            weights[key.removeprefix(prefix)] = value
            continue
        dropped.setdefault(reason, []).append(key)
    return weights, dropped


def _published(path: Path, state: State) -> VisionWeights:
    """The encoder's weights from a published file."""
    weights: State = {}
    dropped: dict[str, list[str]] = {}
    notes = []
    for key, value in state.items():
        name = key.removeprefix("beit3.")
        ours = vision_name(name)
        if ours is not None:
            weights[ours] = value[PUBLISHED_FIRST_ROW:] if name == PUBLISHED_POSITIONS else value
            continue
        reason = reason_to_drop(name)
        if reason is None:
            raise ModelFileError(
                f"{path}: the vision branch has a weight {key!r} that this encoder doesn't know",
                fix="give a BEiT-3 checkpoint of Base or Large with patch 16",
            )
        dropped.setdefault(reason, []).append(key)
    like = weights.get("blocks.0.norm1.weight")
    tuned = any(head.startswith(_HEADS_WITHOUT_NORM) for head in dropped.get(HEADS, ()))
    if tuned and like is not None and not {"norm.weight", "norm.bias"} & weights.keys():
        weights["norm.weight"], weights["norm.bias"] = torch.ones_like(like), torch.zeros_like(like)
        notes.append(
            "no last LayerNorm, as in all files fine-tuned for classification or questions: "
            "it starts as 1 and 0"
        )
    _check_names(path, state, {published_name(k): k for k in needed(_depth(weights))}, weights)
    return _checked(path, weights, dropped, notes)


def _depth(weights: State) -> int:
    return max(1, depth_of(weights))


def _check_names(path: Path, state: State, want: dict[str, str], weights: State) -> None:
    """Refuse an encoder that is not whole, in the words of the file.

    Args:
        path: for the message.
        state: what the file holds.
        want: the file's name of each weight that is needed -> our name.
        weights: what was found, by our name.
    """
    missing = sorted(theirs for theirs, ours in want.items() if ours not in weights)
    if missing:
        raise ModelFileError(
            f"{path} is not a whole BEiT-3 vision encoder: {len(missing)} weights are missing, "
            f"such as {', '.join(map(repr, missing[:3]))}; it has "
            f"{', '.join(map(repr, list(state)[:3])) or 'none at all'}",
            fix="give a published BEiT-3 file (beit3_base_*.pth, beit3_large_*.pth) or one of ours",
        )
    extra = sorted(weights.keys() - set(want.values()))
    if extra:
        raise ModelFileError(
            f"{path}: the encoder has a weight {extra[0]!r} that this one doesn't know",
            fix="it may come from a newer robollm: update this one",
        )


def _checked(
    path: Path, weights: State, dropped: dict[str, list[str]], notes: list[str]
) -> VisionWeights:
    """Refuse odd shapes and what is not finite; turn everything into float32."""
    shape, table = weights["patch_embed.weight"].shape, weights["pos_embed"]
    square = table.ndim == 2 and len(table) > 1 and len(table) == 1 + grid_of(table) ** 2
    if len(shape) != 4 or not square:
        raise ModelFileError(
            f"{path}: patch embedding {tuple(shape)} and positions {tuple(table.shape)}, want "
            "(C, 3, P, P) and CLS with a square of patches",
            fix="download the file again",
        )
    bad = sorted(k for k, v in weights.items() if not v.isfinite().all())
    if bad:
        raise ModelFileError(
            f"{path}: {len(bad)} weights are not finite, first {bad[0]!r}",
            fix="take an earlier checkpoint",
        )
    kinds = sorted({str(v.dtype).removeprefix("torch.") for v in weights.values()} - {"float32"})
    if kinds:
        notes = [*notes, f"{', '.join(kinds)} weights became float32"]
    return VisionWeights(
        {k: v.to(torch.float32) for k, v in weights.items()},
        {reason: tuple(names) for reason, names in sorted(dropped.items())},
        tuple(notes),
    )


def _words(size: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in size.items())


def _first(error: Exception) -> str:
    """The first line of a message of torch, which can be a page."""
    return str(error).strip().split("\n", 1)[0]
