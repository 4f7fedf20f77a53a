"""Offline evaluation: predict into a run folder, score it, report it, compare it with another."""
