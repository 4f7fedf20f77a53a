"""One declaration of each setting; YAML, docs and command line say the same."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import yaml

from robollm.cli import predict, segment
from robollm.cli.gallery import add, build, calibrate, search
from robollm.cli.generate import DOCS, YAML, render_docs, render_yaml
from robollm.cli.main import VERBS, app
from robollm.cli.options import take
from robollm.core.config import from_mapping, options
from robollm.core.errors import ConfigError
from robollm.core.settings import (
    NODE_SETTINGS,
    DefectConfig,
    IdentificationConfig,
    PickConfig,
    RuntimeConfig,
    SegmentationConfig,
)

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {
    "segment": (segment.command, (RuntimeConfig, SegmentationConfig)),
    "predict": (
        predict.command,
        (RuntimeConfig, SegmentationConfig, IdentificationConfig, DefectConfig, PickConfig),
    ),
    "gallery build": (build.command, (RuntimeConfig,)),
    "gallery add": (add.command, (RuntimeConfig,)),
    "gallery search": (search.command, (RuntimeConfig, IdentificationConfig)),
    "gallery calibrate": (calibrate.command, (RuntimeConfig,)),
}
NOT_ITS = {  # settings of a node that its command has no use for
    "segment": {"overlay"},  # it has --draw
    "predict": {
        "overlay", "gallery", "watch", "watch_period_s", "frame_history", "min_views",
        "views", "view_rois", "view_timeout_s", "view_delay_s", "max_view_age_s",
        "max_view_lead_s",
    },
    "gallery search": {"gallery", "watch", "watch_period_s", "frame_history"},
}  # fmt: skip
PAIRS = [
    pytest.param(command, o, id=f"{name} {o.name}")
    for name, (command, kinds) in COMMANDS.items()
    for kind in kinds
    for o in options(kind)
    if o.name not in NOT_ITS.get(name, ())
]
SECTIONS = {"/**": tuple(dict.fromkeys(k for kinds in NODE_SETTINGS.values() for k in kinds))}


# YAML


def sections(text):
    return {name: body["ros__parameters"] for name, body in yaml.safe_load(text).items()}


def test_the_parameter_file_holds_exactly_the_defaults_with_their_types():
    got = sections(render_yaml())
    assert set(got) == set(SECTIONS)
    for name, kinds in SECTIONS.items():
        declared = [o for kind in kinds for o in options(kind)]
        assert list(got[name]) == [o.name for o in declared]
        for o in declared:
            value = got[name][o.name]
            want = list(o.default) if isinstance(o.default, tuple) else o.default
            assert (value, type(value)) == (want, type(want)), o.name
            assert value != [], "rcl can't read an empty list"


def test_the_parameter_file_is_accepted_by_the_settings():
    got = sections(render_yaml())
    for name, kinds in SECTIONS.items():
        for kind in kinds:
            mine = {o.name: got[name][o.name] for o in options(kind)}
            assert from_mapping(kind, mine) == kind()


def test_the_parameter_file_serves_every_setting_of_every_node():
    got = sections(render_yaml())
    for node, kinds in NODE_SETTINGS.items():
        assert {o.name for kind in kinds for o in options(kind)} <= set(got["/**"]), node


def test_every_setting_is_explained_above_its_line():
    lines = render_yaml().splitlines()
    for kinds in SECTIONS.values():
        for o in (o for kind in kinds for o in options(kind)):
            at = next(i for i, line in enumerate(lines) if line.startswith(f"    {o.name}: "))
            above = []
            while lines[at - 1].startswith("    # "):
                at -= 1
                above.insert(0, lines[at].removeprefix("    # "))
            comment = " ".join(above)
            assert comment.startswith(o.doc)
            assert o.limits in comment
            assert comment.endswith("; live" if o.live else "; read-only")


# docs


def test_the_docs_list_every_setting_of_every_node_with_its_default():
    parts = re.split(r"^## ", render_docs(), flags=re.MULTILINE)[1:]
    tables = {part.split("\n", 1)[0]: part for part in parts}
    assert list(tables) == list(NODE_SETTINGS)
    for node, kinds in NODE_SETTINGS.items():
        rows = re.findall(r"^\| `(\w+)` \| (\w+) \| `(.*?)` \| (.*)$", tables[node], re.MULTILINE)
        declared = [o for kind in kinds for o in options(kind)]
        assert [r[0] for r in rows] == [o.name for o in declared]
        for (_, kind, default, rest), o in zip(rows, declared, strict=True):
            assert kind == o.type_name
            want = list(o.default) if isinstance(o.default, tuple) else o.default
            assert yaml.safe_load(default) == want
            cells = [c.strip() for c in re.split(r"(?<!\\)\|", rest)]
            assert cells[:3] == [o.limits.replace("|", "\\|"), "yes" if o.live else "", o.doc]


# the checkout


def test_the_generated_files_of_the_checkout_are_current(robollm):
    done = robollm("generate", "--check", "--root", ROOT)
    assert (done.code, done.err) == (0, "")


def test_a_stale_file_is_named_and_nothing_is_written(robollm, tmp_path):
    assert robollm("generate", "--root", tmp_path).code == 0
    assert (tmp_path / YAML).read_text() == render_yaml()
    assert (tmp_path / DOCS).read_text() == render_docs()
    assert robollm("generate", "--check", "--root", tmp_path).code == 0
    (tmp_path / DOCS).write_text("old")
    done = robollm("generate", "--check", "--root", tmp_path)
    assert done.code == 1
    assert str(tmp_path / DOCS) in done.err
    assert str(tmp_path / YAML) not in done.err
    assert (tmp_path / DOCS).read_text() == "old"


def test_writing_again_writes_nothing(robollm, tmp_path):
    robollm("generate", "--root", tmp_path)
    assert robollm("generate", "--root", tmp_path).err == ""


# command line


@pytest.mark.parametrize(("command", "opt"), PAIRS)
def test_an_option_agrees_with_its_setting(command, opt):
    param = next(p for p in command.params if p.name == opt.name)
    words = opt.name.replace("_", "-")
    assert param.opts == [f"--{words}"]
    assert param.default == opt.default
    assert param.help == opt.doc
    if isinstance(opt.default, bool):
        assert param.secondary_opts == [f"--no-{words}"]
    elif opt.choices:
        assert tuple(param.type.choices) == opt.choices
    elif isinstance(opt.default, (int, float)):
        assert (param.type.min, param.type.max) == (opt.low, opt.high)
        kind = click.FloatRange if isinstance(opt.default, float) else click.IntRange
        assert isinstance(param.type, kind)
    else:
        assert param.type is click.STRING


@pytest.mark.parametrize("kind", [RuntimeConfig, SegmentationConfig, PickConfig])
def test_settings_are_taken_from_a_commands_arguments(kind):
    arguments = {o.name: o.default for o in options(kind)} | {"other": 1}
    assert take(kind, arguments) == kind()


def test_a_number_that_click_lets_through_is_still_refused():
    arguments = {o.name: o.default for o in options(SegmentationConfig)}
    with pytest.raises(ConfigError, match="nan"):
        take(SegmentationConfig, arguments | {"score_min": float("nan")})


def test_every_verb_has_a_command_with_help(robollm):
    context = click.Context(app)
    assert app.list_commands(context) == list(VERBS)
    for verb in VERBS:
        command = app.get_command(context, verb)
        assert command.help
        assert robollm(verb, "--help").code == 0
