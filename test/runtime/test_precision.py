"""Which variant runs, and which graph of it where: with and without the processor's help."""

from __future__ import annotations

from dataclasses import replace

import pytest
from providers_kit import plugin

from robollm.core.errors import ModelFileError
from robollm.core.settings import RuntimeConfig
from robollm.runtime import precision as module
from robollm.runtime.bundle import PRECISIONS, Variant, load_bundle
from robollm.runtime.precision import SENSIBLE, choose, cpu_flags, place_for, placed
from robollm.runtime.providers import PROVIDERS
from robollm.runtime.session import Place

BF16 = "processor : 0\nflags\t\t: fpu avx512_vnni avx512_bf16\n\nprocessor : 1\nflags\t\t: fpu\n"


@pytest.fixture
def bundle(sketch_bundle):
    return load_bundle(sketch_bundle, allow_untrained=True)


def having(bundle, *names, **own):
    """The bundle with more variants; `own`: variant -> roles with a file of their own."""
    variants = dict(bundle.variants)
    for name in names:
        key = name.replace("-", "_")
        files = {r: bundle.folder / f"{r}.{name}.onnx" for r in own.get(key, ("backbone",))}
        graphs = bundle.graphs if name == "bf16" else {**bundle.graphs, **files}
        variants[name] = Variant(name, graphs, {}, {}, {})
    return replace(bundle, variants=variants)


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """Say what /proc/cpuinfo holds; None: there is none."""

    def be(text):
        path = tmp_path / "cpuinfo"
        if text is not None:
            path.write_text(text)
        monkeypatch.setattr(module, "CPUINFO", path)

    return be


def test_the_flags_are_those_of_the_first_core(processor):
    processor(BF16)
    assert cpu_flags() == {"fpu", "avx512_vnni", "avx512_bf16"}
    processor("Features\t: fp asimd bf16\n")
    assert cpu_flags() == {"fp", "asimd", "bf16"}


def test_a_system_without_cpuinfo_has_no_flags(processor):
    processor(None)
    assert cpu_flags() == frozenset()


@pytest.mark.parametrize("provider", list(PROVIDERS))
def test_auto_is_the_reference_where_the_card_has_nothing_else(bundle, provider):
    assert choose(bundle, provider, "auto") == "fp32"


@pytest.mark.parametrize(
    ("provider", "accepted", "want"),
    [
        ("cpu", ("bf16", "fp16", "int8", "int8-static"), "int8"),
        ("cpu", ("bf16", "fp16", "int8-static"), "int8-static"),
        ("cpu", ("bf16", "fp16"), "fp32"),
        ("openvino", ("bf16", "fp16", "int8", "int8-static"), "bf16"),
        ("openvino", ("fp16", "int8", "int8-static"), "fp32"),
        ("cuda", ("bf16", "fp16", "int8"), "fp16"),
        ("tensorrt", ("bf16", "fp16", "int8"), "fp16"),
        ("tensorrt", ("bf16", "int8"), "fp32"),
    ],
)
def test_auto_is_the_fastest_that_card_and_provider_have(
    bundle, processor, provider, accepted, want
):
    processor(BF16)
    assert choose(having(bundle, *accepted), provider, "auto") == want


@pytest.mark.parametrize("text", ["flags : fpu avx512f\n", None, "model name: flags\n"])
def test_bf16_needs_a_processor_that_has_it(bundle, processor, text):
    processor(text)
    both = having(bundle, "bf16")
    assert choose(both, "openvino", "auto") == "fp32"
    with pytest.raises(ModelFileError, match="bf16") as e:
        choose(both, "openvino", "bf16")
    assert e.value.fix == "set precision: auto or fp32"


@pytest.mark.parametrize("text", ["flags : fpu avx512f avx2\n", None])
def test_int8_needs_a_processor_that_adds_it_up_exactly(bundle, processor, text):
    processor(text)
    small = having(bundle, "int8", "int8-static")
    assert choose(small, "cpu", "auto") == "fp32"
    for provider, precision in (("cpu", "int8"), ("openvino", "int8-static")):
        with pytest.raises(ModelFileError, match=precision) as e:
            choose(small, provider, precision)
        assert e.value.fix == "set precision: auto or fp32"


@pytest.mark.parametrize("flag", ["avx512_vnni", "avx_vnni", "asimd"])
def test_int8_runs_where_the_processor_adds_it_up_exactly(bundle, processor, flag):
    processor(f"flags : fpu {flag}\n")
    assert choose(having(bundle, "int8"), "cpu", "int8") == "int8"


@pytest.mark.parametrize("flag", ["amx_bf16", "avx512_bf16"])
def test_bf16_runs_where_the_processor_has_it(bundle, processor, flag):
    processor(f"flags : fpu {flag}\n")
    assert choose(having(bundle, "bf16"), "openvino", "bf16") == "bf16"


@pytest.mark.parametrize("provider", list(PROVIDERS))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_asked_for_is_what_runs_or_an_error(bundle, processor, provider, precision):
    processor(BF16)
    everything = having(bundle, *PRECISIONS[1:])
    if precision in SENSIBLE[provider]:
        assert choose(everything, provider, precision) == precision
        return
    with pytest.raises(ModelFileError, match=f"{precision!r} makes no sense with") as e:
        choose(everything, provider, precision)
    assert ", ".join(SENSIBLE[provider]) in e.value.fix


@pytest.mark.parametrize(
    ("provider", "precision"), [("cpu", "int8"), ("openvino", "bf16"), ("cuda", "fp16")]
)
def test_what_the_card_did_not_accept_is_an_error(bundle, processor, provider, precision):
    processor(BF16)
    with pytest.raises(ModelFileError, match=f"has no variant {precision!r}, it has fp32"):
        choose(bundle, provider, precision)


def test_bundles_never_share_a_folder_for_engines(bundle):
    config = RuntimeConfig(provider="tensorrt", engine_cache="cache", threads=3)
    other = replace(bundle, sha256="f" * 64)
    one, two = place_for(bundle, config), place_for(other, config)
    assert (one.provider, one.precision, one.threads) == ("tensorrt", "fp32", 3)
    assert one.cache != two.cache
    assert one.cache.startswith("cache/")
    assert place_for(bundle, RuntimeConfig()).cache == ""


# where each graph runs


def test_on_one_provider_all_graphs_run_there(bundle):
    place = Place("cpu", "fp32", 2)
    for role, file in bundle.graphs.items():
        assert placed(bundle, role, place) == (file, place)


def test_what_depends_on_the_data_runs_beside_the_compiler_for_shapes(bundle):
    both = having(bundle, "bf16", "fp16", fp16=("backbone", "rois"))
    for provider, precision, beside in (("openvino", "bf16", "cpu"), ("tensorrt", "fp16", "cuda")):
        place = Place(provider, precision, 2, "cache")
        assert placed(both, "backbone", place)[1] == place
        assert placed(both, "proposals", place)[1].provider == provider
        for role in ("identification", "defects"):
            assert placed(both, role, place)[1].provider == beside
    assert placed(both, "proposals", Place("openvino", "bf16"))[1].precision == "bf16"
    assert placed(both, "defects", Place("openvino", "bf16"))[1].precision == "fp32"
    path, where = placed(both, "rois", Place("tensorrt", "fp16"))
    assert (path.name, where.provider, where.precision) == ("rois.fp16.onnx", "cuda", "fp16")


@pytest.mark.parametrize("by_plugin", [False, True])
def test_openvinos_own_runtime_takes_the_roi_heads_and_its_plugin_does_not(
    bundle, monkeypatch, by_plugin
):
    plugin(monkeypatch, *["a processor"] * by_plugin)
    place = Place("openvino", "bf16", 2)
    beside = Place("cpu", "fp32", 2)
    both = having(bundle, "bf16")
    assert placed(both, "rois", place)[1] == (beside if by_plugin else place)


def test_a_graph_without_a_file_of_its_own_says_that_it_is_fp32(bundle):
    int8 = having(bundle, "int8", int8=("backbone",))
    assert placed(int8, "backbone", Place("cpu", "int8"))[1].precision == "int8"
    path, where = placed(int8, "proposals", Place("cpu", "int8"))
    assert (path, where.precision) == (bundle.graphs["proposals"], "fp32")
