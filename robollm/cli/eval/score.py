"""`robollm eval score`: figures of a run again, from its records alone."""

from __future__ import annotations

from pathlib import Path

import click

from robollm.cli.eval.ending import finish
from robollm.cli.eval.options import json_option, with_draws


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@with_draws
@json_option
def command(run: Path, draws: int, seed: int, as_json: bool) -> None:
    r"""Score the records of RUN again, and write its metrics.json.

    The dataset is not needed. The same records, draws and seed give the same figures, to the bit;
    a run that is not complete, or still goes on, is scored as far as it is, and called partial.

    \b
      robollm eval score RUN --draws 5000
    """
    from robollm.eval.progress import shown

    with shown() as progress:
        finish(run, draws, seed, as_json=as_json, progress=progress, report=False)
