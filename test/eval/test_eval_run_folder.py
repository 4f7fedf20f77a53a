from __future__ import annotations

import copy
import json
import math
import os
import re
from dataclasses import fields, replace

import numpy as np
import pytest
from counting_desk import CARD, STREAM, CountingDesk, CountingJob, jobs
from hypothesis import given
from hypothesis import strategies as st

from robollm.core.errors import EvalError, FrameError, InferenceError, RobollmError
from robollm.data.problems import Problems
from robollm.eval import records as kinds
from robollm.eval.journal import Index, Journal
from robollm.eval.records import as_error, from_line, named_error, pack_vector, unpack_vector
from robollm.eval.run_folder import RunFolder, open_journal

RLE = {"size": [4, 6], "counts": "05:1"}
ONE_OF_EACH = {
    "segmentation/mix-object-tote": kinds.SegmentationRecord(
        key="17",
        file="images/ü \u2028.jpg",
        hw=(4, 6),
        truth=[{"category": "Object", "bbox": [1, 2, 3, 2.5], "segmentation": RLE, "iscrowd": 0}],
        found=[{"category": "Tote", "bbox": [0, 0, 6, 4], "segmentation": RLE, "score": 0.25}],
        ms={"backbone": 12.5},
    ),
    "totes": kinds.SegmentationRecord(key="b/17", file="", hw=(0, 0), truth=[], found=[]),
    "identification": kinds.IdentificationRecord(
        key="p1",
        truth="B00",
        manifest=["B00", "B01"],
        files={"tote": "Picks/p1/PickRGB.jpg"},
        vectors={"n1": pack_vector(np.array([0.6, 0.8]))},
    ),
    "defects": kinds.DefectRecord(
        key="i/3", induct="i", frame=3, time_s=0.1, file="3.jpg", label="open", box=(0, 1.5, 9, 9),
        probabilities={"nominal": 0.1, "open": 0.9},
    ),
    "videos": kinds.DefectRecord(
        key="v/0", induct="v", frame=0, time_s=None, file="v.mp4", label="nominal",
        error={"kind": "bad_image", "what": "frame 0 is none"},
    ),
    "picks": kinds.PickRecord(
        key="pick-1", bag="bag", truth={"product_id": "B00", "views": {"on_arm_low": "open"}},
        identification={"decision": "identified", "ranked": [["B00", 0.9]]},
        evidence=[{"view": "on_arm_low", "stamp_ns": 1_760_000_000_000_000_001}],
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def changed(**parts):
    return {**copy.deepcopy(CARD), **parts}


# records


@pytest.mark.parametrize("stream", ONE_OF_EACH)
def test_a_record_comes_back_as_it_was_from_one_line(stream):
    record = ONE_OF_EACH[stream]
    line = record.to_line()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert from_line(stream, line) == record
    assert list(json.loads(line))[:2] == ["key", "error"], "an index reads no further"


def test_a_number_that_is_none_is_refused_before_it_gets_into_a_file():
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(ONE_OF_EACH["defects"], time_s=math.nan).to_line()


@pytest.mark.parametrize("line", [b"{}", b"[1]", b"no", b'{"key": "1", "colour": 3}'])
def test_a_line_of_something_else_is_named_with_a_fix(line):
    with pytest.raises(EvalError, match=re.escape(repr(line))) as e:
        from_line("defects", line)
    assert e.value.fix


def test_an_unknown_stream_is_an_error_that_names_the_known_ones():
    with pytest.raises(EvalError, match="'smell'; known are segmentation, totes, identification"):
        from_line("smell", b"{}")


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_a_vector_comes_back_to_the_last_bit(values):
    vector = np.array(values, np.float32)
    assert unpack_vector(pack_vector(vector)).tobytes() == vector.tobytes()


@pytest.mark.parametrize("text", ["?", "AAA=", "AAAAAAA="])
def test_what_is_no_vector_is_said(text):
    with pytest.raises(EvalError, match="not a vector"):
        unpack_vector(text)


def test_errors_are_named_by_the_kind_that_people_count():
    assert as_error(FrameError("dark", kind="too_dark"))["kind"] == "too_dark"
    assert as_error(InferenceError("fell")) == {"kind": "inference", "what": "fell"}
    assert as_error(RobollmError("odd"))["kind"] == "robollm"
    assert len(named_error("bug", "x" * 10_000 + "end")["what"]) == kinds.WORDS


def test_every_kind_of_record_says_what_its_fields_are():
    for kind in {kinds.kind_of(s) for s in ONE_OF_EACH}:
        own = {f.name for f in fields(kind)} - {f.name for f in fields(kinds.Record)}
        assert all(
            f"        {name}: " in kind.__doc__ or f"{name}`" in kind.__doc__ for name in own
        )


# journals


def line(key, value, error=None):
    record = CountingDesk().run(CountingJob(value))
    return replace(record, key=key, error=error and named_error("bad", error)).to_line()


lines = st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.sampled_from([None, "worse", ""]))
deeds = st.lists(st.one_of(lines, st.just("cut"), st.just("zeros"), st.just("reopen")), max_size=12)


@given(st.lists(deeds, min_size=1, max_size=3))
def test_an_index_finds_what_a_slow_reader_finds_after_any_damage(tmp_path_factory, files):
    """Cut: the last bytes are missing; zeros: a block was never written."""
    folder = tmp_path_factory.mktemp("journals")
    truth = {}
    for number, some in enumerate(files):
        path = folder / f"defects.{number}.jsonl"
        path.touch()
        for deed in some:
            if isinstance(deed, tuple):
                key, value, error = deed
                with Journal(path) as journal:
                    journal.write(line(key, value, error))
            elif deed == "cut":
                os.truncate(path, max(0, path.stat().st_size - 7))
            elif deed == "zeros" and path.stat().st_size:
                size = path.stat().st_size
                os.truncate(path, size - 20 if size > 20 else 0)
                with path.open("ab") as f:
                    f.write(bytes(10) + b"}\n")
        for raw in path.read_bytes().splitlines(keepends=True):
            try:
                read = from_line("defects", raw) if raw.endswith(b"\n") else None
            except EvalError:
                read = None
            if read is not None:
                old = truth.get(read.key)
                if old is None or old.error:
                    truth[read.key] = read
    index = Index(sorted(folder.iterdir()))
    found = list(index.read(lambda raw: from_line("defects", raw)))
    assert found == [truth[key] for key in sorted(truth)]
    assert {k: p.error for k, p in index.places.items()} == {
        k: r.error["kind"] if r.error else "" for k, r in truth.items()
    }


def test_lines_that_can_not_be_used_are_counted_and_named(folder):
    with RunFolder.create_or_resume(folder, CARD) as run:
        with run.journal(STREAM) as journal:
            for job in jobs(3):
                journal.append(CountingDesk().run(job))
            journal.append(CountingDesk().run(CountingJob(1)))
        file = folder / "records" / "defects.0.jsonl"
        file.write_bytes(file.read_bytes() + b"\0\0\0\n" + b'{"key":"00007","err')
        assert len(list(run.records(STREAM))) == 3
        assert len(list(run.records(STREAM))) == 3, "counted once"
        counts = {"damaged_line": 1, "duplicate_record": 1, "torn_line": 1}
        assert run.damage(STREAM).counts == counts
        assert "defects.0.jsonl, byte " in run.damage(STREAM).lines()[0]
    assert json.loads((folder / "run.json").read_bytes())["problems"]["counts"] == counts


def test_records_of_which_none_can_be_understood_are_an_error(folder):
    with RunFolder.create_or_resume(folder, CARD) as run, run.journal(STREAM) as journal:
        journal.write(line("a", 1).replace(b'"label"', b'"babel"'))
    with pytest.raises(EvalError, match="not a record of defects") as e:
        list(RunFolder.open(folder).records(STREAM))
    assert "use the robollm that wrote it" in e.value.fix


def test_several_writers_of_one_run_write_into_files_of_their_own(folder):
    with RunFolder.create_or_resume(folder, CARD) as run:
        for worker, numbers in {"bag-b": (5, 1), "bag-a": (3, 0)}.items():
            with open_journal(folder, "segmentation/mix", worker) as journal:
                for n in numbers:
                    journal.append(replace(ONE_OF_EACH["totes"], key=str(n)))
        assert run.streams == ["segmentation/mix"]
        assert [r.key for r in run.records("segmentation/mix")] == ["0", "1", "3", "5"]
        some = run.records("segmentation/mix", {"3", "1", "not there"})
        assert [r.key for r in some] == ["1", "3"]
        assert list(run.records("videos")) == []


# the folder


def test_a_second_writer_is_refused_by_name_and_a_reader_is_not(folder):
    with RunFolder.create_or_resume(folder, CARD) as run:
        with pytest.raises(EvalError, match=f"is being written by process {os.getpid()}") as e:
            RunFolder.create_or_resume(folder, CARD)
        assert "wait until it is done" in e.value.fix
        reader = RunFolder.open(folder)
        assert reader.card["reason"] == run.card["reason"] != ""
        with pytest.raises(EvalError, match="open for reading"):
            reader.journal(STREAM)
    RunFolder.create_or_resume(folder, CARD).close()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"settings": {"score_min": 0.4}}, "settings.score_min is 0.5 there and 0.4 here"),
        ({"settings": {}}, "settings.score_min is 0.5 there and null here"),
        ({"source": "bag"}, 'source is "folder" there and "bag" here'),
        ({"predictor": {**CARD["predictor"], "sha256": "ff"}}, "predictor.sha256 is"),
        ({"data": {"name": "other"}}, r"data.name is .* data.split is \"test\" there and null"),
    ],
)
def test_another_run_is_refused_with_both_values_and_stays_as_it_is(folder, parts, words):
    RunFolder.create_or_resume(folder, CARD).close()
    before = (folder / "run.json").read_bytes()
    with pytest.raises(EvalError, match=words) as e:
        RunFolder.create_or_resume(folder, changed(**parts))
    assert "another --out" in e.value.fix
    assert (folder / "run.json").read_bytes() == before


def test_data_and_bundle_may_be_found_at_another_place(folder):
    RunFolder.create_or_resume(folder, CARD).close()
    moved = changed(
        data={**CARD["data"], "root": "elsewhere"}, predictor={**CARD["predictor"], "bundle": "new"}
    )
    with RunFolder.create_or_resume(folder, moved) as run:
        assert run.card["data"]["root"] == "elsewhere"
    del moved["predictor"]["sha256"]
    other = folder.with_name("other")
    RunFolder.create_or_resume(other, moved).close()
    moved["predictor"]["bundle"] = "newer"  # who knows whether it is the same
    with pytest.raises(EvalError, match=r"predictor\.bundle"):
        RunFolder.create_or_resume(other, moved)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "lock").write_text("mine")
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(EvalError, match=r"no run and not empty: it has thesis\.tex"):
        RunFolder.create_or_resume(tmp_path, CARD)
    assert (tmp_path / "lock").read_text() == "mine"
    with pytest.raises(EvalError, match="is no folder"):
        RunFolder.create_or_resume(tmp_path / "lock", CARD)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "holds no run: run.json is missing"),
        ("{", "can't be read"),
        ("[]", "no card of a run"),
        ('{"format": "robollm-eval", "format_version": 9}', "has format 9, this robollm reads 1"),
    ],
)
def test_what_can_not_be_read_as_a_run_is_said(tmp_path, text, words):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(EvalError, match=words) as e:
        RunFolder.open(tmp_path)
    assert e.value.fix


def test_the_card_sums_up_sessions_and_names_what_changed_between_them(folder, monkeypatch):
    with RunFolder.create_or_resume(folder, CARD) as run:
        started, versions = run.card["started"], dict(run.card["versions"])
    wall = run.card["wall_s"]
    assert {"cpu", "cores", "memory_gib"} <= run.card["machine"].keys()
    monkeypatch.setattr("robollm.eval.run_card.__version__", "99")
    with RunFolder.create_or_resume(folder, CARD) as run:
        pass
    card = json.loads((folder / "run.json").read_bytes())
    assert card["started"] == started
    assert card["wall_s"] >= wall > 0
    assert [s["versions"] for s in card["sessions"]] == [versions]
    [problem] = card["problems"]["lines"]
    assert f'versions.robollm: "{versions["robollm"]}" before, "99" then' in problem


def test_how_a_session_ended_is_in_the_card(folder):
    def ends(error):
        with pytest.raises(type(error)), RunFolder.create_or_resume(folder, CARD):
            raise error
        run = RunFolder.open(folder)
        assert not run.card["complete"]
        assert run.partial_reasons() == [f"the run is not complete: {run.card['reason']}"]
        return run.card["reason"]

    assert ends(KeyboardInterrupt()) == "interrupted"
    assert ends(EvalError("no data", fix="find some")) == "stopped: no data"
    assert ends(ZeroDivisionError("oh")) == "stopped: ZeroDivisionError('oh')"
    with RunFolder.create_or_resume(folder, CARD) as run, run.journal(STREAM) as journal:
        journal.write(line("a", 1))
        run.note_stream(STREAM, 3)
    assert run.card["reason"] == "2 of 3 samples of defects have no record"
    with RunFolder.create_or_resume(folder, CARD) as run:
        run.note_stream(STREAM, 1)
        run.problems.note("odd", "somewhere", "something")
    assert run.card["complete"]
    assert isinstance(run.problems, Problems)
    assert run.card["problems"]["counts"] == {"odd": 1}


def test_records_that_are_lost_after_a_run_make_it_partial(folder):
    with RunFolder.create_or_resume(folder, CARD) as run:
        for worker in ("0", "1"):
            with run.journal(STREAM, worker) as journal:
                journal.write(line(worker, 1))
        run.note_stream(STREAM, 2)
    assert RunFolder.open(folder).partial_reasons() == []
    (folder / "records" / "defects.1.jsonl").unlink()
    [reason] = RunFolder.open(folder).partial_reasons()
    assert reason.startswith("1 of 2 samples of defects have no record any more")


def test_a_folder_that_can_not_be_written_is_an_error_with_a_fix(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EvalError, match=r"can't be written: Not a directory") as e:
        RunFolder.create_or_resume(tmp_path / "file" / "run", CARD)
    assert "--out" in e.value.fix


def test_what_somebody_chose_otherwise_is_named_before_what_follows_of_it(folder):
    many = {f"segmentation/{n}": 12 for n in range(7)}
    first = {**CARD, "data": {"samples": many}, "settings": {"limit": 12}}
    RunFolder.create_or_resume(folder, first).close()
    other = {**CARD, "data": {"samples": dict.fromkeys(many, 13)}, "settings": {"limit": 13}}
    with pytest.raises(EvalError, match=r"holds another run: settings\.limit is 12 there and 13"):
        RunFolder.create_or_resume(folder, other)
