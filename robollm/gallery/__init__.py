"""Manifests and the product gallery: which products may it be, and which one is it."""
