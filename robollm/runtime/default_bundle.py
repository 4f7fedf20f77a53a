"""Where the bundles lie that are shipped with robollm, and which one is the default.

A checkout has them in `models/`; pip and colcon put that folder into `share/robollm/models` of
the prefix that the package itself is in. So no environment is asked: the models are those that
came with the code that runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robollm.core.errors import ConfigError

NAME = "tote-small"
"""The default bundle: what runs where nobody names another."""
CARD = "bundle.json"


def shipped_folders(module: Path = Path(__file__)) -> tuple[Path, ...]:
    """The `models` folders that belong to a copy of the code; the first one that has a name wins.

    Args:
        module: this file in that copy.

    Returns:
        Existing folders: the source checkout's, then those of the prefixes around it.
    """
    module = module.resolve()
    checkout = module.parents[2]
    places = [checkout / "models"] if (checkout / "package.xml").is_file() else []
    places += [parent / "share" / "robollm" / "models" for parent in module.parents]
    return tuple(p for p in places if p.is_dir())


def shipped_bundles(folders: Sequence[Path] | None = None) -> dict[str, Path]:
    """Name -> folder of every shipped bundle.

    Args:
        folders: where to look, first one first; None: `shipped_folders()`.
    """
    found: dict[str, Path] = {}
    for folder in shipped_folders() if folders is None else folders:
        for card in sorted(folder.glob(f"*/{CARD}")):
            found.setdefault(card.parent.name, card.parent)
    return found


def default_bundle(folders: Sequence[Path] | None = None) -> Path:
    """The folder of the bundle that is used when nobody names one.

    Args:
        folders: see `shipped_bundles`.

    Raises:
        ConfigError: if it is not there.
    """
    folders = shipped_folders() if folders is None else folders
    found = shipped_bundles(folders)
    if NAME not in found:
        looked = ", ".join(map(str, folders)) or "no folder models came with this installation"
        raise ConfigError(
            f"no bundle is named, and the default one, {NAME!r}, is not there: looked in {looked}",
            fix="set `bundle` to a bundle folder; "
            "`robollm sketch-bundle --out sketch` writes one to try things out",
        )
    return found[NAME]


def find_bundle(value: str, folders: Sequence[Path] | None = None) -> Path:
    """The folder that a setting or option `bundle` means.

    Args:
        value: a path; or a plain name: a folder in the current directory, or a shipped bundle;
            or nothing: the default bundle.
        folders: see `shipped_bundles`.

    Returns:
        A folder. A name that is nothing known is taken for a path, and of a path nothing is
        checked: `load_bundle` has the words for what is wrong there.

    Raises:
        ConfigError: for a name that is both, or if the default bundle is not there.
    """
    if not value:
        return default_bundle(folders)
    here = Path(value)
    shipped = None
    if value == here.name:  # no separator in it, and none of the dots
        shipped = shipped_bundles(folders).get(value)
    if shipped is None or not (here / CARD).is_file():
        return shipped or here
    if not here.samefile(shipped):
        raise ConfigError(
            f"bundle {value!r} is two: a folder in {Path.cwd()}, and the one in {shipped.parent} "
            "that robollm ships",
            fix=f"write ./{value} or {shipped}",
        )
    return shipped
