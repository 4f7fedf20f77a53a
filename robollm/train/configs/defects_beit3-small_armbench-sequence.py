"""Up to 4 images of an induct together, pooled over time, and each image's own label.

Ours: the thesis looks at single images.
"""

_base_ = "defects_beit3-small_armbench.py"

model = {"heads": {"defects": {"pool": "attention", "frame_weight": 0.5}}}
train_dataloader = {"batch_size": 8, "dataset": {"frames": 4}}
val_dataloader = {"batch_size": 16, "dataset": {"frames": 4}}
select = {"metric": "sequence_combined_auc"}
