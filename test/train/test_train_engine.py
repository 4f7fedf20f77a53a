"""The engine: resuming, guarding, selecting, sharing work; on the real defect parts."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_world import write_inducts
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from robollm.core.errors import ConfigError, ModelFileError, TrainingError
from robollm.data import armbench_defects
from robollm.train.engine.journal import read_metrics
from robollm.train.engine.loops import StepLoop
from robollm.train.engine.optim import GuardedOptimWrapper, NotFiniteError
from robollm.train.engine.runner import load
from robollm.train.evaluate import evaluate
from robollm.train.run import Order, train

CONFIG = """
model = dict(
    type="TaskModel",
    encoder=dict(type="Beit3Encoder", variant="tiny", depth=2, drop_path=0.1),
    heads=dict(defects=dict(type="DefectHead", in_channels=128)),
)
_data = dict(type="DefectData", data_root="", size=32)
train_dataloader = dict(
    batch_size=4, batch_sampler=dict(type="BalancedBatches"), dataset=dict(split="train", **_data)
)
val_dataloader = dict(batch_size=8, dataset=dict(split="val", **_data))
val_evaluator = dict(type="DefectMetric")
train_cfg = dict(type="StepLoop", max_steps=24, val_steps=8)
optim_wrapper = dict(
    type="GuardedOptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3),
    clip_grad=dict(max_norm=1.0),
    constructor="LayerDecay",
    paramwise_cfg=dict(layer_decay=0.8),
)
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=False, end=24, eta_min=0)]
custom_hooks = [dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.02)]
select = dict(metric="mean_recall", rule="greater", patience=0)
log_every = 4
keep_every = 5
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inducts")
    write_inducts(root)
    return root


@pytest.fixture
def order(data: Path, tmp_path: Path) -> Any:
    config = tmp_path / "small.py"
    config.write_text(CONFIG)

    def make(name: str = "run", *changes: str, **options: Any) -> Order:
        given = {"data": data, "out": tmp_path / name, "changes": changes, **options}
        return Order(task="defects", config=str(config), **given)

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights(run: Path, name: str = "last.pth", part: str = "state_dict") -> dict[str, Any]:
    found: dict[str, Any] = load(run / name)[part]
    return {k: v for k, v in found.items() if isinstance(v, torch.Tensor)}


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert [k for k in one if not torch.equal(one[k], other[k])] == []


@contextmanager
def interrupted_before(step: int) -> Iterator[None]:
    """Ctrl-C in front of a step, counted from 1."""
    real = StepLoop._step

    def maybe(self: Any, batch: Any) -> None:
        if self._iter == step - 1:
            raise KeyboardInterrupt
        real(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepLoop, "_step", maybe)
        yield


def command(order: Order, *before: str) -> list[str]:
    changes = [word for c in order.changes for word in ("--set", c)]
    program = before or (sys.executable,)
    return [*program, "-m", "robollm.cli.main", "train", order.task, "--config", order.config,
            "--data", str(order.data), "--out", str(order.out), *changes]  # fmt: skip


def one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


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


def test_a_loss_that_is_no_number_stops_training_and_names_the_samples(
    order: Any, data: Path
) -> None:
    bad = order("bad", "optim_wrapper.optimizer.lr=1e30", "param_scheduler=None")
    with pytest.raises(TrainingError, match=r"step \d+: the (loss|gradient) is .*samples .*\d{21}"):
        train(bad)
    last = [r for r in read_metrics(bad.out) if "lr" in r]
    assert all(r["lr"] == 1e30 for r in last)


def test_a_checkpoint_is_never_written_after_a_loss_that_is_no_number(order: Any) -> None:
    bad = order("bad", "optim_wrapper.optimizer.lr=1e30", "param_scheduler=None", "keep_every=1")
    with pytest.raises(TrainingError):
        train(bad)
    kept = load(bad.out / "last.pth")
    assert kept["meta"]["iter"] < 24
    with pytest.raises(TrainingError, match="this step was not taken"):
        train(bad)  # resumes before the step, meets the same loss, and says so again


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


def test_training_stops_when_validation_no_longer_improves_and_keeps_the_best(order: Any) -> None:
    still = ("optim_wrapper.optimizer.lr=0.0", "param_scheduler=None")
    length = ("train_cfg.val_steps=2", "train_cfg.max_steps=200")
    stopped = order("stopped", "select.patience=2", *length, *still)
    done = train(stopped)
    assert done["steps"] == 6  # the first is best, two without gain
    assert done["best"]["step"] == 2
    assert load(stopped.out / "best.pth")["selected"]["step"] == 2
    assert train(stopped)["steps_of_this_run"] == 0  # and a restart doesn't forget


def test_the_best_checkpoint_measures_again_what_was_measured(order: Any, data: Path) -> None:
    done = train(order())
    again = evaluate(order().out, data, "val")
    assert again["step"] == done["best"]["step"]
    assert {**again["metrics"], "step": again["step"]} == pytest.approx(done["best"])
    assert evaluate(order().out, data, "test")["metrics"]["images"] == 6


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


def test_pictures_that_can_not_be_read_are_replaced_counted_and_reported(
    order: Any, tmp_path: Path
) -> None:
    root = tmp_path / "damaged"
    write_inducts(root)
    pictures = sorted((root / armbench_defects.IMAGE_ROOT / "data").glob("*/*.jpg"))
    for path in pictures:
        if path.stem.endswith("_1"):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = train(order("run", "train_cfg.max_steps=6", "train_cfg.val_steps=3", data=root))
    assert done["problems"]["truncated_image"] > 6
    assert done["best"]["images"] == 6  # of 12: the damaged ones are not judged
    text = (order().out / "problems.txt").read_text()
    assert "truncated_image" in text
    assert ".jpg" in text
    again = train(order("run", "train_cfg.max_steps=6", "train_cfg.val_steps=3", data=root))
    assert again["problems"] == done["problems"]  # a restart forgets nothing
    assert (order().out / "problems.txt").read_text() == text


def test_a_run_folder_says_what_the_run_was(order: Any) -> None:
    train(order("run", "train_cfg.max_steps=4", seed=11))
    run = json.loads((order().out / "run.json").read_text())
    assert run["seed"] == 11
    assert run["trained_parameters"] == run["parameters"] > 100_000
    assert run["samples"] == {"train": 18, "val": 12}
    assert set(run["starts"][0]["packages"]) >= {"torch", "mmdet", "numpy"}
    assert (order().out / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert "lr" in (order().out / "metrics.csv").read_text().splitlines()[0]
    assert "max_steps=4" in (order().out / "config.py").read_text()
    assert (order().out / "problems.txt").read_text() == "none\n"


def test_float16_gives_up_on_gradients_that_no_loss_scale_helps() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    wrapper = GuardedOptimWrapper(amp="float16", optimizer=torch.optim.SGD([weight], 0.1))
    weight.register_hook(lambda g: g * math.nan)

    def many() -> None:
        for _ in range(100):
            wrapper.update_params((weight**2).sum())

    with pytest.raises(NotFiniteError, match="gradient is nan"):
        many()
    assert torch.equal(weight.detach(), torch.ones(2))


def test_a_schedule_by_epochs_moves_at_each_epoch(order: Any) -> None:
    steps = "param_scheduler=[{'type': 'MultiStepLR', 'milestones': [1, 3], 'gamma': 0.1}]"
    run = order("run", steps, "train_cfg.max_steps=16", "log_every=4")  # epochs of 4 steps
    train(run)
    rates = [r["lr"] for r in read_metrics(run.out) if "lr" in r]
    assert rates == pytest.approx([1e-3, 1e-4, 1e-4, 1e-5])


def test_a_run_whose_validation_gives_no_number_fails(order: Any) -> None:
    METRICS.register_module(name="NoNumber", module=NoNumber, force=True)
    with pytest.raises(TrainingError, match=r"no validation gave a finite nothing"):
        train(order("run", "val_evaluator.type=NoNumber", "select.metric=nothing",
                    "train_cfg.max_steps=2"))  # fmt: skip


class NoNumber(BaseMetric):  # type: ignore[misc]
    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        return {"nothing": math.nan}


@pytest.mark.parametrize("amp", ["bfloat16", "float16"])
def test_mixed_precision_trains_and_keeps_weights_in_full_precision(order: Any, amp: str) -> None:
    run = order("run", f"optim_wrapper.amp={amp}", "train_cfg.max_steps=6")
    train(run)
    assert {v.dtype for v in weights(run.out).values()} == {torch.float32}
    losses = [v for r in read_metrics(run.out) for k, v in r.items() if k.endswith("/loss")]
    assert losses
    assert None not in losses


def test_tensorboard_events_are_written_when_asked_for(order: Any) -> None:
    train(order("run", "train_cfg.max_steps=4", tensorboard=True))
    assert list((order().out / "tensorboard").rglob("events.out.tfevents.*"))


def test_a_schedule_in_shares_fits_a_run_of_any_length(order: Any) -> None:
    shares = (
        "param_scheduler=[{'type': 'LinearLR', 'start_factor': 0.5, 'by_epoch': False, 'end': 0.5}]"
    )
    for steps in (4, 8):
        run = order(f"run{steps}", shares, f"train_cfg.max_steps={steps}", "log_every=1")
        train(run)
        rates = [r["lr"] for r in read_metrics(run.out) if "lr" in r]
        assert rates[-1] == pytest.approx(1e-3)
        if steps == 8:  # half way it is over
            assert rates[:4] == sorted(rates[:4])
            assert rates[3:] == pytest.approx([1e-3] * 5)


def test_several_metrics_are_selected_by_their_mean(order: Any) -> None:
    done = train(order("run", "select.metric=['accuracy', 'mean_recall']", "train_cfg.max_steps=4"))
    assert done["selected_by"] == "mean of accuracy, mean_recall"
    kept = load(order().out / "best.pth")["selected"]
    both = (done["best"]["accuracy"] + done["best"]["mean_recall"]) / 2
    assert kept["best"] == pytest.approx(both)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("optimm.lr=1", "the config has no 'optimm'"),
        ("train_cfg", "no KEY=VALUE"),
        ("optim_wrapper.amp=int4", "amp is 'int4'"),
        ("keep_evry=1", "nobody reads the key 'keep_evry'\n  fix: did you mean 'keep_every'"),
        ("train_dataloader.batchsize=1", "nobody reads the key 'train_dataloader.batchsize'"),
        ("param_scheduler.3=4", "no 'param_scheduler.3'\n  fix: the list has 1 entries"),
        ("log_every.x=4", "nothing can be set inside it"),
        ("select.patince=1", "patince"),
        ("optim_wrapper.clip_grad={'clip_value': 1.0}", "want max_norm"),
        ("select.metric=speed", "select.metric is 'speed'; validation gave"),
        ("train_cfg.max_epochs=3", "want one of each pair"),
    ],
)
def test_a_wrong_setting_is_named(order: Any, change: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        train(order("run", change))


def test_an_unknown_config_lists_those_that_are_there(order: Any) -> None:
    with pytest.raises(ConfigError, match=r"defects has no config 'huge'\n  fix: .*defects_beit3-"):
        train(Order(task="defects", config="huge", data=order().data, out=order().out))
