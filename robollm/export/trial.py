"""Variants of a bundle on trial: made, compared with torch, and judged by task metrics."""

from __future__ import annotations

import importlib.util
import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from robollm.core.errors import ConfigError, InferenceError, ModelFileError
from robollm.core.settings import RuntimeConfig
from robollm.export.build import Graphs
from robollm.export.card import Card
from robollm.export.judge import Judge, Verdict
from robollm.export.parity import Distances, Probes, compare
from robollm.export.probes import feeds
from robollm.export.reference import TorchModels
from robollm.export.variants import to_fp16, to_int8_dynamic, to_int8_static
from robollm.export.writer import PART, write_bundle
from robollm.runtime.bundle import PRECISIONS, REFERENCE, Bundle, load_bundle
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.precision import placed, unfit
from robollm.runtime.session import Place

Say = Callable[[str], None]
INT8_ROLES = ("backbone", "rois")
"""Graphs whose linear layers are most of the bytes and of the work."""
_CALIBRATED = "int8-static"
_FOLDERS = rf"\S*{re.escape(PART)}/"
"""What stands before names in the workplace; the card names no folder of this machine."""


@dataclass(slots=True, kw_only=True)
class Tried:
    """What became of a variant.

    Attributes:
        name: one of `PRECISIONS`.
        models: file name -> graph of its own.
        graphs: role -> file, of these.
        where: what it was measured on.
        distances: how far its outputs are from torch's; None if it could not be run.
        verdict: its metrics; None if it could not be run.
        loss: points of 100 lost, by metric.
        refused: why it isn't in the bundle; empty if it is.
    """

    name: str
    models: Graphs = field(default_factory=dict)
    graphs: dict[str, str] = field(default_factory=dict)
    where: str = ""
    distances: Distances | None = None
    verdict: Verdict | None = None
    loss: Mapping[str, float] = field(default_factory=dict)
    refused: str = ""

    def card(self) -> Card:
        """What stands in the card's `variants`."""
        return {
            "graphs": self.graphs,
            "parity": _rounded(self.distances.largest) if self.distances else {},
            "metrics": dict(self.verdict.metrics) if self.verdict else {},
            "loss": dict(self.loss),
            "measured_on": self.where,
        }


def _rounded(values: Mapping[str, float]) -> dict[str, float | None]:
    """For JSON, which knows no infinity: an output of another shape is None."""
    return {k: float(f"{v:.3g}") if math.isfinite(v) else None for k, v in values.items()}


def check_variants(names: Sequence[str]) -> tuple[str, ...]:
    """The variants to make, the reference first.

    Raises:
        ConfigError: a name is unknown, or this machine can't measure it.
    """
    strange = [n for n in names if n not in PRECISIONS]
    if strange or not names:
        raise ConfigError(
            f"there is no variant {strange[0]!r}" if strange else "no variant is asked for",
            fix=f"choose of {', '.join(PRECISIONS)}",
        )
    if "bf16" in names and importlib.util.find_spec("openvino") is None:
        raise ConfigError(
            "bf16 is judged on OpenVINO, which this Python lacks",
            fix='pip install "robollm[openvino]", or leave bf16 out of --variants',
        )
    for name in names:
        if problem := unfit(name):
            raise ConfigError(
                f"{problem}: it can't be judged here",
                fix=f"export on a processor that can, or leave {name} out of --variants",
            )
    return tuple(n for n in PRECISIONS if n in {REFERENCE, *names})


class Trials:
    """Tries variants, the reference first.

    Args:
        torch: the models.
        graphs: role -> model, in fp32.
        card: of the reference alone.
        judge: measures.
        probes: pictures for distances.
        calibration: pictures for int8-static's ranges, of the training split.
        place: folder to work in.
        threads: of a model run; 0: one per core.
        max_loss: points of 100 that a variant may lose in any task.
        pack: makes of a graph the one that is stored; it must compute the same.
        say: takes lines for people.
    """

    def __init__(
        self,
        *,
        torch: TorchModels,
        graphs: Graphs,
        card: Card,
        judge: Judge,
        probes: Callable[[Bundle], Probes],
        calibration: Callable[[Bundle], Probes],
        place: Path,
        threads: int,
        max_loss: float,
        pack: Callable[[onnx.ModelProto], onnx.ModelProto],
        say: Say,
    ) -> None:
        self._torch, self._graphs, self._card, self._judge = torch, graphs, card, judge
        self._calibration, self._place, self._threads = calibration, place, threads
        self._max_loss, self._pack, self._say = max_loss, pack, say
        self._models = {card["graphs"][role]: pack(model) for role, model in graphs.items()}
        write_bundle(place / REFERENCE, self._models, card)
        self._base = load_bundle(place / REFERENCE, allow_untrained=True)
        self.probes = probes(self._base)
        self._reference: Verdict | None = None

    def reference(self) -> Tried:
        """Compare and measure fp32.

        Raises:
            ConfigError: torch finds no instance to compare boxes and masks on.
            ModelFileError: an output is not torch's.
            InferenceError: a graph fails.
        """
        out = Tried(name=REFERENCE, models=self._models)
        self._say("fp32: comparing every output with torch")
        out.distances = self._compare(self._base, Place("cpu", REFERENCE, self._threads))
        out.distances.refuse("fp32")
        if not out.distances.counts["instances"]:
            raise ConfigError(
                f"the detector finds nothing on {out.distances.counts['totes']} totes: no box and "
                "no mask could be compared with torch",
                fix="train it longer, or compare on the other --split",
            )
        out.verdict = self._reference = self._measure(self._base.folder, "cpu", REFERENCE, out)
        return out

    def variant(self, name: str) -> Tried:
        """Make, compare and measure another one; what can't be made or run is refused."""
        assert self._reference is not None
        out = Tried(name=name)
        folder = self._place / name
        try:
            self._make(out)
            provider, precision = self._write(out, folder)
            bundle = load_bundle(folder, allow_untrained=True)
            self._say(f"{name}: comparing every output with torch")
            out.distances = self._compare(bundle, Place(provider, precision, self._threads))
            out.distances.refuse_other_shapes(name)
            out.verdict = self._measure(folder, provider, precision, out)
        except (InferenceError, ModelFileError) as e:
            out.refused = re.sub(_FOLDERS, "", e.what)
        else:
            out.loss = self._reference.loss_of(out.verdict)
            out.refused = refusal(self._reference, out.verdict, self._max_loss)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._say(f"{name}: {'REFUSED: ' + out.refused if out.refused else 'accepted'}")
        return out

    def _make(self, out: Tried) -> None:
        if out.name == "bf16":
            return  # the reference's files, in another arithmetic
        self._say(f"{out.name}: writing the graphs")
        made: Graphs = {}
        if out.name == "fp16":
            made = {role: to_fp16(model) for role, model in self._graphs.items()}
        elif out.name == _CALIBRATED:
            given = feeds(self._base, self._torch, self._calibration(self._base))
            made = {r: to_int8_static(self._graphs[r], given[r]) for r in INT8_ROLES}
        else:
            made = {r: to_int8_dynamic(self._graphs[r]) for r in INT8_ROLES}
        out.graphs = {role: f"{role}.{out.name}.onnx" for role in made}
        out.models = {out.graphs[role]: self._pack(model) for role, model in made.items()}

    def _write(self, out: Tried, folder: Path) -> tuple[str, str]:
        """Write a bundle that has the variant; gives provider and precision to run it in."""
        card: dict[str, Any] = dict(self._card)
        provider = {"bf16": "openvino", "fp16": _gpu()}.get(out.name, "cpu")
        if out.name == "fp16" and provider == "cpu":
            # No product runs half precision on a CPU. Its rounded weights can be judged there, as
            # if they were the reference's; its arithmetic can't.
            write_bundle(folder, out.models, {**card, "graphs": {**out.graphs}})
            return "cpu", REFERENCE
        card["variants"] = {REFERENCE: {}, out.name: {"graphs": out.graphs}}
        write_bundle(folder, {**self._models, **out.models}, card)
        return provider, out.name

    def _compare(self, bundle: Bundle, place: Place) -> Distances:
        where = {role: placed(bundle, role, place) for role in bundle.graphs}
        return compare(self._torch, where, self.probes, proposals=bundle.proposals)

    def _measure(self, folder: Path, provider: str, precision: str, out: Tried) -> Verdict:
        config = RuntimeConfig(
            bundle=str(folder), provider=provider, precision=precision,
            threads=self._threads, allow_untrained=True,
        )  # fmt: skip
        perceiver = Perceiver(config)
        out.where = perceiver.backbone.where
        if out.name == "fp16" and provider == "cpu":
            out.where += ", half-precision weights in fp32 arithmetic"
        return self._judge.measure(perceiver, out.name)


def refusal(reference: Verdict, variant: Verdict, max_loss: float) -> str:
    """Why a variant with these metrics is left out; empty if it isn't.

    A mean over classes can rise while one defect is missed more often, and a split without a
    defect shows nothing of it. So each defect's recall counts for itself, too, where one sample may
    be lost even if that is more than `max_loss`: a class has few samples.

    Args:
        reference: of fp32.
        variant: its own.
        max_loss: points of 100 that it may lose in any task; from 100 on all are accepted.
    """
    if max_loss >= 100:
        return ""
    cases = reference.cases
    if lacking := sorted(name for name, n in cases.items() if not n):
        return (
            f"no sample to measure {', '.join(lacking)} on: what the variant loses there isn't "
            "known; judge on a split that has them"
        )
    loss = reference.loss_of(variant)
    most = {k: max(max_loss, round(100 / cases[k], 3)) if k in cases else max_loss for k in loss}
    # a metric that is not a number is no reason to accept
    over = {k: math.inf if math.isnan(v) else v - most[k] for k, v in loss.items()}
    worst = max(over, key=lambda k: over[k])
    if over[worst] > 0:
        return (
            f"{worst} lost {loss[worst]:g} points, at most {most[worst]:g} are allowed "
            f"({variant.metrics[worst]:.4f} instead of {reference.metrics[worst]:.4f})"
        )
    tasks = {k: v for k, v in reference.metrics.items() if k not in cases}
    least = min(tasks, key=lambda k: tasks[k])
    if 100 * tasks[least] <= max_loss:
        return (
            f"{least} of fp32 is {tasks[least]:.4f}: a variant that finds nothing "
            f"would lose no more than the {max_loss:g} points that are allowed"
        )
    return ""


def _gpu() -> str:
    """CUDA where there is one, else the CPU."""
    import onnxruntime

    return "cuda" if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else "cpu"
