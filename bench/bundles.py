"""Bundles for benchmarks: of a run, or of an official size with random weights."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import made
import numpy as np
import onnx
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.data.armbench_segmentation import read_split
from robollm.data.images import read_image
from robollm.export import pictures
from robollm.export.build import build_graphs
from robollm.export.card import DEFAULT_THRESHOLDS, describe
from robollm.export.collect import Collected
from robollm.export.runs import _parts
from robollm.export.variants import to_int8_dynamic, to_int8_static
from robollm.export.writer import write_bundle
from robollm.runtime.bundle import Canvas, load_bundle

Rgb = NDArray[np.uint8]
MODELS = ("encoder", "detector", "identification", "defects")
TOTES = Path("armbench-segmentation-0.1", "mix-object-tote")


def random_parts(size: str, *, tote: int, crop: int, windows: bool = True) -> Collected:
    """The model of `multitask_beit3-SIZE_armbench`, weights drawn with seed 0.

    Args:
        size: small, base or large.
        tote: side of the canvas, px.
        crop: side of crops, px.
        windows: as configured; else all blocks look at the whole picture.
    """
    import torch
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    import robollm.train
    from robollm.train.parts import register_parts

    register_parts("multitask")
    folder = Path(robollm.train.__file__).parent / "configs"
    path = folder / f"multitask_beit3-{size}_armbench.py"
    config = Config.fromfile(str(path), lazy_import=False, import_custom_modules=False)
    if not windows:
        config.model.encoder.window, config.model.encoder.global_blocks = 0, ()
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(config.model).eval()
    encoder, heads = _parts(folder, model)
    return Collected(
        encoder=encoder,
        detector=heads["segmentation"],
        identification=heads["identification"],
        defects=heads["defects"],
        adapters=(),
        tote=Canvas((tote, tote), "letterbox"),
        crop=Canvas((crop, crop), "stretch"),
        reference_crop="whole",
        views=(),
        frames=1,
        instance_labels=("object",),
        data={},
        trained=False,
        runs=(),
    )


def write(parts: Collected, out: Path, *, calibrated: bool = False) -> Path:
    """A bundle with fp32, bf16 and int8, and int8-static if asked for.

    Nothing was measured on it: it is for timing. It is kept in a folder whose name ends with a
    digest of its weights, its options and the code that exports, and made where there is none.

    Returns:
        The folder, `OUT-DIGEST`.
    """
    out = out.with_name(f"{out.name}-{digest(parts, calibrated=calibrated)}")
    if (out / "bundle.json").is_file():
        load_bundle(out, allow_untrained=True)
        return out
    graphs = build_graphs(parts)
    files: dict[str, onnx.ModelProto] = {f"{role}.onnx": g for role, g in graphs.items()}
    card = describe(
        parts,
        name=out.name,
        graphs={role: f"{role}.onnx" for role in graphs},
        thresholds=DEFAULT_THRESHOLDS,
        calibrated="",
    )
    small = {role: f"{role}.int8.onnx" for role in ("backbone", "rois")}
    files |= {file: to_int8_dynamic(graphs[role]) for role, file in small.items()}
    card["variants"] |= {"bf16": {}, "int8": {"graphs": small}}
    if calibrated:
        feeds = [{"image": normalised(drawn(1, parts.tote.hw, seed)[0])} for seed in range(2)]
        files["backbone.int8-static.onnx"] = to_int8_static(graphs["backbone"], feeds)
        card["variants"]["int8-static"] = {"graphs": {"backbone": "backbone.int8-static.onnx"}}
    out.parent.mkdir(parents=True, exist_ok=True)
    return write_bundle(out, files, card)


def digest(parts: Collected, *, calibrated: bool) -> str:
    """Tells two bundles of `write` apart."""
    rest = {f.name: getattr(parts, f.name) for f in fields(parts) if f.name not in MODELS}
    told = (rest, parts.encoder.settings, parts.detector.test_cfg, calibrated)
    return made.key([getattr(parts, name) for name in MODELS], told, [Path(__file__)])


def drawn(count: int, hw: tuple[int, int], seed: int = 0) -> list[Rgb]:
    """Drawn totes, (H, W, 3) uint8, RGB."""
    rng = np.random.default_rng(seed)
    return [np.rint(255 * pictures.tote(rng, hw)).astype(np.uint8) for _ in range(count)]


def normalised(rgb: Rgb) -> NDArray[np.float32]:
    """A picture as the encoder takes it: (1, 3, H, W)."""
    return pictures.to_input([np.divide(rgb, 255, dtype=np.float32)])


def test_totes(data: Path, count: int) -> list[Rgb]:
    """Pictures of the test split, spread over it.

    Args:
        data: holds ARMBench's folders.
        count: at most so many.

    Raises:
        ConfigError: there is no test split, or it lists no picture.
    """
    fix = "give --data with ARMBench's mix-object-tote and its test split, or leave it out"
    file = data / TOTES / "test.json"
    if not file.is_file():
        raise ConfigError(f"--data {data} has no {TOTES / file.name}, want test totes", fix=fix)
    names = sorted(str(one["file_name"]) for one in read_split(file)["images"])
    if not names:
        raise ConfigError(f"{file} lists 0 test totes, want 1 or more", fix=fix)
    few = names[:: max(1, len(names) // count)][:count]
    return [read_image(data / TOTES / "images" / name) for name in few]


def about(parts: Collected) -> dict[str, Any]:
    """What a reader wants to know of the model."""
    s = parts.encoder.settings
    return {
        "encoder": f"{s.dim}-d x {s.depth}, patch {s.patch}"
        + (f", windows of {s.window}" if s.window else ""),
        "tote": "x".join(map(str, parts.tote.hw[::-1])),
        "crop": "x".join(map(str, parts.crop.hw[::-1])),
        "proposals": int(parts.detector.test_cfg.rpn.max_per_img),
        "box_stages": int(parts.detector.roi_head.num_stages),
        "weights": "trained" if parts.trained else "random",
    }
