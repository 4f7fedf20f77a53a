"""Bags into a run folder: damaged ones, several, later pictures, tote images, and going on."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from in_process import predict_here
from tiny_armbench import write_picks

from robollm.core.errors import BagError, ConfigError, EvalError
from robollm.data.bag import BagWriter
from robollm.data.problems import Problems
from robollm.eval import bag as bags
from robollm.eval.bag import data_card, find_bags, look, replay
from robollm.eval.make_bag import make_bag
from robollm.eval.run_folder import RunFolder
from robollm.eval.score import score
from robollm.eval.settings import station_settings

T = 1_760_000_000_000_000_000
MS = 1_000_000
NS = "/robollm"
HW = (48, 64)


@pytest.fixture
def settings(sketch_bundle):
    return station_settings(
        None, (), {"bundle": str(sketch_bundle), "allow_untrained": True, "threads": 1}
    )


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setattr(
        bags, "predict", lambda run, stream, jobs, *more, **_: predict_here(
            run, stream, list(jobs), *more
        ) or bags.Progressed(0, 0, 0, 0.0),
    )  # fmt: skip


def answer(run_path, paths, settings, truths=()):
    found, problems = find_bags(paths, truths), Problems()
    looked = [look(b, settings, "", (), problems) for b in found]
    card = {"source": "bag", "data": data_card(found, looked), "settings": settings.card(),
            "predictor": {"name": "bundle", "sha256": "0"}}  # fmt: skip
    with RunFolder.create_or_resume(run_path, card) as run:
        run.problems.merge(problems)
        replay(run, found, looked, settings, workers=1)
    return RunFolder.open(run_path)


def rgb(*seed):
    return np.random.default_rng(seed).integers(0, 255, (*HW, 3)).astype(np.uint8)


def write_station(folder, picks=2, frames=3, seed=2):
    """Picks with a film of one view, and tote images whose instances are known."""
    rows, totes = [], []
    with BagWriter(folder / "bag") as bag:
        for k in range(picks):
            start = T + k * 4000 * MS
            bag.string(f"{NS}/container", "A", start)
            bag.image(f"{NS}/image", start + MS, "cam", rgb(k), jpeg=False)
            bag.pick(f"{NS}/pick", start + MS, "cam", f"p{k}", (5, 5, 40, 40), start + 2 * MS)
            shown = []
            for f in range(frames):
                ns = start + (10 + 100 * f) * MS
                bag.image(f"{NS}/views/on_arm_low/image", ns, "arm", rgb(k, seed, f), jpeg=False)
                shown.append({"stamp_ns": ns, "label": "multi_pick" if f else "nominal"})
            rows.append({"id": f"p{k}", "label": "multi_pick", "views": {"on_arm_low": "nominal"},
                         "view_frames": {"on_arm_low": shown}})  # fmt: skip
            square = [[5.0, 5.0, 40.0, 5.0, 40.0, 40.0, 5.0, 40.0]]
            thing = {"category": "Object", "bbox": [5, 5, 35, 35], "segmentation": square}
            totes.append({"stamp_ns": start + MS, "hw": list(HW), "instances": [thing]})
    card = {"format": "robollm-truth", "format_version": 1, "picks": rows, "frames": totes}
    (folder / "truth.json").write_text(json.dumps(card))
    return folder / "bag"


def test_without_a_gallery_verdicts_films_and_tote_images_are_evaluated(tmp_path, settings):
    run = answer(tmp_path / "run", [write_station(tmp_path)], settings)
    records = list(run.records("picks"))
    assert [r.key for r in records] == ["p0", "p1"]
    for r in records:
        assert r.error is None
        assert r.identification is None
        assert r.verdict["missing"] == [["tote_wall", "no usable image within 2 s of the pick"]]
        assert [f["label"] for f in r.frames] == ["multi_pick", "multi_pick"]
        assert all(abs(sum(f["probabilities"].values()) - 1) < 1e-5 for f in r.frames)
        assert {"inspect_backbone", "answer"} <= set(r.ms)
    totes = list(run.records("totes"))
    assert [t.key for t in totes] == [str(T + MS), str(T + 4001 * MS)]
    assert all(t.hw == HW and len(t.truth) == 1 for t in totes)
    sections = {s.name: s for s in score(run, draws=100).sections}
    assert set(sections) == {"station/picks", "station/totes"}
    assert sections["station/picks"].counts["sequences"] == 2
    assert run.card["complete"] is True


def test_an_answer_does_not_depend_on_what_was_answered_before(tmp_path, settings):
    path = write_station(tmp_path)
    whole = answer(tmp_path / "whole", [path], settings)
    run = tmp_path / "run"
    answer(run, [path], settings)
    (file,) = (run / "records").glob("picks.*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[1] + lines[0][: len(lines[0]) // 2])  # killed while writing
    again = answer(run, [path], settings)

    def said(folder):
        return [dataclasses.replace(r, ms={}) for r in folder.records("picks")]

    assert said(again) == said(whole)


def test_a_bag_of_other_pictures_is_another_run_and_a_copy_is_the_same(tmp_path, settings):
    write_station(tmp_path / "a")
    answer(tmp_path / "run", [tmp_path / "a" / "bag"], settings)
    shutil.copytree(tmp_path / "a", tmp_path / "copy", copy_function=shutil.copyfile)
    answer(tmp_path / "run", [tmp_path / "copy" / "bag"], settings)
    other = write_station(tmp_path / "b", seed=3)  # as many messages, at the same times
    with pytest.raises(EvalError, match=r"another run: data\.content is"):
        answer(tmp_path / "run", [other], settings)


def test_a_run_of_an_earlier_version_of_a_bag_is_refused_in_words(tmp_path, settings):
    bag = write_station(tmp_path)
    card = tmp_path / "run" / "run.json"
    answer(card.parent, [bag], settings)
    old = json.loads(card.read_text())
    del old["data"]["content"]
    card.write_text(json.dumps(old))
    with pytest.raises(EvalError, match=r"an earlier robollm began it(.|\n)*begin anew"):
        answer(card.parent, [bag], settings)


def test_several_bags_are_one_run_and_a_damaged_one_gives_what_it_has(tmp_path, settings):
    data = tmp_path / "data"
    write_picks(data, count=8)
    made = [make_bag(data, tmp_path / day, Problems()) for day in ("mon", "tue")]
    (file,) = made[1].bag.glob("*.mcap")
    with file.open("r+b") as f:
        f.truncate(file.stat().st_size // 2)
    promised = made[1].bag / "metadata.yaml"
    text = re.sub(r"message_count: \d+", f"message_count: {10**12}", promised.read_text())
    promised.write_text(text)  # wrong, too: nobody may count up to it
    run = answer(tmp_path / "run", [m.bag for m in made], settings)
    records = list(run.records("picks"))
    names = [r.bag for r in records]
    assert names.count("mon/bag") == 8
    assert 0 < names.count("tue/bag") < 8
    assert {r.key for r in records if r.bag == "mon/bag"} == {
        f"mon/bag/pick{i:04}" for i in range(8)
    }
    counts = run.card["problems"]["counts"]
    assert counts["damaged_bag"] == 2  # the cut chunk, and no end
    assert 10**11 < counts["lost_message"] < 10**12
    reasons = " ".join(score(run, draws=100).partial_reasons)
    assert "2 files or stretches of bags are damaged" in reasons
    assert "picks of a truth are not in its bag" in reasons
    assert counts["truth_without_pick"] == 8 - names.count("tue/bag")
    mine = {r.key.rsplit("/", 1)[1]: r for r in records if r.bag == "mon/bag"}
    cut = {r.key.rsplit("/", 1)[1]: r for r in records if r.bag == "tue/bag"}
    whole = [k for k in cut if not cut[k].verdict["missing"]]
    assert whole
    assert all(cut[k].evidence == mine[k].evidence for k in whole)


def test_a_bag_is_written_once_and_never_over_another(tmp_path):
    data = tmp_path / "data"
    write_picks(data, count=4)
    made = make_bag(data, tmp_path / "out", Problems(), limit=3, storage="sqlite3")
    assert made.picks == 3
    truth = json.loads(made.truth.read_text())["picks"]
    assert [t["in_manifest"] for t in truth] == [True] * 3
    assert truth[1]["view_stamps_ns"].keys() == {"on_arm_low"}  # the second has no tote wall
    manifest = json.loads(made.manifest.read_text())
    assert set(manifest["containers"]) == {t["id"] for t in truth}
    with pytest.raises(BagError, match="exists already"):
        make_bag(data, tmp_path / "out", Problems())
    with pytest.raises(ConfigError, match="trainset lists nothing"):
        make_bag(data, tmp_path / "none", Problems(), split="train")
    assert not (tmp_path / "none" / "bag").exists()
    with pytest.raises(EvalError, match="views are image"):
        make_bag(data, tmp_path / "odd", Problems(), views=("image",))


def test_pictures_that_are_missing_or_empty_are_left_out_and_told(tmp_path):
    data = tmp_path / "data"
    write_picks(data, count=4)
    picks = data / "armbench-object-id-0.1" / "Picks"
    (picks / "pick0000" / "PickRGB.jpg").unlink()
    (picks / "pick0002" / "OnArmLowRGB.jpg").write_bytes(b"")
    shutil.rmtree(picks / "pick0003")
    problems = Problems()
    made = make_bag(data, tmp_path / "out", problems)
    assert made.picks == 2
    assert problems.counts == {"empty_view": 1, "missing_pick": 1, "missing_tote_image": 1}
