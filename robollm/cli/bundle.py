"""`robollm bundle`: what a model bundle is, verified."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command(help="Verify a bundle (every file's sha256) and print its card as JSON.")
@click.argument("bundle", type=click.Path(path_type=Path))
def command(bundle: Path) -> None:
    """Verify and print."""
    from robollm.runtime.bundle import load_bundle

    b = load_bundle(bundle, allow_untrained=True)
    if not b.trained:
        click.echo("UNTRAINED: random weights, results mean nothing", err=True)
    card = {
        "name": b.name,
        "version": b.version,
        "status": b.status,
        "sha256": b.sha256,
        "embedding_sha256": b.embedding_sha256,
        "tote": {"height": b.tote.hw[0], "width": b.tote.hw[1], "fit": b.tote.fit},
        "crop": {"height": b.crop.hw[0], "width": b.crop.hw[1], "fit": b.crop.fit},
        "embedding_dim": b.embedding_dim,
        "labels": {"segmentation": b.instance_labels, "defects": b.defect_labels},
        "provenance": b.provenance,
        "metrics": b.metrics or "not measured",
    }
    click.echo(json.dumps(card, indent=2))
