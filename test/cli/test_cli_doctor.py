from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from robollm.cli import doctor


def test_this_machine_is_sound_and_the_sketch_bundle_runs_on_it(robollm):
    said = robollm("doctor", "--json")
    card = json.loads(said.out)
    failed = [f for f in card["findings"] if f["state"] == "fail"]
    assert (said.code, card["ok"], failed) == (0, True, [])
    by_part = {f["part"]: f for f in card["findings"]}
    assert len(by_part) == len(card["findings"])
    assert by_part["self-test"]["state"] == "ok"
    assert "verdict" in by_part["self-test"]["what"]
    assert by_part["provider cpu"]["state"] == "ok"
    assert by_part["processor"]["what"]
    assert f"{Path.home()}/" not in said.out
    assert f'"{socket.gethostname()}"' not in said.out


def test_a_package_that_does_not_work_ends_with_1_and_one_fix(robollm, tmp_path, monkeypatch):
    library = "/".join(["", "home", "x", "libort.so"])
    (tmp_path / "onnxruntime.py").write_text(f"raise ImportError('{library} is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said = robollm("doctor")
    assert said.code == 1
    lines = said.out.splitlines()
    bad = next(i for i, line in enumerate(lines) if line.startswith("FAIL"))
    assert "~/... is missing" in lines[bad]
    assert "fix: pip install" in lines[bad + 1]
    assert any("not made: a package that it needs" in line for line in lines)
    assert "1 failed" in said.err


def test_without_onnx_the_self_test_says_what_it_lacks(monkeypatch):
    monkeypatch.setattr(doctor, "_installed", lambda name: False)
    found = doctor._self_test()
    assert (found.state, found.fix.startswith("pip install onnx")) == ("warn", True)


def test_the_self_test_can_be_left_out(monkeypatch):
    asked = []
    monkeypatch.setattr(doctor, "_examine", lambda wanted: asked.append(wanted) or [])
    with pytest.raises(SystemExit):
        doctor.command.main(["--no-self-test", "--json"], standalone_mode=False)
    assert asked == [False]
