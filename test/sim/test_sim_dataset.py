from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from paper_studio import BrokenStudio, PaperStudio

from robollm.core.errors import ConfigError, RobollmError
from robollm.data import armbench_identification
from robollm.sim.dataset import make as module
from robollm.sim.dataset.card import catalogues
from robollm.sim.dataset.make import make_dataset
from robollm.sim.dataset.plan import (
    EVENTS,
    TASKS,
    DatasetSettings,
    identity,
    induct_of,
    name_of,
    plan,
    split_counts,
)
from robollm.sim.dataset.workers import WorkerError

HERE = Path(__file__).parent
TINY = DatasetSettings(
    totes=6, variants=2, picks=8, products=30, size="96x80", view_size="64x64", seed=5
)


def digest(folder):
    """Every file of a dataset with its sha256, but for the lock."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "lock"
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A dataset made in one go, by two workers."""
    folder = tmp_path_factory.mktemp("whole")
    made = make_dataset(folder, TINY, workers=2, studio=PaperStudio)
    assert made.fresh == made.jobs == 6 + 8 + 30
    return folder, digest(folder)


# plan


def test_every_job_has_a_key_of_its_own_and_the_shares_are_kept():
    settings = DatasetSettings(totes=100, picks=200, products=60, task=TASKS, videos=0.5)
    jobs = plan(settings)
    assert len({j.key for j in jobs}) == len(jobs) == 360
    picks = [j for j in jobs if j.kind == "pick"]
    assert {e: sum(j.event == e for j in picks) for e in EVENTS} == {
        "nominal": 120, "multi_pick": 40, "open": 20, "deconstruction": 20,
    }  # fmt: skip
    assert {j.event for j in picks if j.split == "val"} == set(EVENTS)
    assert {j.event for j in picks if j.video} == {"nominal", "open", "deconstruction"}
    transfer = [j for j in jobs if j.subset.startswith("zoomed")]
    assert len(transfer) == 10
    assert sum(j.split == "test" for j in transfer) == 8


def test_names_tell_nothing_and_are_never_the_same():
    jobs = [j for j in plan(DatasetSettings()) if j.kind != "product"]
    names = [name_of(DatasetSettings(), j, v) for j in jobs for v in range(2)]
    assert len(set(names)) == len(names)
    assert {len(n) for n in names} == {10}
    inducts = [induct_of(DatasetSettings(), j) for j in jobs]
    assert len(set(inducts)) == len(inducts)
    assert {len(n) for n in inducts} == {21}


@pytest.mark.parametrize("count", range(9))
def test_a_split_loses_nothing_and_three_or_more_fill_all(count):
    counts = split_counts(count, 0.1, 0.2)
    assert sum(counts.values()) == count
    assert min(counts.values()) >= (1 if count >= 3 else 0)


def test_no_product_family_or_brand_is_in_two_splits():
    sets = catalogues(dataclasses.replace(TINY, products=120)).values()
    for one, other in itertools.combinations(sets, 2):
        for what in ("id", "family", "brand"):
            assert not {getattr(p, what) for p in one} & {getattr(p, what) for p in other}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": ()}, "task is empty"),
        ({"task": ("segmentation", "flight")}, "task is flight"),
        ({"split": ()}, "split is empty"),
        ({"split": ("test", "exam")}, "split is exam"),
        ({"size": "640"}, "size is '640', want WIDTHxHEIGHT"),
        ({"view_size": "10x10"}, "64 to 4096"),
        ({"multi_pick": 0.7, "package_defect": 0.7}, "shares of one whole"),
        ({"totes": -1}, "totes"),
    ],
)
def test_settings_out_of_range_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        dataclasses.replace(TINY, **change)


# runs


def test_one_split_alone_has_the_same_pictures_as_within_the_whole(whole, tmp_path):
    alone = dataclasses.replace(TINY, split=("test",))
    made = make_dataset(tmp_path / "d", alone, workers=1, studio=PaperStudio)
    jobs = [j for j in plan(TINY) if j.split == "test"]
    assert made.jobs == len(jobs)
    pictures = {k: v for k, v in digest(tmp_path / "d").items() if k.endswith(".jpg")}
    assert pictures
    assert pictures.items() <= whole[1].items()
    (listed,) = (tmp_path / "d").glob("*image*/test.csv")
    assert listed.read_bytes() == (whole[0] / listed.relative_to(tmp_path / "d")).read_bytes()


def test_one_worker_makes_the_same_bytes_as_two(whole, tmp_path):
    make_dataset(tmp_path / "d", TINY, workers=1, studio=PaperStudio)
    assert digest(tmp_path / "d") == whole[1]


def test_a_killed_run_goes_on_to_the_same_bytes_and_does_nothing_twice(whole, tmp_path):
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
from paper_studio import PaperStudio
from robollm.sim.dataset.make import make_dataset
from robollm.sim.dataset.plan import DatasetSettings
def progress(*, jobs, of, pictures, fresh):
    if fresh == 12:
        print(os.getpid(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    make_dataset(Path(sys.argv[1]), {TINY!r}, workers=1, studio=PaperStudio, progress=progress)
"""
    script = tmp_path / "run.py"
    script.write_text(code)
    folder = tmp_path / "d"
    done = subprocess.run([sys.executable, script, folder], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr.decode()
    records = set((folder / ".jobs").glob("*-*.json"))
    assert 12 <= len(records) < 44
    (folder / ".jobs" / ".half.json.1.tmp").write_text("{")
    stamps = {p: p.stat().st_mtime_ns for p in records}
    made = make_dataset(folder, TINY, workers=1, studio=PaperStudio)
    # The worker may have finished the job at hand after the parent's death.
    assert 0 < made.fresh <= made.jobs - len(records)
    assert {p: p.stat().st_mtime_ns for p in records} == stamps
    assert digest(folder) == whole[1]


def test_ctrl_c_ends_the_workers_and_the_same_call_goes_on(whole, tmp_path):
    def progress(*, jobs, of, pictures, fresh):
        if fresh == 5:
            raise KeyboardInterrupt

    before = set(psutil.Process().children())
    with pytest.raises(KeyboardInterrupt):
        make_dataset(tmp_path / "d", TINY, workers=2, studio=PaperStudio, progress=progress)
    # Python's resource tracker stays; a worker doesn't.
    left = [p for p in set(psutil.Process().children()) - before
            if "spawn_main" in " ".join(p.cmdline())]  # fmt: skip
    assert left == []
    make_dataset(tmp_path / "d", TINY, workers=2, studio=PaperStudio)
    assert digest(tmp_path / "d") == whole[1]


def test_a_finished_dataset_is_left_as_it_is(whole):
    folder, files = whole
    made = make_dataset(folder, TINY, workers=1, studio=PaperStudio)
    assert (made.fresh, made.pictures) == (0, 0)
    assert digest(folder) == files


def test_another_seed_in_the_same_folder_is_refused_and_named(whole):
    folder, files = whole
    with pytest.raises(ConfigError, match="holds a dataset with seed 5, not 6"):
        make_dataset(folder, dataclasses.replace(TINY, seed=6), studio=PaperStudio)
    assert digest(folder) == files


def test_another_version_in_the_same_folder_is_refused(whole, monkeypatch):
    def older(settings, fonts):
        return {**identity(settings, fonts), "robollm": "0.0.1"}

    monkeypatch.setattr(module, "identity", older)
    with pytest.raises(ConfigError, match=r"not '0\.0\.1'"):
        make_dataset(whole[0], TINY, studio=PaperStudio)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="not empty and holds no dataset"):
        make_dataset(tmp_path, TINY, studio=PaperStudio)
    with pytest.raises(ConfigError, match="is a file"):
        make_dataset(tmp_path / "letter.txt", TINY, studio=PaperStudio)


def test_a_folder_that_another_run_works_in_is_refused(tmp_path):
    with (
        module._folder(tmp_path / "d", TINY),
        pytest.raises(ConfigError, match="another process is making"),
    ):
        make_dataset(tmp_path / "d", TINY, studio=PaperStudio)


# disasters


def test_too_small_a_disk_is_noticed_before_the_first_job(tmp_path, monkeypatch):
    real = os.statvfs

    def small(path):
        values = list(real(path))
        values[4] = 1  # f_bavail
        return os.statvfs_result(values)

    monkeypatch.setattr(module.os, "statvfs", small)
    with pytest.raises(ConfigError, match=r"pictures need about .* GiB free"):
        make_dataset(tmp_path / "d", TINY, studio=PaperStudio)
    assert not list((tmp_path / "d" / ".jobs").glob("*-*.json"))


@pytest.mark.parametrize(
    ("seed", "kind", "words"),
    [
        (1, ConfigError, "disk of .* is full\n  fix: free some space and run the same"),
        (2, WorkerError, "worker process ended with code 9 during Job"),
        (3, ConfigError, "no such thing\n  fix: ask for another"),
        (4, WorkerError, "ZeroDivisionError: a bug"),
    ],
)
def test_a_disaster_in_a_worker_is_one_clear_error(tmp_path, seed, kind, words):
    settings = dataclasses.replace(TINY, seed=seed, picks=0, task=("segmentation",))
    with pytest.raises(RobollmError, match=words) as e:
        make_dataset(tmp_path / "d", settings, workers=1, studio=BrokenStudio)
    assert type(e.value) is kind


# content


def test_the_split_of_the_picks_keeps_products_apart(whole):
    root = whole[0] / armbench_identification.ROOT
    split = armbench_identification.read_split(root)
    for subset in ("train", "test"):
        objects = set(split[f"{subset}set-objects"])
        for pick in armbench_identification.read_picks(root, split[f"{subset}set"]):
            assert pick.truth in pick.manifest
            assert set(pick.manifest) <= objects
    assert not set(split["trainset-objects"]) & set(split["testset-objects"])
    assert not set(split["trainset"]) & set(split["testset"])


def test_the_simulators_bytes_depend_on_neither_workers_nor_an_interruption(tmp_path):
    settings = dataclasses.replace(
        TINY, totes=3, variants=1, picks=2, max_items=4, size="160x120", view_size="96x96",
        task=("segmentation", "defects"),
    )  # fmt: skip

    def progress(*, jobs, of, pictures, fresh):
        if fresh == 2:
            raise KeyboardInterrupt

    make_dataset(tmp_path / "a", settings, workers=2)
    with pytest.raises(KeyboardInterrupt):
        make_dataset(tmp_path / "b", settings, workers=1, progress=progress)
    made = make_dataset(tmp_path / "b", settings, workers=1)
    assert 0 < made.fresh <= 3
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


class UnwillingStudio(PaperStudio):
    """Can't do the picks."""

    def pick(self, job, rng):
        return {"pictures": 0, "skipped": "it went otherwise"}


def test_a_job_that_can_not_be_done_is_counted_and_stops_nothing(tmp_path):
    made = make_dataset(tmp_path, TINY, workers=1, studio=UnwillingStudio)
    assert made.card["jobs_skipped"] == {"pick": TINY.picks}
    split = armbench_identification.read_split(tmp_path / armbench_identification.ROOT)
    assert split["trainset"] == split["testset"] == []
    assert split["trainset-objects"]


def test_a_record_that_a_crash_left_empty_is_made_again(whole, tmp_path):
    folder, want = whole
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / ".jobs" / "pick-0000003.json").write_bytes(b"")
    made = make_dataset(tmp_path / "copy", TINY, workers=1, studio=PaperStudio)
    assert made.fresh == 1
    assert digest(tmp_path / "copy") == want
