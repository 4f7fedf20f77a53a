"""As base; --init beit3_large_itc_patch16_224.pth."""

_base_ = "identification_beit3-base_armbench.py"

model = {
    "encoder": {"variant": "large", "checkpointing": True},
    "heads": {"identification": {"dim": 1024, "embed_dim": 1024}},
}
