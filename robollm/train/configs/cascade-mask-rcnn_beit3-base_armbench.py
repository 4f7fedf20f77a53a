"""RoboLLM's segmentation: BEiT-3 Base, ViTDet's pyramid, Cascade Mask R-CNN; one class.

Set `model.backbone.encoder.init_checkpoint` to a published BEiT-3 file.
"""

_base_ = ["./_base_/detector.py"]

model = {
    "backbone": {
        "encoder": {
            "variant": "base",
            "window": 14,
            "global_blocks": (2, 5, 8, 11),
            "drop_path": 0.1,
        }
    }
}
