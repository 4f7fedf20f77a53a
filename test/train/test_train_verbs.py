"""`robollm train VERB`, as a user starts it, on a tiny world; and several tasks on one encoder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from drawn_world import write_world
from mmengine.registry import MODELS, DefaultScope

from robollm.cli.main import app
from robollm.core.errors import ConfigError, ModelFileError
from robollm.train.adapters.files import load_adapter
from robollm.train.assemble import scope_of
from robollm.train.beit3.checkpoint import load_into
from robollm.train.beit3.encoder import Beit3Encoder
from robollm.train.config import TASKS, join_tasks, load, names
from robollm.train.engine.draws import Draw
from robollm.train.engine.runner import load as load_checkpoint
from robollm.train.multitask import AlternatingBatches, ManyData
from robollm.train.parts import register_parts
from robollm.train.run import Order, resolve

TINY = {
    "segmentation": (
        "model.backbone.encoder={'type': 'Beit3Encoder', 'variant': 'tiny', 'depth': 1}",
        "model.neck.in_channels=128",
        "train_dataloader.batch_sampler.batch_size=2",
        "train_dataloader.dataset.canvas_hw=(96, 128)",
        "val_dataloader.dataset.canvas_hw=(96, 128)",
    ),
    "identification": (
        "model.encoder.depth=1",
        "train_dataloader.batch_size=8",
        "train_dataloader.dataset.size=32",
        "val_dataloader.dataset.size=32",
    ),
    "defects": (
        "model.encoder.depth=1",
        "train_dataloader.batch_size=6",
        "train_dataloader.dataset.size=32",
        "val_dataloader.dataset.size=32",
    ),
    "multitask": (
        "model.encoder={'type': 'Beit3Encoder', 'variant': 'tiny', 'depth': 1}",
        "model.heads.segmentation.neck.in_channels=128",
        "model.heads.identification.dim=128",
        "model.heads.defects.in_channels=128",
        "train_dataloader.batch_sampler.plans.segmentation.batch_size=2",
        "train_dataloader.batch_sampler.plans.identification.batch_size=8",
        "train_dataloader.batch_sampler.plans.defects.batch_size=6",
        *(
            f"{loader}.dataset.datasets.{part}"
            for loader in ("train_dataloader", "val_dataloader")
            for part in (
                "segmentation.canvas_hw=(96, 128)",
                "identification.size=32",
                "defects.size=32",
            )
        ),
    ),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def words(task: str, world: Path, out: Path, steps: int, *changes: str) -> list[str]:
    length = (f"train_cfg.max_steps={steps}", f"train_cfg.val_steps={steps}")
    settings = [w for c in (*length, *TINY[task], *changes) for w in ("--set", c)]
    return ["train", task, "--data", str(world), "--out", str(out), *settings]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("task", TASKS)
def test_every_verb_trains_measures_and_leaves_a_run_folder(
    task: str, world: Path, tmp_path: Path
) -> None:
    program = [sys.executable, "-m", "robollm.cli.main"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    steps = 8 if task == "multitask" else 4
    done = subprocess.run([*program, *words(task, world, tmp_path / "run", steps)], env=env,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert said["steps"] == steps
    assert said["best"]["step"] == steps
    assert {p.name for p in (tmp_path / "run").iterdir()} >= {
        "config.py", "run.json", "metrics.jsonl", "metrics.csv", "curves.png", "problems.txt",
        "best.pth", "last.pth",
    }  # fmt: skip
    assert "validation:" in done.stderr
    assert "Traceback" not in done.stderr
    again = CliRunner().invoke(app, words(task, world, tmp_path / "run", steps))
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["steps_of_this_run"] == 0
    measured = CliRunner().invoke(
        app, ["train", "evaluate", str(tmp_path / "run"), "--data", str(world), "--split", "val"]
    )
    assert measured.exit_code == 0, measured.output
    found = {**json.loads(measured.stdout)["metrics"], "step": steps}
    assert found == pytest.approx(said["best"], nan_ok=True)


@pytest.mark.parametrize("name", [n for task in TASKS for n in names(task)])
def test_every_config_that_comes_with_robollm_builds_its_model(name: str) -> None:
    task = next(t for t in TASKS if name in names(t))
    register_parts(task)
    config = load(task, name)
    with DefaultScope.overwrite_default_scope(scope_of(task)), torch.device("meta"):
        model = MODELS.build(config.model)
    assert sum(p.numel() for p in model.parameters()) > 500_000
    for key in ("train_dataloader", "val_dataloader", "val_evaluator", "train_cfg", "select"):
        assert key in config


def test_tasks_take_turns_in_the_shares_that_were_asked_for(world: Path, tmp_path: Path) -> None:
    register_parts("multitask")
    changes = ("train_dataloader.batch_sampler.turns.segmentation=3", *TINY["multitask"])
    order = Order(task="multitask", config="small", data=world, out=tmp_path, changes=changes)
    part = resolve(order).train_dataloader
    many = ManyData(part["dataset"]["datasets"])
    options = {k: v for k, v in part["batch_sampler"].items() if k != "type"}
    plan = AlternatingBatches(many, **options)
    turns = [plan.turn(step)[0] for step in range(50)]
    assert Counter(turns) == {"segmentation": 30, "identification": 10, "defects": 10}
    assert all(turns[i : i + 5].count("segmentation") == 3 for i in range(0, 50, 5))
    again = AlternatingBatches(many, **options)
    assert again.batch(17) == plan.batch(17)  # asked for out of order: a resumed run
    for step in range(10):
        batch = plan.batch(step)
        assert {many[draw]["task"] for draw in batch} == {turns[step]}
        own = plan.plans[turns[step]].batch(plan.turn(step)[1])
        assert [Draw(d.position, d.item - many.offset(turns[step])) for d in batch] == own


def test_a_trained_detector_becomes_one_of_three_tasks_with_all_its_weights(
    world: Path, tmp_path: Path
) -> None:
    register_parts("multitask")
    first = tmp_path / "best.pth"
    alone = Order(
        task="segmentation", config="small", data=world, out=tmp_path, changes=TINY["segmentation"]
    )
    with DefaultScope.overwrite_default_scope(scope_of("multitask")):
        torch.save({"state_dict": MODELS.build(resolve(alone).model).state_dict()}, first)
    start = f"model.heads.segmentation.init_checkpoint={first}"
    order = Order(
        task="multitask", config="small", data=world, out=tmp_path / "more", init=str(first),
        changes=(*TINY["multitask"], start),
    )  # fmt: skip
    with DefaultScope.overwrite_default_scope(scope_of("multitask")):
        model = MODELS.build(resolve(order).model)
        model.init_weights()
        other = resolve(order).model
        other.heads.segmentation.roi_head.mask_head.num_convs = 3
        with pytest.raises(ModelFileError, match="doesn't fit this detector"):
            MODELS.build(other).init_weights()
    state = load_checkpoint(first)["state_dict"]
    detector = model.heads["segmentation"].detector.state_dict()
    names = [k for k in state if not k.startswith("backbone.")]
    assert sorted(names) == sorted(detector)
    assert [k for k in names if not torch.equal(state[k], detector[k])] == []
    encoder = {f"backbone.encoder.{k}": v for k, v in model.encoder.state_dict().items()}
    assert [k for k, v in encoder.items() if not torch.equal(v, state[k])] == []


@pytest.mark.timeout(300)
def test_three_adapters_on_one_frozen_encoder_are_trained_each_on_its_own_task(
    world: Path, tmp_path: Path
) -> None:
    before = words("multitask", world, tmp_path / "start", 1)
    adapted = ("model.adapters={'extractor': 4, 'enhancer': 8}",)
    assert CliRunner().invoke(app, before).exit_code == 0
    start = tmp_path / "start" / "best.pth"
    done = CliRunner().invoke(
        app, [*words("multitask", world, tmp_path / "run", 4, *adapted), "--init", str(start)]
    )
    assert done.exit_code == 0, done.output
    first = load_checkpoint(start)["state_dict"]
    last = load_checkpoint(tmp_path / "run" / "last.pth")["state_dict"]
    frozen = [k for k in first if k.startswith("encoder.")]
    assert frozen
    assert [k for k in frozen if not torch.equal(first[k], last[k])] == []
    for task in ("segmentation", "identification", "defects"):
        rows = [v for k, v in last.items() if f".adapters.{task}." in k and "up" in k]
        assert rows
        assert any(v.abs().sum() > 0 for v in rows), task  # they start at 0
        encoder = Beit3Encoder("tiny", depth=1)
        load_into(encoder, start)
        assert load_adapter(encoder, tmp_path / "run" / f"adapter-{task}.pth") == task
    again = [*words("multitask", world, tmp_path / "run", 1), "--fresh"]
    assert CliRunner().invoke(app, again).exit_code == 0
    assert list((tmp_path / "run").glob("adapter-*")) == []  # they were another run's


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("segmentation", ()),
        ("multitask", ("model.adapters={'extractor': 4, 'enhancer': 8}",)),
    ],
)
def test_two_processes_train_together_and_part_in_peace(
    task: str, changes: tuple[str, ...], world: Path, tmp_path: Path
) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    program = [sys.executable, *torchrun, "-m", "robollm.cli.main"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*program, *words(task, world, tmp_path / "run", 4, *changes)], env=env,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    [line] = done.stdout.strip().splitlines()  # the first process speaks for all
    assert json.loads(line)["steps"] == 4
    assert load_checkpoint(tmp_path / "run" / "last.pth")["plan"]["processes"] == 2


def test_one_encoder_is_in_the_checkpoint_once(world: Path, tmp_path: Path) -> None:
    assert CliRunner().invoke(app, words("multitask", world, tmp_path, 1)).exit_code == 0
    state = load_checkpoint(tmp_path / "best.pth")["state_dict"]
    assert [k for k in state if "patch_embed.weight" in k] == ["encoder.patch_embed.weight"]


def test_measuring_identification_draws_its_embedding_space(world: Path, tmp_path: Path) -> None:
    run, pictures = tmp_path / "run", tmp_path / "pictures"
    assert CliRunner().invoke(app, words("identification", world, run, 2)).exit_code == 0
    measure = ["train", "evaluate", str(run), "--data", str(world), "--embeddings", str(pictures)]
    done = CliRunner().invoke(app, measure)
    assert done.exit_code == 0, done.output
    assert {p.name for p in pictures.iterdir()} == {"run-test.json", "run-test.png"}
    found = json.loads((pictures / "run-test.json").read_text())
    assert 0 < found["isotropy"] <= 1
    assert done.exit_code == 0
    other = tmp_path / "defects"
    assert CliRunner().invoke(app, words("defects", world, other, 2)).exit_code == 0
    measure[2] = str(other)
    assert "has no embeddings" in str(CliRunner().invoke(app, measure).exception)


def test_the_joined_config_gives_each_head_the_width_of_the_shared_encoder() -> None:
    joined: dict[str, Any] = join_tasks(
        "small", turns={"segmentation": 1, "identification": 1, "defects": 1}
    )
    assert joined["model"]["encoder"]["variant"] == "small256"
    assert joined["model"]["heads"]["identification"]["dim"] == 256
    assert joined["model"]["heads"]["defects"]["in_channels"] == 256


def test_training_without_torch_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robollm.cli.train.importlib.util.find_spec", lambda name: None)
    run = CliRunner().invoke(app, ["train", "defects", "--data", ".", "--out", "x"])
    assert isinstance(run.exception, ConfigError)
    assert "make train-setup" in str(run.exception)
