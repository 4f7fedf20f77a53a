"""Perception for a pick-and-place cell: instance masks, product identities and defect flags."""

__version__ = "0.1.0"
