"""`robollm eval`: measure a bundle on recorded data. One file per verb."""

from __future__ import annotations

import click

from robollm.cli.lazy import LazyGroup

VERBS = {
    "armbench": "ARMBench folders: segmentation, identification, defects, videos",
    "bag": "recorded bags, without ROS or, with --ros, through the running nodes",
    "picks": "ARMBench's picks, answered as the station would",
    "make-bag": "write ARMBench's picks as a bag with truth and manifest",
    "score": "figures with intervals out of a run's records, without the dataset",
    "report": "one HTML file, and Markdown, out of a run",
    "compare": "two runs, sample by sample: what got worse, and is it more than chance?",
}


@click.group(cls=LazyGroup, package=__name__, verbs=VERBS)
def command() -> None:
    r"""Measure a bundle on recorded data, by the paper's protocols.

    A verb with --out fills a run folder: a line per sample, figures, a report. The same command
    goes on where it was stopped.

    \b
      robollm eval armbench DATA --bundle B --out RUN
      robollm eval bag BAG --truth truth.json --bundle B --out RUN
      robollm eval compare RUN_A RUN_B

    docs/evaluation.md tells what the figures mean.
    """
