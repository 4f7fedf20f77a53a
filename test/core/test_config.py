from __future__ import annotations

from dataclasses import dataclass

import pytest

from robollm.core.config import check, from_mapping, option, options, problem
from robollm.core.errors import ConfigError, FrameError, MessageError, RobollmError


@dataclass(frozen=True, slots=True, kw_only=True)
class Oven:
    """A settings class with one field of every kind."""

    on: bool = option(False, "does it burn", live=True)
    shelves: int = option(3, "how many", low=1, high=9)
    heat: float = option(180.0, "how hot", low=-1, high=300)
    mode: str = option("fan", "how", choices=("fan", "grill"))
    name: str = option("", "what people call it")
    dishes: tuple[str, ...] = option(("bread",), "what is in it")

    def __post_init__(self) -> None:
        check(self)


def test_every_bad_field_is_named_at_once():
    with pytest.raises(ConfigError) as e:
        Oven(on=1, shelves=True, heat="hot", mode="steam", name=b"x", dishes=("a", 2))
    for name in ("on", "shelves", "heat", "mode", "name", "dishes"):
        assert f"{name}:" in str(e.value)
    assert e.value.fix


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("on", "yes", "wants bool, got 'yes'"),
        ("shelves", 2.0, "wants int, got 2.0"),
        ("shelves", 0, "0 is outside [1, 9]"),
        ("shelves", 10, "10 is outside [1, 9]"),
        ("heat", 300.001, "outside [-1, 300]"),
        ("heat", float("nan"), "nan is outside"),
        ("heat", float("inf"), "inf is outside"),
        ("heat", True, "wants double, got True"),
        ("heat", None, "wants double, got None"),
        ("mode", "steam", "'steam' is not one of fan, grill"),
        ("dishes", "bread", "wants string_array, got 'bread'"),
        ("dishes", ("a", None), "wants a list of strings"),
    ],
)
def test_a_bad_value_is_refused_with_what_was_wanted(name, value, words):
    with pytest.raises(ConfigError) as e:
        from_mapping(Oven, {name: value})
    assert words in str(e.value)


@pytest.mark.parametrize(
    "values",
    [
        {"heat": 200},
        {"heat": -1},
        {"heat": 300},
        {"shelves": 1},
        {"shelves": 9},
        {"dishes": ()},
        {"on": True, "mode": "grill", "name": "old one"},
    ],
)
def test_good_values_are_taken_as_they_are(values):
    made = from_mapping(Oven, values)
    assert {k: getattr(made, k) for k in values} == values


def test_a_list_from_yaml_becomes_a_tuple():
    assert from_mapping(Oven, {"dishes": ["cake", "pie"]}).dishes == ("cake", "pie")


def test_an_unknown_key_suggests_the_near_one():
    with pytest.raises(ConfigError, match="Oven has no setting 'shelfs'") as e:
        from_mapping(Oven, {"shelfs": 2})
    assert e.value.fix == "did you mean 'shelves'?"


def test_an_unknown_key_like_no_other_lists_what_is_known():
    with pytest.raises(ConfigError) as e:
        from_mapping(Oven, {"zzz": 2})
    assert e.value.fix == "known: on, shelves, heat, mode, name, dishes"


def test_options_read_back_the_whole_declaration():
    heat = next(o for o in options(Oven) if o.name == "heat")
    assert (heat.default, heat.doc, heat.low, heat.high) == (180.0, "how hot", -1, 300)
    assert [o.type_name for o in options(Oven)] == [
        "bool", "int", "double", "string", "string", "string_array",
    ]  # fmt: skip
    assert [o.live for o in options(Oven)] == [True, False, False, False, False, False]
    assert [o.limits for o in options(Oven)] == ["", "1 to 9", "-1 to 300", "fan | grill", "", ""]


def test_a_good_value_has_no_problem():
    assert all(problem(o, o.default) is None for o in options(Oven))


def test_a_config_can_not_be_changed_afterwards():
    with pytest.raises(AttributeError):
        Oven().heat = 20.0


def test_an_error_says_what_and_how_to_fix_it():
    error = RobollmError("it is 3, want 4", fix="add one")
    assert (error.what, error.fix) == ("it is 3, want 4", "add one")
    assert str(error) == "it is 3, want 4\n  fix: add one"
    assert str(RobollmError("it is 3, want 4")) == "it is 3, want 4"


@pytest.mark.parametrize(
    ("kind", "default"), [(FrameError, "bad_image"), (MessageError, "bad_message")]
)
def test_dropped_inputs_carry_the_name_of_their_counter(kind, default):
    assert kind("x").kind == default
    assert kind("x", kind="stale").kind == "stale"
    assert isinstance(kind("x"), RobollmError)
