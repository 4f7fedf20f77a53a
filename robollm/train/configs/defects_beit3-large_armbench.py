"""RoboLLM-L; see the base config, whose settings it has: the thesis names no others.

BEiT-3's own classification takes layer decay .8 and drop path .25 for Large.
Init with a published BEiT-3 file: --init beit3_large_patch16_224.pth
"""

_base_ = "defects_beit3-base_armbench.py"

model = {
    "encoder": {"variant": "large", "checkpointing": True},
    "heads": {"defects": {"in_channels": 1024}},
}
