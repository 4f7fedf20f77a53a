"""Two pictures of a calibration: the open-set curve, and the reliability diagram."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robollm.core.errors import ConfigError

_SIZE, _DPI = (6.4, 4.4), 110


def draw(out: Path, record: dict[str, Any]) -> None:
    """Write `curve.png` and `reliability.png`.

    Args:
        out: an existing folder.
        record: of `robollm.runtime.calibrate.calibrate`.

    Raises:
        ConfigError: if Matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as e:
        raise ConfigError(
            f"pictures need Matplotlib, which can't be imported: {e}; calibration.json is written",
            fix="pip install 'robollm[eval]'",
        ) from e
    for name, plot in (("curve", _curve), ("reliability", _reliability)):
        figure = Figure(figsize=_SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        plot(figure.add_subplot(), record)
        part = out / f".{name}.png.tmp"
        figure.savefig(part, format="png", dpi=_DPI)
        part.replace(out / f"{name}.png")


def _curve(axes: Any, record: dict[str, Any]) -> None:
    """False accept against false reject as the threshold moves, and the point that was chosen."""
    chosen, told, old = (
        record[k] for k in ("chosen_on", "reported_on", "bundles_thresholds")
    )  # fmt: skip
    curve = chosen["curve"]
    reject = [p["false_reject"] for p in curve]
    axes.plot([p["false_accept"] for p in curve], reject, label="picks that chose")
    axes.plot([p["false_accept_at_most"] for p in curve], reject, linestyle=":",
              label=f"upper limit, {record['wanted']['confidence']:.0%}")  # fmt: skip
    for half, mark, name in (
        (chosen, "o", "chosen"), (told, "s", "on the other picks"),
        (old, "x", "bundle's thresholds on these"),
    ):  # fmt: skip
        axes.plot(half["false_accept"]["share"], half["false_reject"], mark, color="black",
                  label=name, fillstyle="none")  # fmt: skip
    axes.axvline(record["wanted"]["false_accept"], color="grey", linewidth=0.8)
    axes.set_xlabel("false accept: share of strangers that are named")
    axes.set_ylabel("false reject: share of known objects that are not named")
    axes.set_xscale("symlog", linthresh=0.01)
    axes.set_xlim(-0.001, 1)
    axes.set_ylim(-0.02, 1.02)
    axes.set_title(f"{record['product_score']}/{record['view_fusion']}, margin "
                   f"{record['inside']['margin']:.3f}", fontsize=10)  # fmt: skip
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _reliability(axes: Any, record: dict[str, Any]) -> None:
    """Published score of the decision against how often it came true, with the bundle's own."""
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for key, name, mark in (
        ("bundles_thresholds", "bundle's thresholds", "x"), ("reported_on", "calibrated", "o"),
    ):  # fmt: skip
        held = record[key]["reliability"]
        bins = held["bins"]
        true = [b["true"] for b in bins]
        limits = [
            [t - b["low"] for t, b in zip(true, bins, strict=True)],
            [b["high"] - t for t, b in zip(true, bins, strict=True)],
        ]
        # fmt: off
        axes.errorbar([b["said"] for b in bins], true, yerr=limits, marker=mark, linestyle="",
                      capsize=2, elinewidth=0.8,
                      label=f"{name}: ECE {held['ece']:.3f} (noise {held['floor']:.3f})")
        # fmt: on
    axes.set_xlabel("published score of the decision")
    axes.set_ylabel("share that came true")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_title(f"{record['reported_on']['picks']} picks that chose nothing", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")
