"""Groups of verbs that are imported when they are used: `--help` must not load ONNX Runtime."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

INTERRUPTED = 130
"""What shells say of a program that Ctrl-C ended. Click's own is 1, which may mean something."""


class LazyGroup(click.Group):
    r"""A group whose verbs each live in a module of their own, as its `command`.

    A verb `a-b` of the package `p` is `p.a_b.command`. A line \b in a docstring, also of one in
    raw quotes, keeps the paragraph after it as it is: that is how examples are written.

    Args:
        name: the group's name, for its help.
        package: dotted name of the package that holds the verbs' modules.
        verbs: verb -> one line of help, in the order in which they are listed.
        **kwargs: see `click.Group`.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        package: str,
        verbs: Mapping[str, str],
        **kwargs: object,
    ) -> None:
        super().__init__(name, **kwargs)  # type: ignore[arg-type]
        self._package = package
        self._verbs = verbs
        _keep_examples(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See `click.Group`."""
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See `click.Group`."""
        if cmd_name not in self._verbs:
            return None
        module = importlib.import_module(f"{self._package}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        _keep_examples(command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """See `click.Group`; Ctrl-C ends every verb with the same exit code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See `click.Group`."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._verbs.items()))


def _keep_examples(command: click.Command) -> None:
    r"""Turn the letters \b into the character that click looks for, here and in verbs below."""
    if command.help:
        command.help = command.help.replace("\\b\n", "\b\n")
    if isinstance(command, click.Group):
        for verb in command.commands.values():
            _keep_examples(verb)
