"""Engines from the graphs of a bundle: which ones, of which shapes, by which commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from robollm.core.errors import ModelFileError
from robollm.export.tensorrt.coverage import Finding, check
from robollm.export.tensorrt.quantised import has_unsigned, signed
from robollm.export.tensorrt.static import fix_shapes
from robollm.runtime.bundle import Bundle
from robollm.runtime.shapes import Profile, backbone_profiles

TRUNK = ("backbone", "proposals")
"""What takes the time, and what the runtime gives to TensorRT."""
HEADS = ("identification", "fusion", "defects", "defects_sequence")
"""Small; the runtime leaves them to CUDA. With these a program that speaks TensorRT only has all
but `rois` and `regions`, whose shapes depend on how many boxes there are."""
VARIANTS = {"fp32": "fp32", "fp16": "fp16", "int8": "int8-static"}
"""Precision -> variant of the bundle. TensorRT 11 knows no flag for a precision: types are what
the file says."""
SEVERAL = (1, 3, 8)  # axes V and T (views, looks of a sequence) where no card says how many
SCRIPT = "build_engines.sh"
_Sizes = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine to build.

    Attributes:
        name: of the engine's file, without suffix.
        role: the graph.
        source: the .onnx file's name.
        graph: what to write under that name beside the engines; None if `source` is the bundle's
            own file.
        profiles: ranges of shapes, by name; none if all inputs are static.
    """

    name: str
    role: str
    source: str
    graph: onnx.ModelProto | None
    profiles: Mapping[str, Profile]

    def options(self) -> list[str]:
        """What trtexec is told, but for the files."""
        # No-op since TensorRT 11; in 10.x it keeps the types of the file.
        options = ["--stronglyTyped", "--skipInference"]
        for i, profile in enumerate(self.profiles.values()):
            options += [f"--profile={i}"] if len(self.profiles) > 1 else []
            options += [
                f"--{end}Shapes={shapes_text(profile, which)}"
                for which, end in enumerate(("min", "opt", "max"))
            ]
        return options

    def command(self, bundle: Path, out: Path) -> list[str]:
        """The program and its arguments."""
        folder = bundle if self.graph is None else out
        return [
            "trtexec",
            f"--onnx={folder / self.source}",
            f"--saveEngine={out / self.name}.engine",
            f"--timingCacheFile={out / 'timing.cache'}",
            *self.options(),
        ]


@dataclass(frozen=True, slots=True)
class Plan:
    """Engines of a bundle, and what stands against them.

    Attributes:
        engines: in the order in which they are to be built.
        findings: role -> what TensorRT doesn't take of its graph; such a graph gets no engine.
    """

    engines: Sequence[Engine]
    findings: Mapping[str, Sequence[Finding]]

    def script(self, bundle: Path, title: str) -> str:
        """A shell script that builds the engines beside itself.

        Args:
            bundle: where the bundle lies unless the script's argument says otherwise.
            title: of the bundle.
        """
        lines = [
            "#!/bin/sh",
            f"# Engines of {' '.join(title.split())}. Argument: the bundle's folder.",
            "set -eu",
            f"bundle=${{1:-{shlex.quote(str(bundle))}}}",
            'here=$(cd "$(dirname "$0")" && pwd)',
        ]
        for engine in self.engines:
            folder = "$bundle" if engine.graph is None else "$here"
            lines.append(
                f'trtexec --onnx="{folder}"/{shlex.quote(engine.source)}'
                f' --saveEngine="$here"/{engine.name}.engine'
                f' --timingCacheFile="$here"/timing.cache {shlex.join(engine.options())}'
            )
        return "\n".join(lines) + "\n"


def plan(
    bundle: Bundle,
    precision: str,
    *,
    batch_max: int = 16,
    totes: int = 1,
    static: bool = False,
) -> Plan:
    """Decide on engines, and check every graph against TensorRT's operator list.

    The backbone gets one engine with two profiles, the proposals one without dynamic shapes.

    Args:
        bundle: the bundle.
        precision: a key of `VARIANTS`.
        batch_max: crops in a batch, at most.
        totes: tote images in a batch, at most.
        static: give tote images an engine of their own, from a graph without shape arithmetic;
            the weights are then on the GPU twice.

    Raises:
        ModelFileError: the bundle hasn't got the precision, or a graph has an axis that no
            version of robollm writes.
        ConfigError: batch_max or totes is below 1.
    """
    graphs = bundle.variant(VARIANTS[precision]).graphs
    engines: list[Engine] = []
    findings: dict[str, list[Finding]] = {}
    for role in (*TRUNK, *(r for r in graphs if r not in TRUNK)):
        model = onnx.load(graphs[role])
        changed = precision == "int8" and has_unsigned(model)
        model = signed(model) if changed else model
        if role not in (*TRUNK, *HEADS):
            findings[role] = check(model)
            continue
        profiles = _profiles(bundle, role, model, batch_max, totes)
        found: list[Finding] = []
        for profile in profiles.values() or [{}]:
            usual = {name: shapes[1] for name, shapes in profile.items()}
            found += [f for f in check(model, usual) if f not in found]
        findings[role] = found
        if not found:
            file = "" if changed else graphs[role].name
            engines += _engines(f"{role}-{precision}", role, file, model, profiles, static)
    return Plan(engines, findings)


def shapes_text(profile: Profile, which: int) -> str:
    """One end of a range as trtexec reads it: `image:1x3x224x224,task:1`."""
    return ",".join(f"{name}:{'x'.join(map(str, s[which]))}" for name, s in profile.items())


def write_script(plan: Plan, bundle: Bundle, out: Path) -> Path:
    """Write the script, and the static graphs that it names; give the script's path.

    Raises:
        ModelFileError: `out` can't be written.
    """
    path = out / SCRIPT
    try:
        out.mkdir(parents=True, exist_ok=True)
        for engine in plan.engines:
            if engine.graph is not None:
                data = engine.graph.SerializeToString(deterministic=True)
                (out / engine.source).write_bytes(data)
        path.write_text(plan.script(bundle.folder.resolve(), bundle.title), encoding="utf-8")
        path.chmod(0o755)
    except OSError as e:
        raise ModelFileError(f"{out} can't be written: {e}", fix="name another --out") from e
    return path


def _engines(
    name: str,
    role: str,
    file: str,
    model: onnx.ModelProto,
    profiles: Mapping[str, Profile],
    static: bool,
) -> Iterable[Engine]:
    """The engines of one graph; `file` is empty if the model is not as the bundle has it."""
    pinned = [key for key in profiles if role == "proposals" or (static and key == "tote")]
    for key in pinned:
        usual = {k: shapes[1] for k, shapes in profiles[key].items()}
        yield Engine(f"{name}-{key}", role, f"{name}-{key}.onnx", fix_shapes(model, usual), {})
    rest = {key: profile for key, profile in profiles.items() if key not in pinned}
    if rest or not pinned:
        yield Engine(name, role, file or f"{name}.onnx", None if file else model, rest)


def _profiles(
    bundle: Bundle, role: str, model: onnx.ModelProto, batch_max: int, totes: int
) -> dict[str, Profile]:
    """The ranges of a graph's dynamic inputs, by what they are for."""
    if role == "backbone":
        return backbone_profiles(bundle, batch_max=batch_max, totes=totes)
    dims = {v.name: v.type.tensor_type.shape.dim for v in model.graph.input}
    dynamic = {k: v for k, v in dims.items() if any(not d.HasField("dim_value") for d in v)}
    if not dynamic:
        return {}
    hw = bundle.tote.hw if role == "proposals" else bundle.crop.hw
    views = (len(bundle.views),) * 3 if bundle.views else SEVERAL
    axes: dict[str, _Sizes] = {"N": (1, batch_max, batch_max), "V": views, "T": SEVERAL}
    axes |= {k: (side // bundle.patch,) * 3 for k, side in zip("hw", hw, strict=True)}

    def sizes(name: str, which: int) -> tuple[int, ...]:
        unknown = [
            d.dim_param or "?"
            for d in dynamic[name]
            if not d.HasField("dim_value") and d.dim_param not in axes
        ]
        if unknown:
            raise ModelFileError(
                f"input {name!r} of graph {role!r} has axes {', '.join(unknown)}, want "
                f"{', '.join(axes)}",
                fix="export the bundle again with this version of robollm",
            )
        return tuple(
            d.dim_value if d.HasField("dim_value") else axes[d.dim_param][which]
            for d in dynamic[name]
        )

    return {
        "tote" if role == "proposals" else "crops": {
            name: (sizes(name, 0), sizes(name, 1), sizes(name, 2)) for name in dynamic
        }
    }
