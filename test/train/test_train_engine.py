"""The engine: guarding, selecting, writing down; on the real defect parts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_world import write_inducts
from engine_kit import weights
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from robollm.core.errors import ConfigError, TrainingError
from robollm.data import armbench_defects
from robollm.train.engine.journal import read_metrics
from robollm.train.engine.optim import GuardedOptimWrapper, NotFiniteError
from robollm.train.engine.runner import load
from robollm.train.evaluate import evaluate
from robollm.train.run import Order, train


def test_a_loss_that_is_no_number_stops_training_and_names_the_samples(
    order: Any, drawn_inducts: Path
) -> None:
    bad = order("bad", "optim_wrapper.optimizer.lr=1e30", "param_scheduler=None")
    with pytest.raises(TrainingError, match=r"step \d+: the (loss|gradient) is .*samples .*\d{21}"):
        train(bad)
    last = [r for r in read_metrics(bad.out) if "lr" in r]
    assert all(r["lr"] == 1e30 for r in last)


def test_training_stops_when_validation_no_longer_improves_and_keeps_the_best(order: Any) -> None:
    still = ("optim_wrapper.optimizer.lr=0.0", "param_scheduler=None")
    length = ("train_cfg.val_steps=2", "train_cfg.max_steps=200")
    stopped = order("stopped", "select.patience=2", *length, *still)
    done = train(stopped)
    assert done["steps"] == 6  # the first is best, two without gain
    assert done["best"]["step"] == 2
    assert load(stopped.out / "best.pth")["selected"]["step"] == 2
    assert train(stopped)["steps_of_this_run"] == 0  # and a restart doesn't forget


def test_the_best_checkpoint_measures_again_what_was_measured(
    order: Any, drawn_inducts: Path
) -> None:
    done = train(order())
    again = evaluate(order().out, drawn_inducts, "val")
    assert again["step"] == done["best"]["step"]
    assert {**again["metrics"], "step": again["step"]} == pytest.approx(done["best"])
    assert evaluate(order().out, drawn_inducts, "test")["metrics"]["images"] == 6


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
    done = train(order("run", "train_cfg.max_steps=4", seed=11))
    run = json.loads((order().out / "run.json").read_text())
    assert run["seed"] == 11
    assert run["trained_parameters"] == run["parameters"] > 100_000
    assert run["samples"] == {"train": 18, "val": 12}
    assert set(run["starts"][0]["packages"]) >= {"torch", "mmdet", "numpy"}
    assert (order().out / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert "lr" in (order().out / "metrics.csv").read_text().splitlines()[0]
    assert "max_steps=4" in (order().out / "config.py").read_text()
    # Nothing but what these boxes can't tell: corners, or a corner and a size.
    assert done["problems"] == {"box_form": 2}
    assert (order().out / "problems.txt").read_text().startswith("2 x box_form\n")


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
