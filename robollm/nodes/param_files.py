"""Parameter files as people write them: sections that reach no node, and files that ROS refuses.

rcl drops a section whose name matches no node without a word, and with it the stricter setting that
somebody meant. Here it is an error, if it can only be meant for us.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from robollm.core.config import options
from robollm.core.errors import ConfigError
from robollm.core.settings import NODE_SETTINGS

PARAMETERS = "ros__parameters"
PROCESS = "perception"  # a program, not a node
KEYS = frozenset(o.name for kinds in NODE_SETTINGS.values() for k in kinds for o in options(k))
WILD = ("*", "**")
NEAR = 0.85  # difflib's ratio; defect_nod 0.95, camera_node 0.64


@dataclass(frozen=True, slots=True)
class Section:
    """One section of a parameter file, or one `-p NODE:NAME:=VALUE`.

    Attributes:
        where: the file, or the argument.
        name: whom it is for, as `/ns/node`, with `*` for one word and `**` for any number.
        keys: the names of its parameters, down to the first dot.
    """

    where: str
    name: str
    keys: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        """The words of its name."""
        return [w for w in self.name.split("/") if w]


@dataclass(slots=True)
class Astray:
    """Sections that reach no node of this process.

    Attributes:
        refused: those that can only be meant for one of its nodes, in words with a fix.
        doubtful: those that may be meant for another process, in words.
    """

    refused: list[str]
    doubtful: list[str]


def given(args: Sequence[str]) -> tuple[list[Path], list[Section]]:
    """The parameter files of a command line, and its parameters for one node alone."""
    files, single, ros = list[Path](), list[Section](), False
    for word, after in zip(args, [*args[1:], ""], strict=True):
        if word in ("--ros-args", "--"):
            ros = word == "--ros-args"
        elif ros and word == "--params-file":
            files.append(Path(after))
        elif ros and word in ("-p", "--param"):
            left = after.partition(":=")[0]
            node, colon, key = left.rpartition(":")
            if colon:
                single.append(Section(f"-p {after}", f"/{node}", (key.partition(".")[0],)))
    return files, single


def sections(file: Path) -> list[Section]:
    """The sections of a file that ROS has read.

    Raises:
        ConfigError: if it can't be read or isn't what ROS takes for a parameter file.
    """
    return [
        Section(str(file), name, tuple(str(k).partition(".")[0] for k in values))
        for name, values in _mappings(file, _read(file), "")
    ]


def matches(name: str, node: str) -> bool:
    """Whether ROS gives a section of this name to the node with this full name."""
    wild = {"*": r"/\w+", "**": r"(/\w+)*"}
    words = [w for w in name.split("/") if w]
    return bool(re.fullmatch("".join(wild.get(w, "/" + re.escape(w)) for w in words), node))


def astray(found: Sequence[Section], nodes: Mapping[str, str]) -> Astray:
    """Look for sections with settings of ours that no node of this process gets.

    Args:
        found: all sections that were given.
        nodes: full name of each node of this process -> which of ours it is.
    """
    out = Astray([], [])
    for section in found:
        ours = [k for k in section.keys if k in KEYS]
        if ours and not any(matches(section.name, full) for full in nodes):
            _judge(section, ours, nodes, out)
    return out


def refusal(files: Sequence[Path], reason: str) -> ConfigError:
    """Say why ROS refuses to start, from the files where they tell, else in its own words.

    Args:
        files: the parameter files that were given.
        reason: what ROS says.
    """
    for file in files:
        try:
            sections(file)
        except ConfigError as e:
            return e
    plain = re.sub(r", at \S+:\d+", "", reason)
    return ConfigError(
        f"ROS refuses the command line: {plain}",
        fix="correct what stands behind --ros-args, or the parameter file that it names",
    )


def _judge(section: Section, ours: list[str], nodes: Mapping[str, str], out: Astray) -> None:
    *space, last = section.words or [""]
    anywhere = all(w in WILD for w in space)  # it names no namespace, so not another cell's
    what = f"{section.where}: section {section.name!r} with {', '.join(ours)}"
    only_ours = all(k in KEYS or k in ("use_sim_time", "qos_overrides") for k in section.keys)
    # `threads` or `views` may be another package's; `min_views` is nobody else's.
    telling = only_ours and any("_" in k for k in ours)
    if last in NODE_SETTINGS:
        here = next((full for full, kind in nodes.items() if kind == last), None)
        if here and anywhere and here.endswith(f"/{last}"):
            out.refused.append(_words(f"{what} reaches no node", f"/**/{last}", f"it is {here}"))
        elif here:
            out.doubtful.append(f"{what} is not for this {last}, which is {here}")
    elif last == PROCESS:
        out.doubtful.append(
            f"{what} reaches no node: {PROCESS} is the process of {', '.join(NODE_SETTINGS)}\n"
            "  fix: write /** to mean all three, or /**/NODE to mean one"
        )
    elif last in WILD:
        if telling and anywhere:
            out.refused.append(_words(f"{what} reaches no node", "/**", f"here: {_list(nodes)}"))
        elif telling:
            out.doubtful.append(f"{what} reaches no node; here: {_list(nodes)}")
    else:
        names = [*NODE_SETTINGS, *(full.rpartition("/")[2] for full in nodes)]
        near = difflib.get_close_matches(last, names, n=1, cutoff=NEAR)
        if near or telling:
            near = near or difflib.get_close_matches(last, names, n=1, cutoff=0.0)
            name = "/" + "/".join([*space, near[0]])
            if anywhere and not any(matches(name, full) for full in nodes):
                name = f"/**/{near[0]}"
            out.refused.append(_words(f"{what} reaches no node", name, f"here: {_list(nodes)}"))


def _words(what: str, name: str, seen: str) -> str:
    return str(ConfigError(f"{what}; {seen}", fix=f"did you mean {name!r}?"))


def _list(nodes: Mapping[str, str]) -> str:
    return ", ".join(nodes)


def _read(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(
            f"parameter file {file} can't be read: {e}", fix="correct --params-file"
        ) from e
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        said = " ".join(str(getattr(e, "problem", None) or e).split())
        raise ConfigError(
            f"parameter file {file}{line}: no YAML: {said}",
            fix="close the quote or bracket, or correct the indentation, there or just before",
        ) from e


def _mappings(file: Path, tree: Any, name: str) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Every section's full name and its parameters; a namespace may be a level of its own."""
    if not isinstance(tree, dict):
        if tree is None and not name:
            return  # an empty file is no mistake for ROS, either
        raise _shape(file, name, f"{tree!r} stands where {PARAMETERS} is wanted")
    for key, value in tree.items():
        if key != PARAMETERS:
            near = difflib.get_close_matches(str(key), [PARAMETERS], cutoff=0.8)
            if near:
                raise _shape(file, name, f"{key!r} stands where {PARAMETERS} is wanted")
            yield from _mappings(file, value, f"{name}/{str(key).strip('/')}")
        elif not isinstance(value, dict):
            raise _shape(file, name, f"{PARAMETERS} has {value!r}, want names and values")
        else:
            for k, v in value.items():
                kinds = {type(i).__name__ for i in v} if isinstance(v, list) else set()
                if len(kinds) > 1:
                    raise _shape(
                        file, name, f"{k} is a list of {' and '.join(sorted(kinds))}, want one type"
                    )
            yield name, value


def _shape(file: Path, name: str, what: str) -> ConfigError:
    return ConfigError(
        f"parameter file {file}, section {name or '(none)'}: {what}",
        fix=f"write NODE or /**, below it {PARAMETERS}, below it NAME: VALUE; lists of one type",
    )
