"""The product's reference picture beside the crop. Ours: the thesis has the crop alone.

ARMBench's defect images don't name products: without `truth.jsonl` or picks of the same ids this is
the plain model, and the run says so.
"""

_base_ = "defects_beit3-base_armbench.py"

model = {"heads": {"defects": {"reference": True}}}
train_dataloader = {"dataset": {"reference": True, "drop_reference": 0.1}}
val_dataloader = {"dataset": {"reference": True}}
