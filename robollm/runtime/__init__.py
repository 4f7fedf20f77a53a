"""Machines: bundles, sessions, the shared backbone and the one inference path."""
