"""What each kind of problem takes from a run: samples, truth, something else, or nothing.

One table for all kinds that the rooms below note or raise; a test compares it with their code, so
that a new kind must be given its effect here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from robollm.core.picks import UNCLAIMED
from robollm.eval.armbench import LEFT_OUT, NOT_THERE
from robollm.eval.run_card import CARD
from robollm.eval.truth import NO_TRUTH, TRUTH_OF_ANOTHER


class Effect(Enum):
    """What a problem of a kind takes from a run."""

    SAMPLE = "a sample of the split has no record"
    TRUTH = "a sample is scored against less than what is annotated"
    PART = "something else that was asked for is lost, in words of its own"
    NOTED = "nothing is lost; or records, or counts beside the figures, tell of it"


_SAMPLES = (
    "missing_pick", "unreadable_pick", "missing_tote_image", "bad_pick", "missing_induct",
    "empty_induct", "no_annotation", "missing_video", "missing_annotation", "bad_json", "no_label",
    "unknown_label", "bad_box", "bad_image_entry", "repeated_image", "duplicate_key",
    "missing_image", "empty_image", "corrupt_image", "truncated_image", "image_too_large",
)  # fmt: skip
_TRUTH = (
    "orphan_annotation", "unknown_category", "degenerate_box", "outside_box", "empty_segmentation",
    "bad_segmentation",
)  # fmt: skip
_PARTS = {
    LEFT_OUT: "parts of the data were found and left out",
    "bad_reference": "reference pictures can't be read: their products are searched without them",
    "unreadable_container": "containers can't be read: no product is right among theirs",
    "empty_view": "views are empty files: their picks are answered without them",
    "bad_truth": "lines of the simulator's truth can't be read: their picks have no label",
    "no_frame_count": "films don't tell their length: only their first frame is judged",
    "damaged_bag": "files or stretches of bags are damaged or missing",
    "lost_message": "messages of bags can't be read",
    "bad_message": "messages of bags can't be decoded",
    TRUTH_OF_ANOTHER: "truths know no pick of their bag: are they of other bags?",
    NO_TRUTH: "bags have no truth: their picks are answered, not scored",
    "truth_without_pick": "picks of a truth are not in its bag, and are not scored",
    "pick_without_truth": "picks are not in the truth, and are not scored",
    "truth_without_frame": "tote images of a truth are not in its bag, and are not scored",
}
"""Kind -> in words."""
_NOTED = (
    # Asked for by nobody, or ARMBench's own way.
    NOT_THERE, "missing_view", "learned_product", "product_in_train_and_test", "repeated_induct",
    # Used all the same, or otherwise than usual; captions say so where it matters.
    "clipped_box", "box_of_polygons", "no_box", "other_category", "mixed_sizes", "label_form",
    "box_form", "no_frame_rate", "mixed_sessions",
    # The sample has a record that says so: it counts as wrong, and makes the run partial itself.
    "no_view", "wrong_size", "other_size", "unreadable_video", "truncated_video", "corrupt_video",
    # Counted beside the figures.
    "truth_not_in_manifest", "product_without_reference",
    # Damage of the records, of which the run's journals tell.
    "torn_line", "damaged_line", "duplicate_record",
    # What the nodes would do with such a recording, too.
    UNCLAIMED, "picks_timed_out", "pick_without_tote_image", "repeated_pick_id", "duplicate_pick",
    "stale_view", "future_view", "repeated_stamp", "bad_container", "bad_stamp", "bad_encoding",
    "bad_step", "bad_data_length", "bad_compressed", "no_container_topic", "no_image_topic",
    "manifest_updates",
    # Of training, or of the report's pictures.
    "no_polygon", "no_outline", "missing_picture", "no_record",
)  # fmt: skip
EFFECTS: Mapping[str, Effect] = {
    **dict.fromkeys(_SAMPLES, Effect.SAMPLE),
    **dict.fromkeys(_TRUTH, Effect.TRUTH),
    **dict.fromkeys(_PARTS, Effect.PART),
    **dict.fromkeys(_NOTED, Effect.NOTED),
}
"""Kind -> effect. Kinds that running nodes count are not here: they are how the product behaves."""
_SUMS = {
    Effect.SAMPLE: "samples of the data can't be used",
    Effect.TRUTH: "annotations of the data can't be used: figures don't ask for them",
}


def losses(counts: Mapping[str, int]) -> list[str]:
    """Why figures rest on less than was ordered.

    Args:
        counts: kind of problem -> how many, of a run.

    Returns:
        Sentences with their counts; none: nothing was lost.
    """
    out = [f"{counts[kind]} {what}" for kind, what in _PARTS.items() if counts.get(kind)]
    for effect, what in _SUMS.items():
        mine = {kind: n for kind, n in counts.items() if n and EFFECTS.get(kind) is effect}
        if mine:
            kinds = ", ".join(f"{n} {kind}" for kind, n in mine.items())
            out.append(f"{sum(mine.values())} {what}: {kinds}")
    return [f"{line} (see the problems in {CARD})" for line in out]
