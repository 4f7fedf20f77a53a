"""`robollm`: everything that runs without ROS. Words go to stderr, data to stdout."""

from __future__ import annotations

import sys

import click

from robollm import __version__
from robollm.cli.lazy import LazyGroup
from robollm.core.errors import RobollmError

VERBS = {
    "bench": "measure a bundle on this machine, side by side in every precision",
    "bundle": "show what a model bundle is, and verify it",
    "demo-data": "simulate a station: a bag with manifest, references and truth",
    "doctor": "what is installed here, what of it works, and how to repair the rest",
    "eval": "measure a bundle on ARMBench or on bags: figures, report, comparison",
    "export": "turn training runs into the bundle that the nodes run",
    "gallery": "build a product gallery, change it, ask it",
    "generate": "write config and docs from the settings in the code",
    "predict": "say what is on pictures of your own: instances, products, defects",
    "segment": "find the instances of one image",
    "sim": "simulate totes, picks and defects; make and audit datasets",
    "sketch-bundle": "write a small bundle with random weights, for tests",
    "tensorrt": "build engines for a GPU, or the script that does",
    "train": "train segmentation, identification, defects, or all on one encoder",
}


@click.group(cls=LazyGroup, package="robollm.cli", verbs=VERBS)
@click.version_option(__version__, prog_name="robollm")
def app() -> None:
    """Perception for pick-and-place, without ROS.

    The ROS 2 nodes start with `ros2 launch robollm armbench.launch.py`, or without launch with the
    program `perception`.
    """


def main() -> None:
    """Run; a deliberate error becomes two plain lines and exit code 2, a bug shows a traceback."""
    try:
        app()
    except RobollmError as e:
        click.echo(f"error: {e}", err=True)
        sys.exit(2)
    except PermissionError as e:
        click.echo(f"error: {e}\n  fix: use a folder that you may write to", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
