"""The report of a run: tables of the thesis, plots, the worst samples, in one HTML file."""

from robollm.eval.report.report import write_report

__all__ = ["write_report"]
