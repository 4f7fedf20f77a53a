"""As cascade-mask-rcnn_beit3-base_armbench.py, with BEiT-3 Large and ViTDet's settings for it."""

_base_ = ["./_base_/detector.py"]

model = {
    "backbone": {
        "encoder": {
            "variant": "large",
            "window": 14,
            "global_blocks": (5, 11, 17, 23),
            "drop_path": 0.4,
            "checkpointing": True,
        }
    },
    "neck": {"in_channels": 1024},
}
optim_wrapper = {"paramwise_cfg": {"layer_decay": 0.8}}
