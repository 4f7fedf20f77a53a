"""Ray, as an optional extra: is it there, does its cluster answer, and is it large enough?"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from robollm.core.errors import ConfigError

CONNECT_S = 10.0  # for a machine of the cluster to answer
OBJECT_STORE = 256 << 20  # bytes, for a Ray of our own: it holds paths and vectors


def need_ray() -> None:
    """See that Ray is installed.

    Raises:
        ConfigError: if it is not.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told about anybody's work
    try:
        import ray.data  # noqa: F401
    except ImportError as e:
        raise ConfigError(
            f"--ray needs Ray Data, which is not installed ({e})",
            fix='pip install "robollm[ray]", or go without --ray',
        ) from e


def need_answer(address: str) -> None:
    """Refuse an address at which nobody listens: Ray would try for minutes.

    Args:
        address: HOST:PORT is tried; others are Ray's business.

    Raises:
        ConfigError: if nobody answers there.
    """
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as e:
        raise _nocluster(address, e) from e


def _nocluster(address: str, error: Exception) -> ConfigError:
    where = f"at {address!r}" if address else "on this machine"
    return ConfigError(
        f"no Ray cluster {where}: {str(error).strip().splitlines()[0]}",
        fix="start one with `ray start --head` and give its address; if it wants a token, set "
        "RAY_AUTH_TOKEN to the same on all machines; or give no address",
    )


@contextmanager
def cluster(address: str, cpus: int) -> Iterator[None]:
    """Connect to a cluster, or start one here; one that is connected already is used, and stays.

    Args:
        address: of the cluster; empty: start one.
        cpus: processors that one started here should have at least.

    Raises:
        ConfigError: if it can't be reached.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        else:
            ray.init(
                num_cpus=max(cpus, len(os.sched_getaffinity(0))),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
                object_store_memory=OBJECT_STORE,
            )
    except (ConnectionError, OSError, RuntimeError, ValueError) as e:
        raise _nocluster(address, e) from e
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # Ray's own would lose what waits to be committed
    try:
        yield
    finally:
        ray.shutdown()


def places(workers: int, *, threads: int, gpus: int) -> int:
    """How many workers run at once on the cluster that is connected.

    Args:
        workers: as many as asked for; 0: as many as fit in.
        threads: of each.
        gpus: of each.

    Raises:
        ConfigError: if the cluster can't carry as many as were asked for: Ray would wait.
    """
    import ray

    have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    most = int(have.get("CPU", 0) // threads)
    if gpus:
        most = min(most, int(have.get("GPU", 0)))
    if most < max(1, workers):
        raise ConfigError(
            f"{max(1, workers)} workers with {threads} threads {'and a GPU ' if gpus else ''}each "
            f"don't fit Ray's cluster of {have.get('CPU', 0):g} processors and "
            f"{have.get('GPU', 0):g} GPUs",
            fix="give fewer --workers or --threads, or add machines",
        )
    return workers or most
