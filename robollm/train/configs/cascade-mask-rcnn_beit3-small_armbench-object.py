"""As cascade-mask-rcnn_beit3-small_armbench.py, but only objects are found, and no totes."""

_base_ = ["./cascade-mask-rcnn_beit3-small_armbench.py"]

model = {"classes": "object"}
train_dataloader = {"dataset": {"classes": "object"}}
val_dataloader = {"dataset": {"classes": "object"}}
val_evaluator = {"classes": "object"}
select = {"metric": "object_only_mask_mAP50"}
