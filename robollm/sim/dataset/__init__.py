"""Whole datasets: jobs, workers, the card, the audit."""
