"""Errors that robollm raises on purpose: what was seen, what was wanted, and one fix."""

from __future__ import annotations


class RobollmError(Exception):
    """Base of every deliberate robollm error.

    Args:
        what: the fact that is wrong, with the value seen and the value wanted.
        fix: one action that the reader can take now.
    """

    def __init__(self, what: str, *, fix: str = "") -> None:
        super().__init__(f"{what}\n  fix: {fix}" if fix else what)
        self.what = what
        self.fix = fix


class ConfigError(RobollmError):
    """A parameter, YAML key or CLI option is unknown, of the wrong type or out of range."""


class ModelFileError(RobollmError):
    """A model bundle is missing, damaged, foreign, or asks for what this machine lacks."""


class InferenceError(RobollmError):
    """A loaded model failed on one input. The result is missing, never guessed."""


class FrameError(RobollmError):
    """One input image can't be used. The node drops it, counts it and goes on.

    Args:
        what: see `RobollmError`.
        kind: a short stable key under which the drop is counted in diagnostics.
        fix: see `RobollmError`.
    """

    def __init__(self, what: str, *, kind: str = "bad_image", fix: str = "") -> None:
        super().__init__(what, fix=fix)
        self.kind = kind


class MessageError(RobollmError):
    """One input message that is not an image can't be used (pick, container, detections).

    Args:
        what: see `RobollmError`.
        kind: a short stable key under which the drop is counted in diagnostics.
        fix: see `RobollmError`.
    """

    def __init__(self, what: str, *, kind: str = "bad_message", fix: str = "") -> None:
        super().__init__(what, fix=fix)
        self.kind = kind


class TrainingError(RobollmError):
    """Training can't go on: a loss that is not a number, a run folder that doesn't fit."""


class BagError(RobollmError):
    """A bag can't be read or written."""


class ManifestError(RobollmError):
    """A manifest file is missing, malformed or contradicts itself."""


class GalleryError(RobollmError):
    """A gallery is missing, damaged, or was made with another bundle."""


class GalleryBusyError(GalleryError):
    """Another process writes to the gallery, and did not end in the time that was waited."""


class CalibrationError(RobollmError):
    """The data can't tell what was asked of it: too few cases, or scores that say nothing."""


class EvalError(RobollmError):
    """An evaluation can't be made, resumed or compared as asked."""
