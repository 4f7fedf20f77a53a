"""Write requirements/kilted.txt and requirements/dev.txt from what .venv holds now.

Run it with .venv/bin/python after an upgrade; `make distclean test` then proves the new pins.
"""

import re
import sys
from importlib.metadata import distributions
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "requirements"
# What building vision_msgs needs beside the ROS wheels.
BUILD = set(
    "catkin-pkg cmake docutils empy lark-parser ninja numpy packaging pyparsing python-dateutil"
    " setuptools six".split()
)
OWN = {"robollm", "robollm-vision-msgs", "pip", "wheel"}


def main() -> None:
    """Split the installed distributions into the two files."""
    pins: dict[str, list[str]] = {"kilted.txt": [], "dev.txt": []}
    for found in distributions(path=[p for p in sys.path if p.endswith("site-packages")]):
        name = re.sub(r"[-_.]+", "-", found.name).lower()
        # The ROS wheels carry an .egg-info of their own for each Python package: not for pip.
        if name in OWN or found.read_text("RECORD") is None:
            continue
        file = "kilted.txt" if name.startswith("ros-") or name in BUILD else "dev.txt"
        pins[file].append(f"{name}=={found.version}")
    heads = {
        "kilted.txt": "# ROS 2 Kilted from pip, and what builds vision_msgs against it.",
        "dev.txt": "# All else that the extras cpu, eval, sim and dev bring in, on CPython 3.11.",
    }
    for file, lines in pins.items():
        head = f"{heads[file]}\n# Written by tools/lock.py.\n"
        (FOLDER / file).write_text(head + "\n".join(sorted(lines)) + "\n")
        print(f"{file}: {len(lines)} pins")


if __name__ == "__main__":
    main()
