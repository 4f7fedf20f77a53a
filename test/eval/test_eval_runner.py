from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import counting_desk
import psutil
import pytest
from counting_desk import CARD, STREAM, CountingDesk, CountingJob, DeadDesk, NoDesk, OtherDesk, jobs

from robollm.core.errors import EvalError, ModelFileError
from robollm.core.settings import RuntimeConfig
from robollm.eval import runner
from robollm.eval.records import DefectRecord
from robollm.eval.run_folder import RunFolder
from robollm.eval.runner import Progressed, predict
from robollm.eval.settings import of_a_worker, station_settings


@pytest.fixture
def run(tmp_path):
    with RunFolder.create_or_resume(tmp_path / "run", CARD) as made:
        yield made


def card_of(folder):
    return json.loads((folder / "run.json").read_bytes())


def records(folder):
    return list(RunFolder.open(folder).records(STREAM))


def want(count):
    """What a run of `count` jobs must hold: the slow way, in this process."""
    desk = CountingDesk()
    return [desk.run(job) for job in jobs(count)]


def go(run, some, make=CountingDesk, *, workers=1, **more):
    return predict(run, STREAM, some, make, (), workers=workers, **more)


def counts(progressed: Progressed):
    return progressed.done, progressed.skipped, progressed.failed


# what becomes of jobs


def test_two_processes_write_the_records_that_one_desk_would_and_again_is_no_work(run):
    assert counts(go(run, jobs(40), workers=2)) == (40, 0, 0)
    assert list(run.records(STREAM)) == want(40)
    assert counts(go(run, jobs(40), DeadDesk)) == (0, 40, 0), "no desk is made"
    run.finish()
    assert card_of(run.path)["streams"] == {STREAM: {"samples": 40, "done": 40, "failed": {}}}
    assert card_of(run.path)["complete"]
    assert run.partial_reasons() == []


def test_what_fails_is_a_record_with_its_truth_and_a_kind_and_the_rest_goes_on(run):
    some = jobs(12, n2="bad image", n3="bad model", n5="die", n7="bug", n8="no file")
    assert counts(go(run, some, workers=2)) == (7, 0, 5)
    seen = {int(r.key): r for r in run.records(STREAM)}
    errors = {n: r.error["kind"] for n, r in seen.items() if r.error}
    assert errors == {2: "bad_image", 3: "inference", 5: "worker_died", 7: "bug", 8: "unreadable"}
    assert seen[2].error["what"] == "image 2 is no image"
    assert seen[5].error["what"] == "a worker process ended with code 9 during '00005'"
    assert seen[7].error["what"].endswith("IndexError: list index out of range\n")
    assert "gone.jpg" in seen[8].error["what"]
    assert all(r.label == "nominal" for r in seen.values())
    assert [seen[n] for n in range(12) if n not in errors] == [
        r for r in want(12) if int(r.key) not in errors
    ]
    run.finish()
    assert card_of(run.path)["complete"], "every sample has a record"
    [reason] = run.partial_reasons()
    assert reason == (
        "5 of 12 samples of defects have no answer and count as wrong: 1 bad_image, 1 bug, "
        "1 inference, 1 unreadable, 1 worker_died"
    )


def test_samples_that_failed_are_tried_again_and_a_good_record_replaces_the_error(run):
    assert counts(go(run, jobs(6, n1="die", n4="bad image"))) == (4, 0, 2)
    assert counts(go(run, jobs(6, n4="bad image"))) == (1, 4, 1)
    assert [r.key for r in run.records(STREAM) if r.error] == ["00004"]
    assert run.card["streams"][STREAM] == {"samples": 6, "done": 5, "failed": {"bad_image": 1}}
    assert len(run.damage(STREAM)) == 0, "an error's second record is no duplicate"


def test_a_desk_that_can_not_be_made_ends_the_run_and_leaves_no_records(run):
    with pytest.raises(ModelFileError, match="the bundle is not there") as e:
        go(run, jobs(5), NoDesk, workers=2)
    assert e.value.fix == "make one"
    assert run.keys(STREAM) == run.keys(STREAM, failed=True) == set()


def test_processes_that_all_die_are_an_error_and_not_a_long_list_of_lost_samples(run, monkeypatch):
    monkeypatch.setattr(runner, "DEATHS", 2)
    with pytest.raises(EvalError, match="3 worker processes in a row died") as e:
        go(run, jobs(9), DeadDesk)
    assert "fewer --workers" in e.value.fix
    assert run.keys(STREAM, failed=True) == {"00000", "00001"}


def test_when_nothing_at_all_works_the_run_stops_early(run, monkeypatch):
    monkeypatch.setattr(runner, "FIRST", 5)
    bad = [CountingJob(n, "bad image") for n in range(50)]
    with pytest.raises(EvalError, match=r"first 5 samples .* all failed, .*bad_image: image 4 is"):
        go(run, bad)
    some = [*jobs(1), *bad[1:]]
    assert counts(go(run, some)) == (1, 0, 49), "one that works is enough to go on"


def test_a_second_job_of_one_key_is_left_out_and_counted(run):
    assert counts(go(run, [*jobs(4), CountingJob(2)])) == (4, 0, 0)
    assert run.card["streams"][STREAM]["samples"] == 4
    assert run.card["problems"]["counts"] == {"duplicate_key": 1}


def test_jobs_and_records_go_through_and_never_pile_up_in_memory(run):
    made = written = most = 0

    def lazily():
        nonlocal made
        for job in jobs(300):
            made += 1
            yield job

    class Watch:
        def begin(self, label, total, done=0):
            assert (label, total, done) == (STREAM, 300, 0)

        def advance(self, *, failed=False):
            nonlocal written, most
            written += 1
            most = max(most, made - written)

        def say(self, line):
            pass

        def end(self):
            pass

    tracemalloc.start()
    try:
        predict(
            run, STREAM, lazily(), CountingDesk, (100_000,), workers=2, progress=Watch(), total=300
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (made, written) == (300, 300)
    assert most <= 3, "no more than the two at work and the next"
    assert peak < 3_000_000, "of 30 MB"


def test_a_desk_that_answers_another_question_is_found_out(run, monkeypatch):
    monkeypatch.setattr(runner, "FIRST", 3)
    with pytest.raises(EvalError, match="record '00003' of job '00002'"):
        go(run, jobs(3), OtherDesk)
    with pytest.raises(EvalError, match="is not the stream's"):
        predict(run, "picks", jobs(3), CountingDesk, (), workers=1)


# ends that nobody chose


def program(out: Path, count: int, blocked: int = -1, file_size: int = 0, **more):
    words = [sys.executable, counting_desk.__file__, out, count, blocked, file_size]
    return subprocess.Popen([*map(str, words)], stderr=subprocess.PIPE, text=True, **more)


def wait_for_records(folder: Path, count: int, child: subprocess.Popen) -> None:
    file = folder / "records" / f"{STREAM}.0.jsonl"
    end = time.monotonic() + 60
    while not (file.exists() and file.read_bytes().count(b"\n") >= count):
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < end, "no progress"
        time.sleep(0.01)


def wait_until_nobody_is_left_of(group: int) -> None:
    end = time.monotonic() + 30
    while left := [
        p.pid
        for p in psutil.process_iter(["status"])
        if p.info["status"] != psutil.STATUS_ZOMBIE and group_of(p.pid) == group
    ]:
        assert time.monotonic() < end, f"{left} still run"
        time.sleep(0.02)


def group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def test_a_run_that_is_killed_goes_on_and_ends_as_one_that_was_not(tmp_path):
    out = tmp_path / "run"
    # The first job never ends: its worker holds it when the kill comes. The other does the rest.
    child = program(out, 60, 0)
    try:
        wait_for_records(out, 20, child)
    finally:
        child.kill()
        err = child.communicate()[1]
    assert "Traceback" not in err  # workers end without a word when nobody listens any more
    card = card_of(out)
    assert not card["complete"]
    assert "still runs, or was killed" in card["reason"]
    torn = out / "records" / f"{STREAM}.0.jsonl"
    with torn.open("ab") as f:
        f.write(b'{"key":"00059","error":null,"indu')  # as a kill within a write leaves it
    before = len(RunFolder.open(out).keys(STREAM))
    assert 20 <= before < 60
    with RunFolder.create_or_resume(out, CARD) as run:
        assert counts(go(run, jobs(60))) == (60 - before, before, 0)
    assert records(out) == want(60)
    assert torn.read_bytes().count(b"\n") == 60
    card = card_of(out)
    assert card["complete"]
    assert len(card["sessions"]) == 1
    assert card["problems"]["counts"] == {"torn_line": 1}


@pytest.mark.parametrize(
    ("sign", "count"), [(signal.SIGINT, 0), (signal.SIGINT, 5), (signal.SIGTERM, 5)]
)
def test_ctrl_c_ends_it_with_130_and_says_how_to_go_on(tmp_path, sign, count):
    out = tmp_path / "run"
    child = program(out, 30, 0, start_new_session=True)
    wait_for_records(out, count, child)  # 0: while the workers are being started
    if sign == signal.SIGINT:
        os.killpg(child.pid, sign)  # a terminal tells the workers, too
    else:
        child.send_signal(sign)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert err.splitlines() == [
        f"interrupted: what is done is kept in '{out}'; the same command goes on from there"
    ]
    assert card_of(out)["reason"] == "interrupted"
    wait_until_nobody_is_left_of(child.pid)
    kept = RunFolder.open(out).keys(STREAM)
    with RunFolder.create_or_resume(out, CARD) as run:
        assert counts(go(run, jobs(30)))[1] == len(kept) >= count
    assert records(out) == want(30)


def test_a_full_disk_is_a_clear_error_and_what_was_written_stays(tmp_path):
    out = tmp_path / "run"

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    child = program(out, 40, -1, 1000, preexec_fn=little)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 1
    assert "EvalError: no room to write defects.0.jsonl: File too large" in err
    assert "make room, then run the same command again" in err
    assert card_of(out)["reason"].startswith("stopped: no room to write")
    kept = records(out)
    assert 10 <= len(kept) <= 20
    with RunFolder.create_or_resume(out, CARD) as run:
        assert predict(run, STREAM, jobs(40), CountingDesk, (1000,), workers=1).skipped == len(kept)
    assert {r.key: r for r in records(out)}.items() >= {r.key: r for r in kept}.items()
    assert len(records(out)) == 40
    assert all(isinstance(r, DefectRecord) and not r.error for r in records(out))


def test_a_worker_at_home_in_another_folder_finds_bundle_gallery_and_manifest(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    asked = station_settings(
        None, (), {"bundle": "b", "gallery": "g", "manifest": "m.json", "threads": 0}
    )
    mine = asked.of_a_worker()
    places = (mine.runtime.bundle, mine.identification.gallery, mine.identification.manifest)
    assert places == tuple(str(tmp_path / name) for name in ("b", "g", "m.json"))
    assert mine.runtime.threads == 1
    assert of_a_worker(RuntimeConfig()).bundle == ""
