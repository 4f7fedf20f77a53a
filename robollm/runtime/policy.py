"""Which thresholds an identification obeys: a parameter's, the gallery's, else the bundle's."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from robollm.core.calibration import T_MAX, T_MIN
from robollm.core.decide import ElsewherePolicy, IdentificationPolicy
from robollm.core.settings import IdentificationConfig
from robollm.runtime.bundle import Bundle

INSIDE = ("accept", "margin", "temperature", "unknown_at")
KIND = "calibration"
"""Kind of the gallery's records that hold calibrations."""
MOST_GROWTH = 1.5
"""A gallery that has grown by more than this since has more look-alikes than were measured."""


class Calibrated(Protocol):
    """What a policy needs of a gallery."""

    @property
    def products(self) -> Any:
        """Something with a length: the products with a reference."""
        ...

    @property
    def plan(self) -> str:
        """What a search of the whole gallery runs on."""
        ...

    def record(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """A document that is kept in the gallery."""
        ...


def record_name(product_score: str, view_fusion: str) -> str:
    """Name of the calibration for a way to compare."""
    return f"{product_score}/{view_fusion}"


def is_exact(plan: str) -> bool:
    """Whether a search of the whole gallery misses nothing, by what `StoredGallery.plan` says."""
    return plan.startswith("exact")


def query_digest(bundle: Bundle, view_fusion: str) -> str:
    """SHA-256 of what makes a query, 64 hex digits: with the head that joins the views, if used."""
    if view_fusion != "fused" or "fusion" not in bundle.graphs:
        return bundle.embedding_sha256
    fusion = hashlib.sha256(bundle.graphs["fusion"].read_bytes()).hexdigest()
    return hashlib.sha256(f"{bundle.embedding_sha256} {fusion}".encode()).hexdigest()


def policy_of(
    config: IdentificationConfig, bundle: Bundle, gallery: Calibrated, *, query_sha256: str
) -> tuple[IdentificationPolicy, str]:
    """The thresholds in use, and where they come from.

    Args:
        config: the user's settings; its accept and margin come first.
        bundle: the bundle in use; its thresholds serve where there is no calibration.
        gallery: the gallery in use.
        query_sha256: `query_digest` of the bundle.

    Returns:
        The policy, and a text for people. A calibration that was made with something else is not
        applied; the text says so.
    """
    name = record_name(config.product_score, config.view_fusion)
    record = gallery.record(KIND, name)
    why = _why_not(record, config, query_sha256)
    t = bundle.thresholds
    policy = IdentificationPolicy(
        t.accept, t.margin, t.id_temperature, config.top_k, view_fusion=config.view_fusion
    )
    if record is None or why:
        text, far = f"bundle's thresholds ({why})", "a calibration"
    else:
        text = f"gallery's calibration {name} of {record['made']}"
        near = {k: float(v) for k, v in record["inside"].items()}
        policy = replace(
            policy,
            accept=near["accept"],
            margin=near["margin"],
            temperature=near["temperature"],
            unknown_at=near["unknown_at"],
        )
        far = _why_not_elsewhere(record, gallery)
        if config.search_elsewhere and not far:
            numbers = {k: float(v) for k, v in record["elsewhere"].items()}
            policy = replace(policy, elsewhere=ElsewherePolicy(**numbers))
    if config.search_elsewhere and far:
        text += f"; not_in_manifest is never answered, it wants {far}"
    mine = []
    if config.accept >= -1:
        policy = replace(policy, accept=config.accept)
        mine.append("accept")
    if config.margin >= 0:
        policy = replace(policy, margin=config.margin)
        mine.append("margin")
    if mine:
        text += f"; {' and '.join(mine)} set by parameter"
    return policy, text


def _why_not(
    record: Mapping[str, Any] | None, config: IdentificationConfig, query_sha256: str
) -> str:
    """Why a record can't be applied; empty: it can."""
    name = record_name(config.product_score, config.view_fusion)
    if record is None:
        return f"the gallery has no calibration {name}: robollm gallery calibrate makes one"
    try:
        if record["query_sha256"] != query_sha256:
            return f"the gallery's calibration {name} was made with bundle {record['bundle']}"
        for key in ("product_score", "view_fusion"):
            if record[key] != getattr(config, key):
                return f"the gallery's calibration {name} was made with {key} {record[key]}"
        limits = {
            "accept": (-1, 1), "margin": (0, 2), "temperature": (T_MIN, T_MAX),
            "unknown_at": (-math.inf, math.inf), "handicap": (-math.inf, math.inf),
        }  # fmt: skip
        parts = {"inside": record["inside"]}
        if record["elsewhere"] is not None:
            parts["elsewhere"] = record["elsewhere"]
        for part, values in parts.items():
            wanted = set(INSIDE if part == "inside" else limits)
            if set(values) != wanted:
                raise ValueError(f"{part} has {sorted(values)}, want {sorted(wanted)}")
            for key, value in values.items():
                low, high = limits[key]
                if not (math.isfinite(value) and low <= value <= high):
                    raise ValueError(f"{part}.{key} is {value!r}")
        record["made"], record["exact"], int(record["products"])
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as e:
        return f"the gallery's calibration {name} is malformed: {e!r}"
    return ""


def _why_not_elsewhere(record: Mapping[str, Any], gallery: Calibrated) -> str:
    """What must be there before products outside the manifest are named; empty: nothing."""
    if record["elsewhere"] is None:
        return f"more data ({record.get('elsewhere_missing', 'none was kept')})"
    now, then = len(gallery.products), int(record["products"])
    if now > MOST_GROWTH * then:
        return f"a new calibration: the gallery has {now} products, {then} then"
    if is_exact(gallery.plan) != record["exact"]:
        kinds = ("an approximate", "an exact")
        was, has = kinds[record["exact"]], kinds[is_exact(gallery.plan)]
        return f"a calibration with {has} search: that one was made with {was} one"
    return ""
