"""Write requirements/*.txt from what .venv holds now, as far as somebody asked for it.

Run it with .venv/bin/python after an upgrade; `make distclean test` then proves the new pins.
"""

import re
import runpy
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

FOLDER = Path(__file__).resolve().parent.parent / "requirements"
BOOTSTRAP = runpy.run_path(str(Path(__file__).with_name("bootstrap.py")))
# What building vision_msgs needs beside the ROS wheels.
BUILD = set(
    "catkin-pkg cmake docutils empy lark-parser ninja numpy packaging pyparsing python-dateutil"
    " setuptools six".split()
)
OWN = {"robollm", "robollm-vision-msgs", "pip", "wheel"}
HEADS = {
    "kilted.txt": "# ROS 2 Kilted from pip, and what builds vision_msgs against it.",
    "dev.txt": "# All else that the extras cpu, eval, sim and dev bring in, on CPython 3.11.",
    "train.txt": "# What the extras train and ray bring in beside those, and what the tests need.",
}


def plain(name: str) -> str:
    """A distribution's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(installed: dict[str, Distribution], wanted: list[str]) -> set[str]:
    """Names of all that requirements bring in, extras followed."""
    found: set[tuple[str, str]] = set()
    todo = [Requirement(text) for text in wanted]
    while todo:
        one = todo.pop()
        name = plain(one.name)
        for extra in ("", *one.extras):
            if (name, extra) in found or name not in installed:
                continue
            found.add((name, extra))
            for text in installed[name].requires or []:
                more = Requirement(text)
                if more.marker is None or more.marker.evaluate({"extra": extra}):
                    todo.append(more)
    return {name for name, _ in found}


def main() -> None:
    """Split the installed distributions into the three files."""
    places = [p for p in sys.path if p.endswith("site-packages")]
    installed = {plain(d.name): d for d in distributions(path=places)}
    alone = [str(r) for r in BOOTSTRAP["TRAIN_ALONE"]]
    # The wheels of ROS name each other with versions of their own; all of them stay.
    base = needed(installed, [f"robollm[{BOOTSTRAP['EXTRAS']}]"])
    train = needed(installed, [f"robollm[{BOOTSTRAP['TRAIN_EXTRAS']}]"]) | {
        plain(Requirement(r).name) for r in alone
    }
    pins: dict[str, list[str]] = {name: [] for name in HEADS}
    for name, found in installed.items():
        # The ROS wheels carry an .egg-info of their own for each Python package: not for pip.
        if name in OWN or found.read_text("RECORD") is None:
            continue
        version = found.version.partition("+")[0]  # which build of it is the machine's matter
        if name.startswith("ros-") or name in BUILD:
            pins["kilted.txt"].append(f"{name}=={version}")
        elif name in base:
            pins["dev.txt"].append(f"{name}=={version}")
        elif name in train:
            pins["train.txt"].append(f"{name}=={version}")
        else:
            print(f"left out, nobody asked for it: {name}")
    for file, lines in pins.items():
        head = f"{HEADS[file]}\n# Written by tools/lock.py.\n"
        (FOLDER / file).write_text(head + "\n".join(sorted(lines)) + "\n")
        print(f"{file}: {len(lines)} pins")


if __name__ == "__main__":
    main()
