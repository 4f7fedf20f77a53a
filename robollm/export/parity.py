"""Torch and ONNX side by side on the same pictures, output by output, with a limit for each.

Every graph is fed with what torch made of the step before, so that the output that is named is of
the graph that is wrong. At last the whole chain runs, from the picture to instances, embeddings and
logits. Where suppression makes near-ties fall either way, what is compared doesn't depend on it:
each instance must be what MMDetection makes of one of the candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ModelFileError
from robollm.export.cascade_rules import levels_used
from robollm.export.parity_rois import check_candidates, check_instances, share_lost
from robollm.export.reference import Array, TorchModels
from robollm.runtime.session import Place, Session


class Limit(NamedTuple):
    """How far an output may be from torch's.

    Attributes:
        most: the limit.
        unit: what it is counted in.
    """

    most: float
    unit: str


_RANGE, _PX, _COSINE, _SHARE = "of the range of torch's", "canvas px", "1 - cosine", "share"
LIMITS: dict[str, Limit] = {
    "backbone.map": Limit(1e-4, _RANGE),
    "backbone.cls": Limit(1e-4, _RANGE),
    "proposals.levels": Limit(1e-4, _RANGE),
    "proposals.candidates": Limit(0.02, _PX),
    "proposals.candidate_scores": Limit(1e-4, "probability"),
    "rois.boxes": Limit(0.02, _PX),
    "rois.scores": Limit(1e-4, "probability"),
    "rois.masks": Limit(1e-4, "probability"),
    "identification.embedding": Limit(1e-9, _COSINE),
    "identification.features": Limit(1e-4, _RANGE),
    "fusion.embedding": Limit(1e-9, _COSINE),
    "defects.logits": Limit(1e-4, "logit"),
    "defects.features": Limit(1e-4, _RANGE),
    "defects_sequence.logits": Limit(1e-4, "logit"),
    "regions.map": Limit(1e-4, _RANGE),
    "regions.cls": Limit(1e-4, _RANGE),
    "chain.instances": Limit(0.05, _SHARE + " of instances that the other one lacks"),
    "chain.embedding": Limit(1e-8, _COSINE),
    "chain.logits": Limit(1e-3, "logit"),
}
"""Of fp32. Twenty times and more of what good exports show (docs/export.md has both)."""
_CHAIN = "chain."
Placed = Mapping[str, tuple[Path, Place]]


@dataclass(frozen=True, slots=True, eq=False)
class Probes:
    """Pictures to compare on, as the models see them.

    Attributes:
        totes: each (1, 3, H, W) float32.
        crops: (N, 3, S, S) float32.
    """

    totes: Sequence[Array]
    crops: Array


@dataclass(slots=True)
class Distances:
    """The largest distance of every output.

    Attributes:
        largest: output -> distance, in the unit of its limit.
        counts: what was compared: `totes`, `crops`, `instances`.
    """

    largest: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        """Keep a distance if it is the largest so far; not a number counts as infinite."""
        value = math.inf if math.isnan(value) else float(value)
        self.largest[name] = max(value, self.largest.get(name, 0.0))

    def excess(self) -> list[tuple[str, float]]:
        """Outputs beyond their limit with how many times, the worst first; graphs before chain."""
        over = [(n, d / LIMITS[n].most) for n, d in self.largest.items() if d > LIMITS[n].most]
        return sorted(over, key=lambda one: (one[0].startswith(_CHAIN), -one[1]))

    def refuse_other_shapes(self, what: str) -> None:
        """Raise if any output has not the shape of torch's, whatever its limit.

        Raises:
            ModelFileError: names them.
        """
        odd = [name for name, distance in self.largest.items() if math.isinf(distance)]
        if odd:
            raise ModelFileError(
                f"{what}: {', '.join(odd)} differ from torch's in shape or number",
                fix="report this with the run's config.py: graph and model disagree",
            )

    def refuse(self, what: str) -> None:
        """Raise if any output is beyond its limit.

        Raises:
            ModelFileError: names the worst output and how far it is off.
        """
        over = self.excess()
        if not over:
            return
        name, times = over[0]
        limit = LIMITS[name]
        more = f", and {len(over) - 1} more outputs are off" if len(over) > 1 else ""
        raise ModelFileError(
            f"{what}: {name} is {self.largest[name]:.3g} ({limit.unit}) from torch, "
            f"{times:.3g} times the limit of {limit.most:g}{more}; nothing was written",
            fix="report this with the run's config.py: graph and model disagree",
        )


def compare(
    torch: TorchModels,
    graphs: Placed,
    probes: Probes,
    *,
    proposals: int,
    say: Callable[[str], None] = lambda text: None,
) -> Distances:
    """Measure how far the graphs are from torch, on real pictures.

    Args:
        torch: the models.
        graphs: role -> file, and where it runs.
        probes: the pictures.
        proposals: boxes that go to the RoI heads.
        say: takes a line per step.

    Raises:
        InferenceError: if a graph fails, or gives what is not finite.
        ModelFileError: if a graph can't be loaded, or gives another number of levels.
    """
    open_ = _Graphs(graphs)
    found = Distances(counts={"totes": len(probes.totes), "crops": len(probes.crops)})
    say("backbone")
    _backbone(torch, open_, probes, found)
    say("detector")
    _detector(torch, open_, probes, proposals, found)
    say("heads")
    _heads(torch, open_, probes.crops, found)
    return found


_IO: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "backbone": (("image", "task"), ("map", "cls")),
    "proposals": (
        ("map",), ("levels.*", "candidates", "candidate_scores", "candidate_levels")
    ),
    "rois": (
        (
            "levels.*", "candidates", "candidate_scores", "candidate_levels",
            "proposals", "score_min",
        ),
        ("boxes", "scores", "labels", "masks"),
    ),
    "identification": (("map", "cls"), ("embedding",)),
    "fusion": (("features", "present"), ("embedding",)),
    "defects": (("map",), ("logits",)),
    "defects_sequence": (("features", "present", "reference", "has_reference"), ("logits",)),
    "regions": (("map", "boxes"), ("maps", "cls")),
}  # fmt: skip


def open_session(role: str, path: Path, place: Place, *, features: bool = False) -> Session:
    """A graph of a bundle with all of its outputs.

    Args:
        role: which graph.
        path: its file.
        place: where it runs.
        features: whether it gives `features`, too.
    """
    inputs, outputs = _IO[role]
    outputs = (*outputs, "features") if features else outputs
    return Session(path, place, inputs=inputs, outputs=outputs)


class _Graphs:
    """Sessions of a bundle's graphs."""

    def __init__(self, graphs: Placed) -> None:
        self.roles = tuple(graphs)
        also = {"identification": "fusion", "defects": "defects_sequence"}
        self._sessions = {
            role: open_session(role, path, place, features=also.get(role) in graphs)
            for role, (path, place) in graphs.items()
        }

    def run(self, role: str, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Outputs by name."""
        session = self._sessions[role]
        return dict(zip(session.outputs, session.run(inputs), strict=True))

    def encode(self, images: Array, codes: Sequence[int]) -> tuple[Array, Array]:
        """The backbone; `codes` are the rows' tasks, which a graph without adapters has not."""
        tasks = np.array(codes, np.int64)
        given = {"task": tasks} if "task" in self._sessions["backbone"].inputs else {}
        found = self.run("backbone", image=images, **given)
        return found["map"], found["cls"]


def apart(value: NDArray[Any], want: NDArray[Any]) -> float:
    """The largest difference as a share of the range of `want`; infinite for other shapes."""
    if value.shape != want.shape:
        return math.inf
    if not want.size:
        return 0.0
    spread = max(float(want.max() - want.min()), 1e-6)
    return float(np.abs(value - want).max()) / spread


def _turned(value: Array, want: Array) -> float:
    """The largest 1 - cosine between rows; in float64, where 1e-8 can be told from 0."""
    if value.shape != want.shape:
        return math.inf
    a, b = value.astype(np.float64), want.astype(np.float64)
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float((1 - (a * b).sum(1) / np.maximum(length, 1e-12)).max(initial=0.0))


def _off(value: Array, want: Array) -> float:
    if value.shape != want.shape:
        return math.inf
    return float(np.abs(value - want).max(initial=0.0))


def _code(torch: TorchModels, task: str) -> int:
    """What the backbone's input `task` says for a task."""
    adapters = torch.parts.adapters
    return adapters.index(task) + 1 if task in adapters else 0


def _backbone(torch: TorchModels, graphs: _Graphs, probes: Probes, out: Distances) -> None:
    def note(images: Array, tasks: Sequence[str]) -> None:
        wants = [torch.encode(images[i : i + 1], t) for i, t in enumerate(tasks)]
        grid, cls = graphs.encode(images, [_code(torch, t) for t in tasks])
        out.note("backbone.map", apart(grid, np.concatenate([w[0] for w in wants])))
        out.note("backbone.cls", apart(cls, np.concatenate([w[1] for w in wants])))

    for tote in probes.totes:
        note(tote, ["segmentation"])
    tasks = ("identification", "defects", "segmentation")
    for first in range(0, len(probes.crops), 8):  # rows of different tasks in one batch
        some = probes.crops[first : first + 8]
        note(some, [tasks[i % 3] for i in range(len(some))])


def _detector(
    torch: TorchModels, graphs: _Graphs, probes: Probes, proposals: int, out: Distances
) -> None:
    limits: dict[str, NDArray[Any]] = {
        "proposals": np.array([proposals], np.int64),
        "score_min": np.zeros(1, np.float32),
    }
    lost = total = 0
    for tote in probes.totes:
        grid, _ = torch.encode(tote, "segmentation")
        levels = torch.levels(grid)
        made = graphs.run("proposals", map=grid)
        pyramid = [made[k] for k in made if k.startswith("levels.")]
        if len(pyramid) != (used := levels_used(torch.detector)):  # torch may have coarser ones
            raise ModelFileError(
                f"proposals gives {len(pyramid)} levels of the pyramid, RoIs are taken from {used}",
                fix="report this with the run's config.py: graph and model disagree",
            )
        for value, want in zip(pyramid, levels[:used], strict=True):
            out.note("proposals.levels", apart(value, want))
        check_candidates(torch, levels, made, out.note, LIMITS["proposals.candidate_scores"].most)
        given = {**made, **{f"levels.{i}": levels[i] for i in range(len(pyramid))}}
        found = graphs.run("rois", **given, **limits)
        check_instances(torch, levels, made, found, proposals, out.note)
        own, _ = graphs.encode(tote, [_code(torch, "segmentation")])
        chain = graphs.run("rois", **graphs.run("proposals", map=own), **limits)
        a, b = share_lost(torch.segment(tote), chain)
        lost, total = lost + a, total + b
        if "regions" in graphs.roles:
            boxes = np.ascontiguousarray(found["boxes"][:16])
            part = graphs.run("regions", map=grid, boxes=boxes)
            want = torch.regions(grid, boxes)
            out.note("regions.map", apart(part["maps"], want))
            out.note("regions.cls", apart(part["cls"], want.mean((2, 3))))
    out.counts["instances"] = total
    out.note("chain.instances", lost / total if total else 0.0)


def _heads(torch: TorchModels, graphs: _Graphs, crops: Array, out: Distances) -> None:
    grid, cls = torch.encode(crops, "identification")
    embedding = torch.embed(crops)
    found = graphs.run("identification", map=grid, cls=cls)
    out.note("identification.embedding", _turned(found["embedding"], embedding))
    own = graphs.encode(crops, [_code(torch, "identification")] * len(crops))
    chain = graphs.run("identification", map=own[0], cls=own[1])
    out.note("chain.embedding", _turned(chain["embedding"], embedding))
    if "fusion" in graphs.roles:
        pooled = torch.pooled(crops)
        out.note("identification.features", apart(found["features"], pooled))
        views, present = _groups(pooled, len(torch.parts.views))
        fused = graphs.run("fusion", features=views, present=present.astype(np.float32))
        out.note("fusion.embedding", _turned(fused["embedding"], torch.fuse(views, present)))
    grid, _ = torch.encode(crops, "defects")
    logits = torch.inspect(crops)
    found = graphs.run("defects", map=grid)
    out.note("defects.logits", _off(found["logits"], logits))
    own = graphs.encode(crops, [_code(torch, "defects")] * len(crops))
    out.note("chain.logits", _off(graphs.run("defects", map=own[0])["logits"], logits))
    if "defects_sequence" in graphs.roles:
        pooled = torch.normed(crops)
        out.note("defects.features", apart(found["features"], pooled))
        frames, present = _groups(pooled, max(2, torch.parts.frames))
        pictures, _ = _groups(crops, max(2, torch.parts.frames))
        has = np.arange(len(frames)) % 2 == 0
        counted = {"present": present.astype(np.float32), "has_reference": has.astype(np.float32)}
        given = {"features": frames, "reference": pooled[: len(frames)], **counted}
        value = graphs.run("defects_sequence", **given)["logits"]
        want = torch.inspect_sequences(pictures, present, crops[: len(frames)], has)
        out.note("defects_sequence.logits", _off(value, want))


def _groups(rows: Array, size: int) -> tuple[Array, NDArray[np.bool_]]:
    """Rows in overlapping groups of `size`, and which count: all, one, and patterns between."""
    index = (np.arange(len(rows))[:, None] + np.arange(size)) % len(rows)
    pattern = np.arange(len(rows)) % (2**size - 1) + 1
    present = (pattern[:, None] >> np.arange(size)) & 1 == 1
    return np.ascontiguousarray(rows[index]), present
