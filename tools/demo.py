"""The main job end to end: a bag through the real nodes to /robollm/defects, with pictures.

The default bundle looks at a simulated station whose products no training saw. Three processes,
connected by DDS only: the player (bag in), `perception` (three lifecycle nodes, one backbone) and
the monitor (what a controller would see). Afterwards what was said is laid beside the truth, and
the same bag is evaluated by `robollm eval bag`.

The time of a pick event is taken in the monitor's process: from the arrival of the pick's last
judged view to that of the later of its two answers, verdict and product.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo_sheet import contact_sheet
from demo_story import summary, table, told

from robollm.core.errors import ConfigError, GalleryError, RobollmError
from robollm.gallery.store import open_gallery
from robollm.nodes.monitor_report import stage_table
from robollm.runtime.bundle import Bundle, load_bundle
from robollm.runtime.default_bundle import default_bundle, find_bundle

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PARAMETERS = ROOT / "config" / "demo.yaml"
LOG = "perception.log"
"""Of the nodes; a folder that holds one is a demo's, and may be written over."""


@dataclass(frozen=True, slots=True)
class Station:
    """What the demo runs on: `bundle`, and the folder `data` with bag, manifest and gallery."""

    bundle: Bundle
    data: Path
    truth: dict[str, Any]


def say(text: str) -> None:
    """Print now, so that the order of several processes' lines is right."""
    print(text, flush=True)


def robollm(*args: str, quiet: bool = False) -> None:
    """Run a verb of the CLI; its error is the demo's error."""
    command = [sys.executable, "-m", "robollm.cli.main", *args]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL if quiet else None)


def claim(out: Path) -> None:
    """Make the folder to write, or clear one that a demo wrote.

    Raises:
        ConfigError: if it holds something else: the demo deletes in it.
    """
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()) and not (out / LOG).is_file():
        raise ConfigError(
            f"{out} holds files, and no {LOG} that says they are a demo's",
            fix="give --out a new or an empty folder",
        )
    (out / LOG).touch()
    for folder in (out / "data", out / "report"):
        shutil.rmtree(folder, ignore_errors=True)
    written = ("pick-*.png", "contact-sheet.png", "picks.md", "report.md", "report.json")
    for old in (file for pattern in written for file in out.glob(pattern)):
        old.unlink()  # else a run that fails shows the answers of the one before


def choose_bundle(name: str, out: Path, folders: Sequence[Path] | None = None) -> Bundle:
    """The bundle to show. Without the default one: random weights, and loud words about it.

    Args:
        name: a bundle's folder or name; empty: the default one.
        out: where the random bundle is written.
        folders: where shipped bundles are looked for; None: where they are.

    Raises:
        ConfigError: if `name` can't be told.
        ModelFileError: if it is no sound, trained bundle.
    """
    if name:
        return load_bundle(find_bundle(name, folders))
    try:
        return load_bundle(default_bundle(folders))
    except ConfigError as e:
        bar = "!" * 78
        say(f"{bar}\nUNTRAINED: {e.what}.\nRandom weights take its place: they show that the "
            f"chain works, and their results mean nothing.\n{bar}")  # fmt: skip
    robollm("sketch-bundle", "--out", str(out / "bundle"))
    return load_bundle(out / "bundle", allow_untrained=True)


def take_gallery(bundle: Bundle, data: Path, products: set[str]) -> None:
    """Put the bundle's own gallery beside the manifest if it fits, else build one; says which.

    Args:
        bundle: may have a folder `gallery`.
        data: with `references/`.
        products: that the gallery must have.
    """
    own, here = bundle.folder / "gallery", data / "gallery"
    if own.is_dir():
        shutil.copytree(own, here)  # a gallery that is open gets files of SQLite's beside it
        try:
            stored = open_gallery(
                here, embedding_sha256=bundle.embedding_sha256, bundle=bundle.title
            )
            lacks, size = products - set(stored.products), len(stored.products)
            stored.close()
            why = f"it lacks {len(lacks)} of the demo's {len(products)} products" if lacks else ""
        except GalleryError as e:
            why = e.what
        if not why:
            say(f"gallery: {own}, shipped with the bundle, {size} products")
            return
        say(f"gallery: {own} is not used: {why}")
        shutil.rmtree(here)
    say("gallery: built from the products' reference pictures")
    robollm(
        *("gallery", "build", "--images", str(data / "references"), "--out", str(here)),
        *("--bundle", str(bundle.folder), *untrained("--allow-untrained", bundle)),
        quiet=True,
    )


def untrained(word: str, bundle: Bundle) -> list[str]:
    """A word for a command line that allows random weights, and only for these."""
    return [] if bundle.trained else [word]


def prepare(out: Path, name: str, picks: int, folders: Sequence[Path] | None = None) -> Station:
    """Choose the bundle and make bag, manifest and gallery; see `choose_bundle`."""
    data = out / "data"
    bundle = choose_bundle(name, out, folders)
    say(f"bundle: {bundle.title}, {bundle.folder}")
    robollm("demo-data", "--out", str(data), "--picks", str(picks))
    products = set(json.loads((data / "manifest.json").read_text())["products"])
    take_gallery(bundle, data, products)
    return Station(bundle, data, json.loads((data / "truth.json").read_text()))


def free_domain() -> int:
    """A ROS domain id that no process on this machine uses: two demos must not mix."""
    for step in range(100):
        domain = 1 + (os.getpid() + step) % 100
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            try:  # the discovery port of a domain's first participant, from the DDS standard
                s.bind(("", 7410 + 250 * domain))
            except OSError:
                continue
            return domain
    return 1


def stop(process: subprocess.Popen[Any]) -> int:
    """End a process as Ctrl-C would; returns its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def play(station: Station, out: Path) -> dict[str, int]:
    """Start monitor, nodes and player, and wait for the last verdict.

    Returns:
        Exit code of each process that failed.
    """
    os.environ["ROS_LOG_DIR"] = str(out / "log")
    os.environ["ROS_DOMAIN_ID"] = str(free_domain())
    ns, picks = ["-r", "__ns:=/robollm"], len(station.truth["picks"])
    log = (out / LOG).open("wb")
    monitor = subprocess.Popen(
        [
            *(str(BIN / "verdict_monitor"), "--out", str(out), "--picks", str(picks), "--brief"),
            *("--timeout", str(60 + 3 * picks), "--ros-args", *ns),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    nodes = subprocess.Popen(
        [
            *(str(BIN / "perception"), "--ros-args", *ns, "--params-file", str(PARAMETERS)),
            *("-p", f"bundle:={station.bundle.folder}"),
            *("-p", f"manifest:={station.data / 'manifest.json'}"),
            *(w for word in untrained("allow_untrained:=true", station.bundle)
              for w in ("-p", word)),
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert monitor.stdout is not None
    player, start = None, time.monotonic()
    for line in monitor.stdout:  # ends when the monitor does: it has a time limit of its own
        if player is None and line.strip() == "ready":
            say(f"nodes are up; playing {station.data / 'bag'}: {picks} picks, in real time")
            start = time.monotonic()
            player = subprocess.Popen(
                [str(BIN / "bag_player"), str(station.data / "bag")], stdout=log
            )
        else:
            say(line.rstrip())
    say(f"{time.monotonic() - start:.1f} s from the player's start to the last verdict")
    codes = {
        "verdicts": monitor.wait(),
        "player": stop(player) if player else 1,
        "perception": stop(nodes),
    }
    log.close()
    return {name: code for name, code in codes.items() if code}


def evaluate(station: Station, out: Path) -> Path:
    """Ask the same bundle about the same bag without ROS; returns the page with the figures."""
    bundle, data = station.bundle, station.data
    robollm(
        *("eval", "bag", str(data / "bag"), "--truth", str(data / "truth.json")),
        *("--bundle", str(bundle.folder), *untrained("--allow-untrained", bundle)),
        *("--manifest", str(data / "manifest.json"), "--params-file", str(PARAMETERS)),
        *("--out", str(out / "report"), "--workers", "1"),
        quiet=True,
    )
    return out / "report" / "report.html"


def show(station: Station, out: Path) -> None:
    """Evaluate; then print table and sum, and write them and the contact sheet."""
    trained = station.bundle.trained
    say("evaluating the same recording, without ROS")
    page = evaluate(station, out)
    heard = json.loads((out / "report.json").read_text())
    picks, stages = told(heard, station.truth), stage_table(heard["stages_ms"])
    text = f"bundle {station.bundle.title}\n\n{table(picks)}\n\n{stages}\n\n{summary(picks)}"
    if not trained:
        text += "\nThe weights are random (UNTRAINED): this shows the chain, not its accuracy."
    (out / "picks.md").write_text(f"{text}\n", encoding="utf-8")
    pictures = [out / f"{p.name}.png" for p in picks]
    sheet = contact_sheet(picks, pictures, f"bundle {station.bundle.title}", trained)
    say(f"\n{text}\n")
    say(f"report:   {page}, figures of this recording with intervals")
    say(f"pictures: {sheet}, and one per pick, {out}/pick-*.png")
    say(f"more:     {out / 'picks.md'}, these tables; {out / 'report.md'}, times of each pick; "
        f"{out / LOG}, the nodes' log")  # fmt: skip


def main(argv: Sequence[str] | None = None, folders: Sequence[Path] | None = None) -> int:
    """Run; 0 if every pick got exactly one verdict and every process ended cleanly.

    Args:
        argv: the command line without the program's name; None: this process' own.
        folders: where shipped bundles are looked for; None: where they are.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "demo_out", help="folder to write")
    parser.add_argument("--bundle", default="", help="folder or name; default: the shipped one")
    parser.add_argument("--picks", type=int, default=20, help="how many; 20 are two totes")
    args = parser.parse_args(argv)
    out: Path = args.out.resolve()
    try:
        claim(out)
        station = prepare(out, args.bundle, args.picks, folders)
        bad = play(station, out)
        if bad:
            say(f"FAILED, exit codes {bad}; the nodes' log is {out / LOG}")
            return 1
        show(station, out)
    except (RobollmError, OSError) as e:
        say(f"error: {e}")
        return 1
    except subprocess.CalledProcessError as e:  # it has said why
        say(f"FAILED: {' '.join(e.cmd[1:])}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
