"""The BEiT-3 vision encoder: sizes, modules, and reading of published checkpoints."""
