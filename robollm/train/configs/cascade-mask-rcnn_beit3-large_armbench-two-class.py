"""As cascade-mask-rcnn_beit3-large_armbench.py, but Tote and Object are two classes."""

_base_ = ["./cascade-mask-rcnn_beit3-large_armbench.py"]

model = {"classes": "two"}
train_dataloader = {"dataset": {"classes": "two"}}
val_dataloader = {"dataset": {"classes": "two"}}
val_evaluator = {"classes": "two"}
select = {"metric": "two_class_mask_mAP50"}
