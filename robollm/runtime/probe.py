"""How long from process start to the first verdict? `start` runs this file as that process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from robollm.core.errors import ModelFileError, RobollmError

if TYPE_CHECKING:
    from robollm.core.settings import RuntimeConfig


def start(config: RuntimeConfig) -> dict[str, float]:
    """Start a new Python process that loads a bundle and judges one pick.

    Returns:
        Seconds since the process was started: `python_s` until our first line ran, `imports_s`
        until the libraries were loaded, `loaded_s` until the bundle was verified and its graphs
        were ready, `masks_s` until the first tote had masks, `verdict_s` until the first pick had a
        verdict; then `next_ms`, the same masks and verdict once more, and `rss_mib`, `peak_mib`.

    Raises:
        ModelFileError: the process gave up, with its words.
    """
    order = json.dumps({"config": asdict(config), "began": time.monotonic()})
    words = [sys.executable, "-m", "robollm.runtime.probe", order]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ModelFileError(last[0], fix=last[-1].removeprefix("  fix: "))
    found: dict[str, float] = json.loads(done.stdout)
    return found


def judge(config: Mapping[str, Any], began: float) -> dict[str, float]:
    """Load, look at a tote, judge a pick of two views; see `start`.

    Args:
        config: of `RuntimeConfig`.
        began: `time.monotonic` when the process was started.
    """
    marks = {"python_s": time.monotonic()}
    import numpy as np

    from robollm.core.frame import Frame
    from robollm.core.settings import DefectConfig, PickConfig, RuntimeConfig
    from robollm.runtime.measure import resident_mib
    from robollm.runtime.perceiver import Perceiver, PickView
    from robollm.runtime.pixels import Region

    marks["imports_s"] = time.monotonic()
    perceiver = Perceiver(RuntimeConfig(**config))
    marks["loaded_s"] = time.monotonic()
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (12, 16, 3), np.uint8)
    picture = np.ascontiguousarray(coarse.repeat(40, 0).repeat(40, 1))

    def verdict(stamp: int) -> float:
        """Masks, then a verdict; when the masks were there."""
        perceiver.segment(Frame(picture, "rgb", stamp))
        masks = time.monotonic()
        frames = [Frame(picture, "rgb", stamp + 1, stream=name) for name in ("low", "wall")]
        perceiver.embed([Region(f) for f in frames])
        perceiver.inspect_pick(
            [PickView(f.stream, Region(f)) for f in frames],
            thresholds=perceiver.defect_thresholds(DefectConfig()),
            quality=PickConfig(),
        )
        return masks

    marks["masks_s"] = verdict(1)
    marks["verdict_s"] = time.monotonic()
    verdict(3)
    again = time.monotonic() - marks["verdict_s"]
    now, peak = resident_mib()
    return {
        **{name: round(at - began, 3) for name, at in marks.items()},
        "next_ms": round(1e3 * again, 1),
        "rss_mib": now,
        "peak_mib": peak,
    }


def main() -> int:
    """Judge as told by the one argument, and print what `start` reads."""
    order = json.loads(sys.argv[1])
    try:
        print(json.dumps(judge(order["config"], order["began"])))
    except RobollmError as e:
        print(e, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
