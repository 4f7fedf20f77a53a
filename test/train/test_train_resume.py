"""Runs that are killed, stopped, shared between processes, or belong to something else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_world import write_inducts
from engine_kit import assert_equal, command, interrupted_before, one_thread, weights

from robollm.core.errors import ConfigError, ModelFileError, TrainingError
from robollm.train.engine.journal import read_metrics
from robollm.train.engine.runner import load
from robollm.train.run import train


@pytest.mark.timeout(300)
def test_a_killed_run_goes_on_and_ends_bit_equal_to_one_that_was_not(order: Any) -> None:
    train(order("whole"))
    killed = order("killed")
    process = subprocess.Popen(command(killed), env=one_thread(), stderr=subprocess.DEVNULL)
    while process.poll() is None and not any(r["step"] >= 12 for r in read_metrics(killed.out)):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = load(killed.out / "last.pth")["meta"]["iter"]
    again = train(killed)
    assert again["steps"] == 24
    assert again["steps_of_this_run"] == 24 - done
    for part in ("state_dict", "ema_state_dict"):
        assert_equal(weights(killed.out, part=part), weights(order("whole").out, part=part))
    assert_equal(weights(killed.out, "best.pth"), weights(order("whole").out, "best.pth"))
    plain = [
        [{k: v for k, v in row.items() if k != "seconds_per_step"} for row in read_metrics(run)]
        for run in (killed.out, order("whole").out)
    ]
    assert plain[0] == plain[1]


def test_a_run_that_stopped_at_a_validation_goes_on_bit_equal(order: Any) -> None:
    noisy = ("model.encoder.drop_path=0.5", "keep_every=1000")
    train(order("whole", *noisy))
    stopped = order("stopped", *noisy)
    with pytest.raises(KeyboardInterrupt), interrupted_before(9):
        train(stopped)
    assert load(stopped.out / "last.pth")["meta"]["iter"] == 8
    assert train(stopped)["steps_of_this_run"] == 16
    assert_equal(weights(stopped.out), weights(order("whole", *noisy).out))


def test_a_run_that_accumulates_gradients_goes_on_bit_equal(order: Any) -> None:
    four = ("optim_wrapper.accumulative_counts=4", "train_cfg.val_steps=6")
    train(order("whole", *four))
    stopped = order("stopped", *four)
    with pytest.raises(KeyboardInterrupt), interrupted_before(11):
        train(stopped)
    assert load(stopped.out / "last.pth")["meta"]["iter"] == 8  # not 5, not 10: after an update
    train(stopped)
    assert_equal(weights(stopped.out), weights(order("whole", *four).out))


def test_neither_reading_processes_nor_validations_change_what_is_learnt(order: Any) -> None:
    train(order("plain", "train_cfg.max_steps=6", "train_cfg.val_steps=6"))
    train(order("other", "train_cfg.max_steps=6", "train_cfg.val_steps=2", workers=2))
    assert_equal(weights(order("plain").out), weights(order("other").out))


def test_a_checkpoint_is_never_written_after_a_loss_that_is_no_number(order: Any) -> None:
    bad = order("bad", "optim_wrapper.optimizer.lr=1e30", "param_scheduler=None", "keep_every=1")
    with pytest.raises(TrainingError):
        train(bad)
    kept = load(bad.out / "last.pth")
    assert kept["meta"]["iter"] < 24
    with pytest.raises(TrainingError, match="this step was not taken"):
        train(bad)  # resumes before the step, meets the same loss, and says so again


@pytest.mark.timeout(400)  # torchrun, and two processes that import torch
def test_two_processes_learn_what_one_learns_from_the_joined_batch(order: Any) -> None:
    same = ("model.encoder.drop_path=0.0", "train_cfg.max_steps=5", "train_cfg.val_steps=5")
    train(order("one", *same, "train_dataloader.batch_size=4"))
    two = order("two", *same, "train_dataloader.batch_size=2")
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    done = subprocess.run(command(two, *torchrun), env=one_thread(), capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    one = weights(order("one").out)
    for name, value in weights(two.out).items():
        torch.testing.assert_close(value, one[name], rtol=2e-3, atol=2e-4)
    assert json.loads((two.out / "run.json").read_text())["starts"][0]["processes"] == 2
    rows = [[r for r in read_metrics(order(n).out) if "val/images" in r] for n in ("one", "two")]
    assert rows[0][-1]["val/images"] == rows[1][-1]["val/images"]


def test_a_run_folder_of_another_config_is_refused_unless_told_to_begin_anew(order: Any) -> None:
    train(order("run", "train_cfg.max_steps=2"))
    with pytest.raises(ConfigError, match=r"another config: optim_wrapper.optimizer.lr: 0.001 -> "):
        train(order("run", "optim_wrapper.optimizer.lr=0.01"))
    with pytest.raises(ConfigError, match=r"a run of 2 steps, now 3\n  fix: .*load_from="):
        train(order("run", "train_cfg.max_steps=3"))  # its learning rate has come down already
    other = order("run", "optim_wrapper.optimizer.lr=0.01", "train_cfg.max_steps=2", fresh=True)
    assert train(other)["steps_of_this_run"] == 2


def test_a_run_is_not_continued_on_other_data(order: Any, tmp_path: Path) -> None:
    train(order("run", "train_cfg.max_steps=2"))
    write_inducts(tmp_path / "more", inducts=24)
    with pytest.raises(ConfigError, match=r"a run of 18 samples, now 30"):
        train(order("run", "train_cfg.max_steps=2", data=tmp_path / "more"))


def test_a_run_can_start_from_another_one_s_weights(order: Any) -> None:
    train(order("first", "train_cfg.max_steps=3"))
    best = order("first").out / "best.pth"
    still = ("optim_wrapper.optimizer.lr=0.0", "param_scheduler=None", "train_cfg.max_steps=1")
    train(order("second", f"load_from={best}", *still))
    assert_equal(weights(best.parent, "best.pth"), weights(order("second").out, "best.pth"))


def test_a_resumed_run_doesn_t_need_the_file_it_was_started_from(
    order: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(order("first", "train_cfg.max_steps=3"))
    start = tmp_path / "start.pth"
    start.write_bytes((order("first").out / "best.pth").read_bytes())
    run = order("run", "train_cfg.max_steps=2", init=str(start))
    train(run)
    assert "encoder weights loaded" in capfd.readouterr().err
    start.unlink()
    assert train(run)["steps_of_this_run"] == 0


def test_a_folder_that_is_no_run_is_not_written_into(order: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match="not empty, and no run folder"):
        train(order())


def test_a_damaged_checkpoint_is_named_and_not_resumed(order: Any) -> None:
    train(order("run", "train_cfg.max_steps=2"))
    last = order().out / "last.pth"
    last.write_bytes(last.read_bytes()[:3000])
    with pytest.raises(ModelFileError, match=r"last.pth is not a readable checkpoint"):
        train(order("run", "train_cfg.max_steps=4"))
