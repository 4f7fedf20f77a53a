"""`robollm bundle`: what a model bundle is, its decision values, its model card, its weights."""

from __future__ import annotations

import click

from robollm.cli.lazy import LazyGroup

VERBS = {
    "show": "verify a bundle (every file's sha256) and print its card as JSON",
    "calibrate": "choose its decision values on validation data, and write them into its card",
    "card": "write its model card: card.md with pictures",
    "unpack": "write its weights as a run folder: to train on from it, or to export it anew",
}


class _Group(LazyGroup):
    """`robollm bundle FOLDER` is short for `robollm bundle show FOLDER`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See `click.Group`."""
        first = args[:1]
        if first and first[0] not in VERBS and not first[0].startswith("-"):
            args = ["show", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_Group, package=__name__, verbs=VERBS)
def command() -> None:
    r"""A model bundle: what it is, its decision values, its model card, its weights.

    \b
      robollm bundle models/tote-small
      robollm bundle calibrate models/tote-small --data DATA
      robollm bundle card models/tote-small --runs RUN --evals EVALRUN
      robollm bundle unpack models/tote-small --config multitask_tote-small_sim --out RUN

    `robollm bundle FOLDER` is short for `robollm bundle show FOLDER`.
    """
