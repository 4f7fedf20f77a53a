"""The embedding step of a gallery build on Ray Data: several processes, or several machines.

Ray places the models and moves the work; the driver alone reads the gallery and writes it. Paths
travel, not pictures: every machine must see the folder of images and the bundle under the same
names, as on a shared folder, and have robollm installed.
"""

from __future__ import annotations

import logging
import pickle
import socket
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError, FrameError, InferenceError, RobollmError
from robollm.core.settings import RuntimeConfig
from robollm.runtime.default_bundle import find_bundle
from robollm.runtime.embed_files import READERS, LocalEmbedding, Seen, batch_of, in_order
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.ray_cluster import cluster, need_answer, need_ray, places
from robollm.runtime.references import Picture, digest_of

BATCHES_PER_TASK = 8  # what Ray hands out at a time; ten thousand tasks for a million pictures


class RayEmbedding:
    """Embeds with several models, which Ray Data runs; the same vectors as `LocalEmbedding`'s.

    Args:
        config: the model; `threads` 0 means one here, because there are several models.
        embedding_sha256: of the bundle that the driver has checked.
        images: the folder of images.
        address: of a running Ray cluster; empty: one is started on this machine, for as long as
            it takes.
        workers: models that run at once; 0: as many as the cluster's processors, or GPUs, carry.

    Raises:
        ConfigError: if Ray is not installed, or the cluster can't be reached or is too small.
    """

    def __init__(
        self,
        config: RuntimeConfig,
        *,
        embedding_sha256: str,
        images: Path,
        address: str = "",
        workers: int = 0,
    ) -> None:
        need_ray()
        need_answer(address)
        self._config = replace(
            config, bundle=str(find_bundle(config.bundle).absolute()), threads=config.threads or 1
        )
        self._sha256 = embedding_sha256
        self._images = str(images.absolute())
        self._address = address
        self._workers = workers

    def __call__(self, pictures: Sequence[Picture], known: Mapping[str, str]) -> Generator[Seen]:
        """See `Embedding`. Pictures that are known as they are come first.

        Raises:
            ConfigError: see the class; or a worker doesn't see a file that is here.
            InferenceError: if the model or Ray fails.
        """
        fresh: list[Picture] = []
        for picture, digest in self._hashed(pictures, known):
            if digest == known.get(picture.source, ""):
                yield Seen(picture, digest)
            else:
                fresh.append(picture)
        if not fresh:
            return
        size = batch_of(self._config)
        source = iter(fresh)
        batches = iter(lambda: list(islice(source, size)), [])
        rows = [{"number": n, "pictures": pickle.dumps(b)} for n, b in enumerate(batches)]
        with cluster(self._address, self._workers * self._config.threads):
            for part in self._run(rows):
                yield from part

    def _hashed(
        self, pictures: Sequence[Picture], known: Mapping[str, str]
    ) -> Iterator[tuple[Picture, str | None]]:
        """Digests of the files that may be unchanged; the others are read by who embeds them."""

        def one(picture: Picture) -> tuple[Picture, str | None]:
            if picture.source not in known:
                return picture, None
            try:
                return picture, digest_of(picture.file)
            except FrameError:  # the worker will say the same
                return picture, None

        with ThreadPoolExecutor(READERS, "hash picture") as pool:
            try:
                yield from in_order(pool, one, pictures, most=4 * READERS)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, rows: list[dict[str, Any]]) -> Iterator[list[Seen]]:
        import ray
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)  # its chat about plans and bars
        gpus = 1 if self._config.provider in ("cuda", "tensorrt") else 0
        workers = min(len(rows), places(self._workers, threads=self._config.threads, gpus=gpus))
        tasks = max(min(len(rows), workers), -(-len(rows) // BATCHES_PER_TASK))
        data = ray.data.from_items(rows, override_num_blocks=tasks).map_batches(
            _Worker,
            fn_constructor_args=(self._config, self._sha256, self._images),
            compute=ray.data.ActorPoolStrategy(size=workers),
            batch_size=1,
            batch_format="numpy",
            num_cpus=self._config.threads,
            num_gpus=gpus,
        )
        data.context.execution_options.preserve_order = True
        data.context.enable_progress_bars = False
        answers = iter(data.iter_rows())
        for row in rows:
            try:
                answer = next(answers)
            except (ray.exceptions.RayError, StopIteration) as e:
                last = (str(e).strip() or "its results ended early").splitlines()[-1]
                raise InferenceError(
                    f"Ray could not embed: {last}",
                    fix="see that every machine has this robollm and its extra `ray`; then run the "
                    "same command again: it goes on where it was",
                ) from e
            if answer["number"] != row["number"]:
                raise InferenceError(
                    f"Ray gave batch {answer['number']} where {row['number']} was due",
                    fix="build without --ray, and report this with Ray's version",
                )
            found = pickle.loads(answer["seen"])
            if isinstance(found, RobollmError):
                raise found
            yield _checked(found)


def _checked(found: list[Seen]) -> list[Seen]:
    """Take a batch's results, unless a machine can't read what can be read here.

    Raises:
        ConfigError: then: else all pictures would be bad ones.
    """
    for one in found:
        if one.why_bad and not one.sha256:
            with suppress(FrameError):
                digest_of(one.picture.file)
                raise ConfigError(
                    f"a worker of Ray says {one.why_bad!r}, but on this machine it can be read",
                    fix="give all machines the images under the same path, on a shared folder",
                )
    return found


class _Worker:
    """One model in a process of Ray's. Its errors travel as data: Ray would wrap and repeat them.

    Args:
        config: the model.
        embedding_sha256: what the driver's bundle has.
        images: the folder of images.
    """

    def __init__(self, config: RuntimeConfig, embedding_sha256: str, images: str) -> None:
        self._embedding: LocalEmbedding | None = None
        self._error: RobollmError | None = None
        try:
            perceiver = Perceiver(config)
            if perceiver.bundle.embedding_sha256 != embedding_sha256:
                raise ConfigError(
                    f"on {socket.gethostname()} {config.bundle!r} is another bundle than here",
                    fix="give all machines the same bundle under the same path",
                )
            if not Path(images).is_dir():
                raise ConfigError(
                    f"{socket.gethostname()} doesn't see the folder {images!r}",
                    fix="give all machines the images under the same path, on a shared folder",
                )
            self._embedding = LocalEmbedding(perceiver)
        except RobollmError as e:
            self._error = e

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Embed one batch of pictures: `number` and `pictures` to `number` and `seen`."""
        answers = np.empty(len(batch["number"]), object)
        for i, packed in enumerate(batch["pictures"]):
            answers[i] = pickle.dumps(self._look(pickle.loads(packed)))
        return {"number": batch["number"], "seen": answers}

    def _look(self, pictures: Sequence[Picture]) -> list[Seen] | RobollmError:
        if self._embedding is None:
            assert self._error is not None
            return self._error
        try:
            return list(self._embedding(pictures, {}))
        except RobollmError as e:
            return e
