"""`verdict_monitor`: what a controller would see, as a table, one picture per pick and a report."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robollm.core.errors import RobollmError
from robollm.core.settings import PickConfig, view_topics
from robollm.nodes.signals import Stop, listening

if TYPE_CHECKING:
    from robollm.nodes.monitor_report import Row

LINGER_S = 1.0  # after the last verdict


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="verdict_monitor", description=__doc__)
    p.add_argument("--out", type=Path, default=Path("verdicts"), help="folder for the pictures")
    p.add_argument("--picks", type=int, default=0, help="end after this many verdicts; 0: never")
    p.add_argument("--timeout", type=float, default=60.0, help="give up after this long, s")
    p.add_argument(
        "--brief", action="store_true", help="a line per pick only; the tables are in report.md"
    )
    p.add_argument(
        "--views", nargs="*", default=list(PickConfig().views), help="as the parameter `views`"
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Watch until all verdicts came.

    Returns:
        0 if they did, 1 if time ran out or a signal came before they did, or one came twice, 2 if
        the settings are wrong or a picture can't be written.
    """
    raw = sys.argv if argv is None else ["verdict_monitor", *argv]
    with listening() as stop:
        return _run(raw, stop)


def _run(raw: Sequence[str], stop: Stop) -> int:
    # In here, after the signal handlers: these take half a second, and Ctrl-C may come meanwhile.
    import cv2
    import rclpy
    from rclpy.signals import SignalHandlerOptions
    from rclpy.utilities import remove_ros_args

    from robollm.nodes import monitor_report
    from robollm.nodes.monitor import NODES, VerdictMonitor
    from robollm.runtime.memory import keep_large_buffers

    args = _parser().parse_args(remove_ros_args(list(raw))[1:])
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    pool = ThreadPoolExecutor(1)  # drawing must not delay the arrival times

    drawn: list[Future[None]] = []

    def draw(file: Path, picture: Callable[[], Any]) -> None:
        if not cv2.imwrite(str(file), picture()):
            raise OSError(f"can't write {file}")

    def on_row(row: Row, picture: Callable[[], Any]) -> None:
        rows.append(row)
        file = args.out / f"{row.pick_id.replace('/', '_')}.png"
        drawn.append(pool.submit(draw, file, picture))
        ms = monitor_report.ms_text(row.event_ms)
        print(
            f"{row.pick_id}: {row.verdict} {row.score:.2f} on {len(row.views)} views, "
            f"{row.product or 'not identified'} {row.probability:.2f}, {ms} ms",
            flush=True,
        )

    keep_large_buffers()
    rclpy.init(args=list(raw), signal_handler_options=SignalHandlerOptions.NO)
    end = time.monotonic() + args.timeout
    announced, wanted = False, args.picks
    try:
        node = VerdictMonitor(PickConfig(views=tuple(args.views)), on_row)
        while time.monotonic() < end and not stop.asked():
            rclpy.spin_once(node, timeout_sec=0.2)
            if 0 < args.picks <= len(rows):
                end = min(end, time.monotonic() + LINGER_S)  # a second verdict would come now
                args.picks = 0
            if not announced and node.ready():
                announced = True
                print("ready", flush=True)
    except RobollmError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    finally:
        pool.shutdown()
        rclpy.try_shutdown()
    rows.sort(key=lambda r: r.pick_id)
    expected = len(view_topics(PickConfig(views=tuple(args.views))))
    text = monitor_report.table(rows, expected, NODES)
    stages = monitor_report.stages(rows, NODES, node.tote_ms)
    if not args.brief:
        print(f"\n{text}\n\n{monitor_report.stage_table(stages)}")
    monitor_report.write(
        args.out, rows, text, stages, bundle=node.bundle, trained=node.trained, expected=expected
    )
    for future in drawn:  # after the report, which shall not be lost with a picture
        if error := future.exception():
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0 if len(rows) >= wanted and not node.repeated else 1


if __name__ == "__main__":
    sys.exit(main())
