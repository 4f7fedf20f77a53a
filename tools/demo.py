"""The main job end to end: a bag through the real nodes to /robollm/defects, with pictures.

Three processes, connected by DDS only: the player (bag in), `perception` (three lifecycle nodes,
one backbone) and the monitor (what a controller would see).
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
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def say(text: str) -> None:
    """Print now, so that the order of several processes' lines is right."""
    print(text, flush=True)


def robollm(*args: str) -> None:
    """Run a verb of the CLI; its error is the demo's error."""
    subprocess.run([sys.executable, "-m", "robollm.cli.main", *args], check=True)


def prepare(out: Path) -> tuple[Path, Path, int]:
    """Make bundle, bag, manifest and gallery; returns bundle, data and the number of picks."""
    bundle, data = out / "bundle", out / "data"
    shutil.rmtree(data, ignore_errors=True)
    robollm("sketch-bundle", "--out", str(bundle))
    robollm("demo-data", "--out", str(data))
    robollm(
        *("gallery", "build", "--images", str(data / "references"), "--out", str(data / "gallery")),
        *("--bundle", str(bundle), "--allow-untrained"),
    )
    truth = json.loads((data / "truth.json").read_text())
    return bundle, data, len(truth["picks"])


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


def main() -> int:
    """Run; 0 if every pick got exactly one verdict and every process ended cleanly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "demo_out", help="folder to write")
    args = parser.parse_args()
    out: Path = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    bundle, data, picks = prepare(out)
    os.environ["ROS_LOG_DIR"] = str(out / "log")
    os.environ["ROS_DOMAIN_ID"] = str(free_domain())
    ns = ["-r", "__ns:=/robollm"]
    log = (out / "perception.log").open("wb")
    monitor = subprocess.Popen(
        [
            *(str(BIN / "verdict_monitor"), "--out", str(out), "--picks", str(picks)),
            *("--timeout", "90", "--ros-args", *ns),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    nodes = subprocess.Popen(
        [
            *(str(BIN / "perception"), "--ros-args", *ns),
            *("--params-file", str(ROOT / "config" / "demo.yaml")),
            *("-p", f"bundle:={bundle}", "-p", f"manifest:={data / 'manifest.json'}"),
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    assert monitor.stdout is not None
    player, start = None, time.monotonic()
    for line in monitor.stdout:  # ends when the monitor does: it has a time limit of its own
        if player is None and line.strip() == "ready":
            say(f"nodes are up; playing {data / 'bag'}: {picks} picks, in real time")
            start = time.monotonic()
            player = subprocess.Popen([str(BIN / "bag_player"), str(data / "bag")], stdout=log)
        else:
            say(line.rstrip())
    say(f"{time.monotonic() - start:.1f} s from the player's start to the last verdict")
    codes = {
        "verdicts": monitor.wait(),
        "player": stop(player) if player else 1,
        "perception": stop(nodes),
    }
    log.close()
    bad = {name: code for name, code in codes.items() if code}
    if bad:
        say(f"FAILED, exit codes {bad}; the nodes' log is {out / 'perception.log'}")
        return 1
    say(f"\npictures, one per pick: {out}/pick-*.png")
    say(f"report: {out / 'report.md'} and report.json; nodes' log: {out / 'perception.log'}")
    say("The weights are random (UNTRAINED): this shows the chain, not its accuracy.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
