"""`robollm eval report`: one HTML file out of a run."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="F.html",
              help="The file to write; default: report.html in the run folder.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout: the two files.")
def command(run: Path, out: Path | None, as_json: bool) -> None:
    r"""Write the report of RUN, which `robollm eval score` has scored: HTML, and Markdown beside.

    \b
      robollm eval report run
      robollm eval report run --out site/index.html

    The HTML file holds everything that it shows and loads nothing. It reads the metrics that are
    there and computes no figure. Pictures of the worst samples are taken from the data's folder, if
    it still is where it was.
    """
    import json

    from robollm.eval.figures import Metrics
    from robollm.eval.progress import shown
    from robollm.eval.report import write_report
    from robollm.eval.run_folder import RunFolder

    opened = RunFolder.open(run)
    with shown() as progress:
        page = write_report(opened, Metrics.read(opened.path), out=out, progress=progress)
    text = page.with_suffix(".md")
    if as_json:
        click.echo(json.dumps({"run": str(run), "report": str(page), "markdown": str(text)}))
    else:
        click.echo(f"wrote {page} and {text}")
