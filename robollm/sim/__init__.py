"""Worlds of ARMBench's shape, made here: products, tote pictures, post-pick views, demo bags."""
