"""The learning half: BEiT-3, detector, retrieval and defect heads, losses, adapters [extra: train].

torch, MMEngine and MMDetection live here and in `export`, nowhere else.
"""
