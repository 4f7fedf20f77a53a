"""Defects of what is held: multi-picks and damaged packages (ARMBench; thesis section 8.3)."""
