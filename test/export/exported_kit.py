"""Run folders with random weights, a tiny world beside them, and bundles exported from both."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

sys.path.append(str(Path(__file__).resolve().parents[1] / "train"))
from drawn_world import write_world as write_drawn

from robollm.export.export import Order, export
from robollm.train.config import join_tasks, load
from robollm.train.parts import register_parts

ENCODER = {
    "type": "Beit3Encoder", "variant": "tiny", "depth": 2, "dim": 32, "heads": 2, "hidden": 64,
    "grid": 4,
}  # fmt: skip
CANVAS, CROP, CHANNELS = (96, 128), 32, 16
VIEWS = ("PickRGB", "ToteWallRGB", "OnArmLowRGB")
_LIVELY = {"rpn_cls": 4.0, "fc_cls": 4.0, "conv_logits": 2.0, "rpn_reg": 0.5, "fc_reg": 2.0}


@dataclass(frozen=True)
class Exported:
    """A bundle and where it comes from; read only."""

    bundle: Path
    runs: tuple[Path, ...]
    data: Path
    done: dict[str, Any]

    def order(self, out: Path, **options: Any) -> Order:
        """The same export, elsewhere."""
        given = {"runs": self.runs, "data": self.data, "split": "test", "threads": 1}
        return Order(**given | {"out": out} | options)


def narrow(detector: Any) -> Any:
    """A detector's config with few channels."""
    detector.neck.update(in_channels=ENCODER["dim"], out_channels=CHANNELS)
    detector.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
    detector.dense_head = None
    roi = detector.roi_head
    for part in (roi.bbox_roi_extractor, roi.mask_roi_extractor):
        part.out_channels = CHANNELS
    for head in roi.bbox_head:
        head.update(in_channels=CHANNELS, fc_out_channels=32)
    roi.mask_head.update(in_channels=CHANNELS, conv_out_channels=CHANNELS)
    roi.mask_head.norm_cfg.num_groups = 4
    detector.test_cfg.rpn.update(nms_pre=100, max_per_img=30)
    detector.test_cfg.rcnn.update(max_per_img=20)
    return detector


def small(task: str) -> Config:
    """The small config of a task, smaller."""
    if task == "multitask":
        turns = {"segmentation": 1, "identification": 1, "defects": 1}
        config = Config({**join_tasks("small", turns=turns)})
    else:
        config = load(task, "small")
    if task == "segmentation":
        config.model.backbone.encoder = ENCODER
        narrow(config.model)
        config.val_dataloader.dataset.canvas_hw = CANVAS
        return config
    config.model.encoder = ENCODER
    data = config.val_dataloader.dataset
    for name, head in config.model.heads.items():
        part = data.datasets[name] if task == "multitask" else data
        if name == "segmentation":
            narrow(head)
            part.canvas_hw = CANVAS
            continue
        head["dim" if name == "identification" else "in_channels"] = ENCODER["dim"]
        part.size = CROP
    return config


def write_run(
    folder: Path, task: str, config: Config, *, encoder: Path | None = None, step: int = 3
) -> Path:
    """A run folder as training leaves it, with random weights.

    Args:
        folder: gets it.
        task: for run.json.
        config: see `small`.
        encoder: another run whose encoder this one has.
        step: of the checkpoint.
    """
    register_parts("multitask")
    torch.manual_seed(sum(folder.name.encode()))
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(config.model)
    for name, layer in model.named_modules():
        spread = _LIVELY.get(name.rpartition(".")[2], 1.5)
        weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
        own = ".adapters." in name or "encoder" not in name
        if own and weight is not None and weight.ndim > 1:
            torch.nn.init.normal_(weight, std=spread / weight[0].numel() ** 0.5)
            if bias is not None:
                torch.nn.init.normal_(bias, std=0.1)
    state = model.state_dict()
    if encoder is not None:
        theirs = torch.load(encoder / "best.pth", weights_only=True)["state_dict"]
        shared = {k.rpartition("encoder.")[2]: v for k, v in theirs.items() if "encoder." in k}
        for name in state:
            if "encoder." in name and ".adapters." not in name:
                state[name] = shared[name.rpartition("encoder.")[2]]
    folder.mkdir()
    chosen = {"metric": "made up", "step": step}
    torch.save(
        {"state_dict": state, "meta": {"iter": step}, "selected": chosen}, folder / "best.pth"
    )
    (folder / "config.py").write_text(config.pretty_text)
    run = {"robollm": "0", "task": task, "seed": 0, "starts": [{"packages": {"torch": "2"}}]}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def write_three(root: Path) -> tuple[Path, ...]:
    """A detector, then three views and sequences with references, with adapters on its encoder."""
    detector = write_run(root / "detector", "segmentation", small("segmentation"))
    products, defects = small("identification"), small("defects")
    for config in (products, defects):
        config.model.adapters = {"extractor": 8, "enhancer": 8}
    products.model.heads.identification.update(views=3, hidden=48, pool="cls")
    products.val_dataloader.dataset.views = VIEWS
    defects.model.heads.defects.update(pool="attention", reference=True, hidden=24)
    defects.val_dataloader.dataset.update(frames=2, reference=True)
    return (
        detector,
        write_run(root / "products", "identification", products, encoder=detector),
        write_run(root / "defects", "defects", defects, encoder=detector),
    )


def _export(root: Path, runs: tuple[Path, ...], data: Path, *variants: str) -> Exported:
    made = Exported(root / "bundle", runs, data, {})
    # points of 100 on 6 crops come in steps of 17: here it is about the way, not the loss
    done = export(made.order(made.bundle, variants=("fp32", *variants), max_loss=100.0))
    return Exported(made.bundle, runs, data, done)


def write_data(root: Path) -> Path:
    """ARMBench's three folders with a few pictures each."""
    return write_drawn(root)


def export_multitask(root: Path, data: Path) -> Exported:
    """One multitask run as a bundle, with dynamic int8."""
    run = write_run(root / "run", "multitask", small("multitask"))
    return _export(root, (run,), data, "int8")


def export_three(root: Path, data: Path) -> Exported:
    """What `write_three` writes, as a bundle."""
    return _export(root, write_three(root), data)
