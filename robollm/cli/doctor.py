"""`robollm doctor`: what is installed, what works, and what to do about the rest."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from robollm.runtime.findings import Finding

MARKS = {"ok": ("ok", "green"), "warn": ("WARN", "yellow"), "fail": ("FAIL", "red")}
SKETCH_S, SELF_TEST_S = 120.0, 300.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
@click.option("--self-test/--no-self-test", default=True, show_default=True,
              help="Run a small bundle of random weights: a tote, a gallery, a pick.")  # fmt: skip
def command(as_json: bool, self_test: bool) -> None:
    r"""Check this machine. Paste the output into an issue report.

    Host name, user name and paths under your home folder are taken out. Nothing is sent anywhere.
    Exit code 1 if something that is needed does not work.

    \b
      robollm doctor
      robollm doctor --json > doctor.json
    """
    from robollm.runtime.findings import report

    card = report(_examine(self_test))
    if as_json:
        click.echo(json.dumps(card))
    else:
        _print(card)
    sys.exit(0 if card["ok"] else 1)


def _examine(with_self_test: bool) -> Iterator[Finding]:
    from robollm.runtime import doctor, doctor_machine
    from robollm.runtime.findings import FAIL, NONE, Finding

    soft = list(doctor.software())
    yield from soft
    if doctor.numpy_works(soft):
        yield from doctor_machine.machine()
    yield from doctor_machine.storage()
    yield doctor.gpu()
    runs = not any(f.state == FAIL for f in soft)
    if runs:
        yield from doctor.providers()
    yield from doctor_machine.ros()
    if not with_self_test:
        yield Finding("self-test", NONE, "not asked for")
    elif not runs:
        yield Finding("self-test", NONE, "not made: a package that it needs does not work")
    else:
        yield _self_test()


def _self_test() -> Finding:
    from robollm.runtime.child import ask
    from robollm.runtime.findings import FAIL, OK, WARN, Finding

    if not _installed("onnx"):
        text = "not made: the package onnx is missing, which writes its bundle"
        return Finding("self-test", WARN, text, "pip install onnx; robots don't need it")
    with tempfile.TemporaryDirectory(prefix="robollm-doctor-", ignore_cleanup_errors=True) as t:
        bundle = Path(t, "bundle")
        words = ["-m", "robollm.cli.main", "sketch-bundle", "--out", str(bundle)]
        ended = ask(words, limit_s=SKETCH_S)
        if not ended.why:
            words = ["-m", "robollm.runtime.self_test", str(bundle), str(Path(t, "work"))]
            ended = ask(words, limit_s=SELF_TEST_S)
    if ended.why or not ended.said:
        fix = "repair what fails above; if nothing does, report this with the whole output"
        return Finding("self-test", FAIL, ended.why or "said nothing", fix)
    said = ended.said[-1]
    times = ", ".join(f"{name} {ms} ms" for name, ms in said["ms"].items())
    return Finding("self-test", OK, f"{times}; {said['where']}")


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def _print(card: dict[str, Any]) -> None:
    width = max(len(f["part"]) for f in card["findings"])
    for found in card["findings"]:
        mark, colour = MARKS.get(found["state"], ("-", ""))
        shown = click.style(f"{mark:4}", fg=colour or None)
        click.echo(f"{shown}  {found['part']:{width}}  {found['what']}")
        if found["fix"] and found["state"] != "ok":
            click.echo(f"{'':{width + 8}}fix: {found['fix']}")
    states = card["states"]
    click.echo(
        f"\n{states['ok']} ok, {states['warn']} warnings, {states['fail']} failed, "
        f"{states['none']} not here",
        err=True,
    )
