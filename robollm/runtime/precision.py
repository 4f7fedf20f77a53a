"""In which arithmetic a bundle runs, and where each of its graphs does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from robollm.core.errors import ModelFileError
from robollm.core.settings import RuntimeConfig
from robollm.runtime.bundle import REFERENCE, Bundle
from robollm.runtime.providers import openvino_by_plugin
from robollm.runtime.session import Place

CPUINFO = Path("/proc/cpuinfo")
BF16_FLAGS = ("amx_bf16", "avx512_bf16")
INT8_FLAGS = ("avx512_vnni", "avx_vnni", "asimd")
"""x86 processors without VNNI add up products of 8 bits in 16, which saturate; Arm's are exact."""
SENSIBLE = {
    "cpu": ("int8", "int8-static", REFERENCE),
    "openvino": ("bf16", REFERENCE, "int8-static"),
    "cuda": ("fp16", REFERENCE),
    "tensorrt": ("fp16", REFERENCE),
}
"""Provider -> precisions that it has fast kernels for; "auto" takes the first that the card has,
down to the reference, and never one that stands behind it. On a CPU int8 and int8-static are
equally fast (measured with AVX-512 VNNI); int8 scales each picture by itself: it comes first."""
_WHY = {
    ("cpu", "bf16"): "ONNX Runtime's CPU kernels compute in fp32 or int8",
    ("cpu", "fp16"): "ONNX Runtime's CPU kernels would convert to fp32 and back",
    ("openvino", "int8"): "OpenVINO is slow on dynamic int8; it wants the file int8-static",
    ("openvino", "fp16"): "x86 processors compute in bf16, not fp16",
    ("tensorrt", "int8"): "TensorRT has no dynamic int8",
    ("tensorrt", "int8-static"): "TensorRT wants symmetric scales; `robollm tensorrt` makes them",
}
_TRUNK = ("backbone", "proposals")
_REST = {"openvino": "cpu", "tensorrt": "cuda"}


def cpu_flags() -> frozenset[str]:
    """What this processor can do, as Linux names it; empty where /proc/cpuinfo is missing."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return frozenset()
    flags = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(flags, "").split())


def choose(bundle: Bundle, provider: str, precision: str) -> str:
    """The precision to run in.

    "auto" means: with openvino bf16, on the cpu int8, if processor and card allow it; on a GPU
    fp16, if the card has it; else fp32. What a card has was accepted by task
    metrics when the bundle was exported.

    Args:
        bundle: a verified bundle.
        provider: where it will run.
        precision: "auto", or what the user wants.

    Returns:
        One of the bundle's variants.

    Raises:
        ModelFileError: if the bundle, the provider or the processor hasn't got it.
    """
    if precision == "auto":
        wanted = SENSIBLE[provider][: SENSIBLE[provider].index(REFERENCE)]
        usable = (p for p in wanted if p in bundle.variants and unfit(p) is None)
        return next(usable, REFERENCE)
    if precision not in SENSIBLE[provider]:
        why = _WHY.get((provider, precision), "it has no fast kernels for it")
        raise ModelFileError(
            f"precision {precision!r} makes no sense with provider {provider!r}: {why}",
            fix=f"set precision: auto or one of {', '.join(SENSIBLE[provider])}",
        )
    bundle.variant(precision)
    if problem := unfit(precision):
        raise ModelFileError(problem, fix="set precision: auto or fp32")
    return precision


def place_for(bundle: Bundle, config: RuntimeConfig) -> Place:
    """Where and how the user's settings have a bundle run.

    Each bundle has a folder of its own in the engine cache: ONNX Runtime names TensorRT's engines
    after the graph and not after its weights, so two bundles would take each other's.

    Raises:
        ModelFileError: see `choose`.
    """
    precision = choose(bundle, config.provider, config.precision)
    cache = str(Path(config.engine_cache) / bundle.sha256[:12]) if config.engine_cache else ""
    return Place(config.provider, precision, config.threads, cache)


def placed(bundle: Bundle, role: str, place: Place) -> tuple[Path, Place]:
    """The file of one graph, and where it runs.

    Backbone and proposals take the time and have fixed shapes: they go where the user says. The
    other graphs are small or depend on the data (how many boxes there are), which compilers for
    fixed shapes are slow at: next to OpenVINO they run in ONNX Runtime on the CPU, next to
    TensorRT on CUDA. OpenVINO's own runtime takes the RoI heads, too, whose convolutions are most
    of what is left; of its plugin nobody knows how fast it is there. A graph whose variant has no
    file of its own is computed in fp32.
    """
    path = bundle.variant(place.precision).graphs[role]
    moved = place.provider in _REST and not _takes(place.provider, role)
    provider = _REST[place.provider] if moved else place.provider
    own_file = path != bundle.graphs[role]
    arithmetic = place.precision == "bf16" and not moved
    precision = place.precision if own_file or arithmetic else REFERENCE
    return path, replace(place, provider=provider, precision=precision)


def _takes(provider: str, role: str) -> bool:
    """Whether a compiler takes this graph."""
    if role == "rois":
        return provider == "openvino" and not openvino_by_plugin()
    return role in _TRUNK


def unfit(precision: str) -> str | None:
    """Why this processor should not compute in a precision, or None if it may."""
    kind = precision.partition("-")[0]
    if kind not in ("bf16", "int8"):
        return None
    needed, flags = (BF16_FLAGS if kind == "bf16" else INT8_FLAGS), cpu_flags()
    if not flags:
        return f"precision {precision!r}: {CPUINFO} doesn't tell what this processor can do"
    if flags.isdisjoint(needed):
        would = "only imitate it" if kind == "bf16" else "overflow"
        return (
            f"precision {precision!r}: this processor has none of {', '.join(needed)} and would "
            f"{would}"
        )
    return None
