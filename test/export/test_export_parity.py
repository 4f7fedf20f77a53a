"""Every output is compared with torch: faults are found and named, near-ties are none."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exported_kit import Exported
from onnx import numpy_helper

from robollm.core.errors import ModelFileError
from robollm.export import export as exporting
from robollm.export.build import Graphs, build_graphs
from robollm.export.collect import Collected, collect
from robollm.export.parity import LIMITS, Distances, Probes, compare, open_session
from robollm.export.parity_rois import check_instances, share_lost
from robollm.export.probes import take
from robollm.export.reference import Found, TorchModels
from robollm.export.split_data import SplitData
from robollm.runtime.bundle import Bundle, load_bundle
from robollm.runtime.session import Place

CPU = Place("cpu", threads=1)
FAULTS = {  # role -> constants whose names end so, and what is then said to be off
    "backbone": ("blocks.1.mlp.fc2.weight", "backbone."),
    "proposals": ("rpn_reg.weight", "proposals.candidates"),
    "rois": ("fc_reg.weight", "rois.boxes"),
    "identification": ("projection.weight", "identification.embedding"),
    "fusion": ("missing", "fusion.embedding"),
    "defects": ("norm.bias", "defects."),
    "defects_sequence": ("no_reference", "defects_sequence.logits"),
}


class Subject:
    """A bundle, its torch models, and pictures."""

    def __init__(self, exported: Exported) -> None:
        self.bundle: Bundle = load_bundle(exported.bundle)
        self.parts: Collected = collect(exported.runs)
        self.torch = TorchModels(self.parts)
        found = take(self.bundle, SplitData(self.parts, exported.data, "test"))
        self.probes = Probes(found.totes[-2:], found.crops[-9:])  # the last ones are blank

    def distances(self, **other: Path) -> Distances:
        files = {**self.bundle.graphs, **other}
        where = {role: (path, CPU) for role, path in files.items()}
        return compare(self.torch, where, self.probes, proposals=self.bundle.proposals)


@pytest.fixture(scope="module")
def subject(exported_three: Exported) -> Subject:
    return Subject(exported_three)


def spoil(model: onnx.ModelProto, ending: str) -> onnx.ModelProto:
    """Change one number, the largest, of the first constant of such a name."""
    model = copy.deepcopy(model)
    found = [i for i in model.graph.initializer if i.name.endswith(ending)]
    assert found, (ending, [i.name for i in model.graph.initializer])
    value = numpy_helper.to_array(found[0]).copy()
    flat = value.reshape(-1)
    place = int(np.abs(flat).argmax())
    flat[place] = 1.2 * flat[place] + 0.05
    found[0].CopyFrom(numpy_helper.from_array(value, found[0].name))
    return model


@pytest.mark.parametrize("role", FAULTS)
def test_one_wrong_number_is_found_in_every_graph(
    role: str, subject: Subject, tmp_path: Path
) -> None:
    ending, output = FAULTS[role]
    file = tmp_path / f"{role}.onnx"
    onnx.save(spoil(onnx.load(subject.bundle.graphs[role]), ending), file)
    with pytest.raises(ModelFileError, match=rf"(?s)mine: {output}.*times the limit"):
        subject.distances(**{role: file}).refuse("mine")


def test_a_graph_with_fewer_levels_than_rois_are_taken_from_is_refused(
    subject: Subject, tmp_path: Path
) -> None:
    model = onnx.load(subject.bundle.graphs["proposals"])
    levels = [o for o in model.graph.output if o.name.startswith("levels.")]
    model.graph.output.remove(levels[-1])
    onnx.save(model, file := tmp_path / "proposals.onnx")
    n = len(levels)
    with pytest.raises(ModelFileError, match=f"proposals gives {n - 1} levels .* from {n}"):
        subject.distances(proposals=file)


def test_a_good_export_is_far_below_every_limit(exported: Exported) -> None:
    parity = exported.done["variants"]["fp32"]["parity"]
    assert max(parity[name] / LIMITS[name].most for name in parity) < 0.1


def test_every_graph_and_output_is_compared(exported_three: Exported) -> None:
    assert set(exported_three.done["variants"]["fp32"]["parity"]) == set(LIMITS)
    assert exported_three.done["compared"]["instances"] > 50


def test_a_fault_is_refused_and_nothing_is_written(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(parts: Collected, *, adapters: str) -> Graphs:
        graphs = build_graphs(parts, adapters=adapters)
        return {**graphs, "defects": spoil(graphs["defects"], "linear.weight")}

    monkeypatch.setattr("robollm.export.build.build_graphs", faulty)
    old = tmp_path / "models" / "mine"
    shutil.copytree(exported.bundle, old)
    before = {p.name: p.read_bytes() for p in old.iterdir()}
    with pytest.raises(ModelFileError, match=r"fp32: defects\.logits is .*nothing was written"):
        exporting.export(exported.order(old))
    assert {p.name: p.read_bytes() for p in old.iterdir()} == before
    assert [p.name for p in old.parent.iterdir()] == ["mine"]


def detector_outputs(
    subject: Subject, tote: Any, noise: float = 0.0
) -> tuple[Any, Mapping[str, Any], Mapping[str, Any]]:
    """Torch's pyramid, what `proposals` makes of a tote, and what `rois` does with other scores."""
    grid, _ = subject.torch.encode(tote, "segmentation")
    levels = subject.torch.levels(grid)
    propose = open_session("proposals", subject.bundle.graphs["proposals"], CPU)
    detect = open_session("rois", subject.bundle.graphs["rois"], CPU)
    made = dict(zip(propose.outputs, propose.run({"map": grid}), strict=True))
    rng = np.random.default_rng(0)
    scores = made["candidate_scores"]
    noisy = np.clip(scores + noise * rng.normal(size=scores.shape), 0, 1)
    shuffled = np.where(scores < 0, scores, noisy)
    feed = {**made, "candidate_scores": shuffled.astype(np.float32)}
    feed["proposals"] = np.array([subject.bundle.proposals])
    feed["score_min"] = np.zeros(1, np.float32)
    return levels, made, dict(zip(detect.outputs, detect.run(feed), strict=True))


def test_proposals_that_are_suppressed_the_other_way_are_no_fault(subject: Subject) -> None:
    found = Distances()
    for tote in subject.probes.totes:
        # Scores so noisy that suppression keeps others than torch's: far beyond any near-tie.
        levels, made, instances = detector_outputs(subject, tote, noise=0.2)
        rows = subject.torch.segment(tote)
        assert share_lost(rows, instances)[0] > 0
        count = subject.bundle.proposals
        check_instances(subject.torch, levels, made, instances, count, found.note)
    found.refuse("mine")


def test_an_instance_that_no_candidate_leads_to_is_a_fault(subject: Subject) -> None:
    levels, made, instances = detector_outputs(subject, subject.probes.totes[0])
    moved = {**instances, "boxes": instances["boxes"] + np.float32(0.2)}
    found = Distances()
    check_instances(subject.torch, levels, made, moved, subject.bundle.proposals, found.note)
    assert found.largest["rois.boxes"] == pytest.approx(0.2, abs=0.01)
    with pytest.raises(ModelFileError, match=r"rois\."):
        found.refuse("mine")


def test_lost_instances_are_counted_on_both_sides() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    scores, labels = np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64)
    masks = np.zeros((2, 28, 28), np.float32)
    want = Found(boxes, scores, labels, masks)
    same = {"boxes": boxes + np.float32(0.1), "scores": scores, "labels": labels}
    assert share_lost(want, same) == (0, 4)
    assert share_lost(want, {k: v[:1] for k, v in same.items()}) == (1, 3)
    assert share_lost(want, {**same, "labels": labels + 1}) == (4, 4)
    none = {k: v[:0] for k, v in same.items()}
    assert share_lost(want, none) == (2, 2)


def test_what_is_not_a_number_or_of_another_shape_is_beyond_every_limit() -> None:
    found = Distances()
    found.note("backbone.map", math.nan)
    assert found.largest["backbone.map"] == math.inf
    for refuse in (found.refuse, found.refuse_other_shapes):
        with pytest.raises(ModelFileError, match=r"backbone\.map"):
            refuse("mine")


def test_a_graph_is_named_before_the_chain_that_it_spoils() -> None:
    found = Distances()
    found.note("chain.logits", 100.0)
    found.note("defects.logits", 0.1)
    with pytest.raises(ModelFileError, match=r"defects\.logits .* 1 more outputs"):
        found.refuse("mine")
