"""`robollm segment`: instances of one image, by the path that the nodes use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from robollm.cli.options import take, with_settings
from robollm.core.settings import RuntimeConfig, SegmentationConfig


@click.command(help="Find the instances of IMAGE; JSON on stdout, masks as COCO run lengths.")
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--draw", type=click.Path(path_type=Path), help="Write a picture with the masks.")
@with_settings(RuntimeConfig, SegmentationConfig, without=("overlay",))  # that is --draw
def command(image: Path, draw: Path | None, **settings: Any) -> None:
    """Segment one image."""
    import cv2

    from robollm.core.errors import FrameError
    from robollm.core.masks import encode_rle
    from robollm.runtime import overlay
    from robollm.runtime.perceiver import Perceiver
    from robollm.runtime.predict_files import read_frame
    from robollm.runtime.timing import Laps

    frame = read_frame(image, max_side=settings["max_image_side"])
    perceiver = Perceiver(take(RuntimeConfig, settings))
    config, laps = take(SegmentationConfig, settings), Laps()
    found = perceiver.segment(
        frame,
        score_min=None if config.score_min < 0 else config.score_min,
        max_instances=config.max_instances,
        laps=laps,
    )
    names = perceiver.bundle.instance_labels
    rows = [
        {
            "box_xyxy": [round(float(v), 2) for v in found.boxes[i]],
            "score": round(float(found.scores[i]), 4),
            "label": names[found.labels[i]],
            "rle": {"size": list(found.hw), "counts": encode_rle(found.masks[i].full(found.hw))},
        }
        for i in range(len(found))
    ]
    if draw:
        boxes = [(float(b[0]), float(b[1]), float(b[2]), float(b[3])) for b in found.boxes]
        texts = [f"{i + 1} {s:.2f}" for i, s in enumerate(found.scores)]
        picture = overlay.draw_instances(overlay.to_bgr(frame), found.label_map(), boxes, texts)
        if not perceiver.bundle.trained:
            picture = overlay.untrained_mark(picture)
        try:
            written = cv2.imwrite(str(draw), picture)
        except cv2.error:  # an unknown suffix raises, a missing folder doesn't
            written = False
        if not written:
            raise FrameError(
                f"can't write {draw}", fix="give a .jpg or .png file in a folder that exists"
            )
    card = {
        "image": str(image),
        "bundle": perceiver.bundle.title,
        "precision": perceiver.precision,
        "where": perceiver.where,
        "instances": rows,
        "ms": {k: round(v, 2) for k, v in laps.ms.items()},
    }
    click.echo(json.dumps(card))
