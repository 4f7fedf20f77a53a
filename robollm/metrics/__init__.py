"""Figures, each by its protocol's name: one formula, in one place. No models, no files."""
