"""`qos_overrides.*` as people write them: those that no topic of ours has are refused.

rclpy declares a topic's overrides when it creates publisher or subscription, ignores all others,
and ends the process at a value that it doesn't know.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, ReliabilityPolicy

from robollm.core.config import from_mapping, options
from robollm.core.errors import ConfigError
from robollm.core.settings import PickConfig, view_topics
from robollm.nodes.play_choice import RESULT_TOPICS

PREFIX = "qos_overrides."
HEARD = ("pick", "detections", "manifest")
# Of the client library. A section `/**` may be there for other nodes, too.
STANDARD = ("/clock", "/parameter_events", "/rosout")
POLICIES = {
    "history": HistoryPolicy,
    "durability": DurabilityPolicy,
    "reliability": ReliabilityPolicy,
}


def known(node: Node) -> list[str]:
    """Every override that a node of ours takes, whichever it is.

    One section `/**` serves all of them, so none refuses what is another one's.
    """
    policies, images = ("history", "depth", "durability", "reliability"), ("image", *_views(node))
    found = [
        *((t, "publisher", p) for t in RESULT_TOPICS for p in policies),
        *((t, "subscription", p) for t in HEARD for p in policies),
        # Images: reliability by `image_qos`.
        *((t, "subscription", p) for i in images for t in (i, f"{i}/compressed")
          for p in policies[:-1]),
    ]  # fmt: skip
    return [f"{PREFIX}{node.resolve_topic_name(t)}.{end}.{p}" for t, end, p in found]


def refuse(node: Node) -> list[str]:
    """Take out of a node's overrides what it can't use.

    Returns:
        What was wrong with each, in words.
    """
    given = {k: p.value for k, p in node._parameter_overrides.items() if k.startswith(PREFIX)}
    takes = known(node) if given else []
    wrong = list[str]()
    for key, value in given.items():
        if key.removeprefix(PREFIX).startswith(tuple(f"{t}." for t in STANDARD)):
            continue
        if key in takes:
            problem = _problem(key, value)
        else:
            near = difflib.get_close_matches(key, takes, n=1, cutoff=0.6)
            fix = (
                f"did you mean {near[0]!r}?"
                if near
                else f"write {PREFIX}TOPIC.publisher.POLICY or {PREFIX}TOPIC.subscription.POLICY "
                "with the topic's full name; POLICY: history, depth, durability, reliability "
                "(images: by image_qos)"
            )
            problem = str(ConfigError(f"{node.get_name()} has no setting {key!r}", fix=fix))
        if problem:
            wrong.append(problem)
            del node._parameter_overrides[key]  # rclpy would end the process, or leave it unused
    return wrong


def _problem(key: str, value: object) -> str:
    policy = key.rpartition(".")[2]
    if policy == "depth":
        fine = type(value) is int and value > 0
        return "" if fine else f"{key}: wants a whole number > 0, got {value!r}"
    names = [n.lower() for n in POLICIES[policy].__members__ if n != "UNKNOWN"]
    return "" if value in names else f"{key}: {value!r} is not one of {', '.join(names)}"


def _views(node: Node) -> Iterator[str]:
    """Topics of the post-pick views, also on a node that has no setting for them."""
    (option,) = (o for o in options(PickConfig) if o.name == "views")
    given = node._parameter_overrides.get(option.name)
    value = option.default if given is None else tuple(given.value or ())
    try:
        yield from view_topics(from_mapping(PickConfig, {option.name: value})).values()
    except ConfigError:  # told where the setting is declared
        return
