"""What the nodes of one process share: the loaded models and the recent tote images."""

from __future__ import annotations

import threading

from robollm.core.settings import RuntimeConfig
from robollm.runtime.history import FrameHistory
from robollm.runtime.perceiver import Perceiver


class Station:
    """One process' models, loaded once and freed when the last node lets go of them.

    rclpy has no component containers, so "three nodes share a backbone" means: three nodes in one
    process that were given the same Station.

    Args:
        frame_history: how many tote images are kept.
    """

    def __init__(self, frame_history: int = 16) -> None:
        self.frames = FrameHistory(frame_history)
        self.segments_here = False
        self._lock = threading.Lock()
        self._loaded: dict[RuntimeConfig, Perceiver] = {}
        self._users: dict[RuntimeConfig, int] = {}

    def acquire(self, config: RuntimeConfig) -> Perceiver:
        """Load (or share) the models of `config`. Pair with `release`.

        Raises:
            ModelFileError: see `Perceiver`.
        """
        with self._lock:
            if config not in self._loaded:
                perceiver = Perceiver(config)
                perceiver.warm_up()
                self._loaded[config] = perceiver
            self._users[config] = self._users.get(config, 0) + 1
            return self._loaded[config]

    def release(self, config: RuntimeConfig) -> None:
        """Give up one use; the last one closes and frees the models.

        Unmatched calls are ignored.
        """
        with self._lock:
            left = self._users.get(config, 0) - 1
            if left > 0:
                self._users[config] = left
            else:
                self._users.pop(config, None)
                freed = self._loaded.pop(config, None)
                if freed is not None:
                    freed.close()
