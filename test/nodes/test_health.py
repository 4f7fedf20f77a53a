from __future__ import annotations

from dataclasses import replace

from robollm.nodes.health import Report


def test_diagnostics_tell_what_runs_where_and_in_which_precision(perceiver):
    report = Report("/node")
    report.add_models(perceiver)
    values = report.values
    assert (values["provider"], values["precision"], values["threads"]) == ("cpu", "fp32", "1")
    assert {k for k in values if k.startswith("where_")} == {f"where_{r}" for r in perceiver.where}
    assert values["where_rois"].startswith("onnxruntime ")
    assert values["where_backbone"].endswith("(CPU, fp32)")
    counters = ("batch_max", "runs", "rows", "shared_runs", "cache_hits")
    for name in counters:
        assert values[f"backbone_{name}"] == str(getattr(perceiver.backbone, name))


def test_diagnostics_count_the_views_that_the_bundle_can_not_join(perceiver, monkeypatch):
    monkeypatch.setattr(perceiver, "config", replace(perceiver.config, threads=0))
    monkeypatch.setattr(perceiver, "left_out", {"top": 3})
    report = Report("/node")
    report.add_models(perceiver)
    assert report.values["fusion_left_out_top"] == "3"
    assert report.values["threads"] == "one per core"
