"""What `eval bag` and `eval picks` share: the nodes' settings as options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from robollm.eval.settings import StationSettings

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--params-file", type=click.Path(path_type=Path, dir_okay=False),
                 help="The nodes' parameter file (YAML, one section /**)."),
    click.option("-p", "--param", "parameters", multiple=True, metavar="NAME:=VALUE",
                 help="One parameter of the nodes, after the file; repeatable."),
)  # fmt: skip


def with_station(function: F) -> F:
    """`--params-file` and `-p`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def station(
    params_file: Path | None,
    parameters: tuple[str, ...],
    given: dict[str, Any],
) -> StationSettings:
    """The nodes' settings: the file, then `-p`, then the options that were really given.

    Args:
        params_file: parameter file or None.
        parameters: of `-p`.
        given: setting -> value of the command's own options.

    Raises:
        ConfigError: for an unknown setting, a refused value.
    """
    from robollm.eval.settings import station_settings

    context = click.get_current_context()  # knows which options were given
    default = click.core.ParameterSource.DEFAULT
    said = {k: v for k, v in given.items() if context.get_parameter_source(k) is not default}
    return station_settings(
        params_file, parameters, {k: str(v) if isinstance(v, Path) else v for k, v in said.items()}
    )
