"""Settings dataclasses as ROS parameters. The only place that names ParameterDescriptor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from robollm.core.config import Option, from_mapping, options, problem, unknown_key
from robollm.core.errors import ConfigError
from robollm.core.settings import NODE_SETTINGS
from robollm.nodes import qos_overrides

C = TypeVar("C")

NONE = ""  # in a list of strings: nothing; see settings.view_topics

# Parameters that rclpy itself declares.
_STANDARD = ("use_sim_time", "start_type_description_service")


def descriptor(opt: Option) -> ParameterDescriptor:
    """One setting's ROS descriptor: description, range, read-only."""
    d = ParameterDescriptor(description=opt.doc, read_only=not opt.live)
    if opt.choices:
        d.additional_constraints = "one of: " + ", ".join(opt.choices)
    if opt.low is not None and opt.high is not None:
        if isinstance(opt.default, float):
            d.floating_point_range = [
                FloatingPointRange(from_value=float(opt.low), to_value=float(opt.high))
            ]
        else:
            d.integer_range = [
                IntegerRange(from_value=int(opt.low), to_value=int(opt.high), step=1)
            ]
    return d


def declare(node: Node, kinds: Iterable[type[Any]]) -> list[str]:
    """Declare every setting of `kinds` on `node`.

    Returns:
        What is wrong with the values given by file or command line, in words; empty if nothing.
        A wrong value does not end the process: the default is declared in its place, and the node
        refuses to configure with these words.
    """
    wrong = qos_overrides.refuse(node)
    for opt in (o for kind in kinds for o in options(kind)):
        default = list(opt.default) if isinstance(opt.default, tuple) else opt.default
        given = node._parameter_overrides.get(opt.name)
        if given is not None and given.type_ == Parameter.Type.NOT_SET:
            # `[]` in YAML: ROS knows no list without a type, and would leave the setting unset.
            if isinstance(opt.default, tuple):
                node._parameter_overrides[opt.name] = Parameter(opt.name, value=[NONE])
            else:
                wrong.append(f"{opt.name}: wants {opt.type_name}, got an empty list")
                del node._parameter_overrides[opt.name]
        try:
            node.declare_parameter(opt.name, default, descriptor(opt))
        except (InvalidParameterTypeException, InvalidParameterValueException) as e:
            wrong.append(_in_words(opt, node, e))
            node.declare_parameter(opt.name, default, descriptor(opt), ignore_override=True)
    known = sorted({o.name for kinds in NODE_SETTINGS.values() for k in kinds for o in options(k)})
    # rclpy ignores a key that nobody declares; for us it is a mistake in the user's file.
    for key in node._parameter_overrides:
        if key in known or key in _STANDARD or key.startswith(qos_overrides.PREFIX):
            continue
        wrong.append(str(unknown_key(key, known, where=node.get_name())))
    return wrong


def read(node: Node, kind: type[C]) -> C:
    """Read the declared values back as one checked, frozen object.

    Raises:
        ConfigError: if a value is refused by the settings class.
    """
    values = {o.name: node.get_parameter(o.name).value for o in options(kind)}
    return from_mapping(kind, {k: _plain(v) for k, v in values.items()})


def refuse_bad(node: Node, kinds: Iterable[type[Any]], parameters: list[Parameter[Any]]) -> Any:
    """Check a change of parameters before it happens; a ROS set-parameters callback result."""
    known = {o.name: o for kind in kinds for o in options(kind)}
    for p in parameters:
        value = _plain(p.value)
        bad = problem(known[p.name], value) if p.name in known else None
        if bad:
            return SetParametersResult(successful=False, reason=bad)
    try:
        for kind in kinds:
            names = [o.name for o in options(kind)]
            new = {p.name: _plain(p.value) for p in parameters if p.name in names}
            old = {n: _plain(_current(node, n, known[n])) for n in names if n not in new}
            if len(old) < len(names):
                from_mapping(kind, {**old, **new})
    except ConfigError as e:
        return SetParametersResult(successful=False, reason=str(e))
    return SetParametersResult(successful=True)


def _current(node: Node, name: str, opt: Option) -> Any:
    default = list(opt.default) if isinstance(opt.default, tuple) else opt.default
    return node.get_parameter_or(name, Parameter(name, value=default)).value


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _in_words(opt: Option, node: Node, error: Exception) -> str:
    value = node._parameter_overrides[opt.name].value
    return problem(opt, _plain(value)) or f"{opt.name}: {error}"
