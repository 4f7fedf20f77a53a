from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from paper_studio import PaperStudio

from robollm import __version__
from robollm.data import armbench_segmentation
from robollm.sim.dataset.card import NOTES, SIDES_PX, command, summary
from robollm.sim.dataset.card_sheets import fit, grid, spread
from robollm.sim.dataset.make import make_dataset
from robollm.sim.dataset.plan import EVENTS, DatasetSettings
from robollm.sim.products import catalogue
from robollm.sim.products.fonts import fonts_used

SETTINGS = DatasetSettings(
    totes=8, variants=2, picks=12, products=30, size="96x80", view_size="64x64", seed=11
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset on paper, and its card as it was written."""
    folder = tmp_path_factory.mktemp("card")
    make_dataset(folder, SETTINGS, workers=1, studio=PaperStudio)
    return folder, json.loads((folder / "card.json").read_text())


def test_the_card_says_what_makes_the_dataset_again(made):
    card = made[1]
    assert card["format"] == "robollm-dataset"
    assert card["format_version"] == 1
    assert card["robollm"] == __version__
    assert card["settings"]["seed"] == 11
    assert card["fonts"] == fonts_used()
    assert {len(sha) for sha in card["fonts"].values()} == {64}
    assert "--seed 11" in card["command"]
    assert set(NOTES) == set(card["notes"])


def test_every_option_of_the_command_is_one_that_the_program_knows():
    from robollm.cli.sim import dataset

    flags = {f for p in dataset.params for f in p.opts}
    assert {w for w in command(SETTINGS).split() if w.startswith("--")} <= flags


def test_the_counts_are_those_of_the_files(made):
    folder, card = made
    for name, count in card["segmentation"]["images"].items():
        subset, split = name.split("/")
        data = armbench_segmentation.read_split(
            folder / armbench_segmentation.ROOT / subset / f"{split}.json"
        )
        assert len(data["images"]) == count
        assert len(data["annotations"]) == card["segmentation"]["annotations"][name]
        for image in data["images"]:
            images = folder / armbench_segmentation.ROOT / subset / "images"
            assert (images / image["file_name"]).is_file()
    labels = sum(card["picks"]["defect_image_labels"].values())
    jpegs = (folder / "armbench-defects-image-0.1" / "data").glob("*/*.jpg")
    assert labels == len(list(jpegs))


def test_histograms_hold_every_instance_once(made):
    part = made[1]["segmentation"]
    objects = sum(part["annotations"].values())
    assert sum(part["visibility"].values()) == objects
    assert sum(part["side_px"].values()) == objects
    assert len(part["side_px"]) == len(SIDES_PX) + 1
    images = sum(sum(h.values()) for h in part["objects_per_image"].values())
    assert images == sum(part["images"].values()) == 16


def test_every_event_is_counted(made):
    events = made[1]["picks"]["events"]
    assert sum(events.values()) == 12
    assert {e.split("/")[1] for e in events} == set(EVENTS)


def test_the_summary_counts_families():
    products = catalogue.make_catalogue(3, 40, "train")
    found = summary(products)
    assert found["products"] == 40
    assert sum(found["kinds"].values()) == 40
    assert found["in_families_of_two_or_more"] >= 20
    assert found["families"] == len({p.family for p in products})


def test_there_is_a_sheet_of_every_kind_and_it_is_no_blank(made):
    folder, card = made
    assert {n.split("_")[1].split(".")[0] for n in card["sheets"]} == {"totes", "picks", "products"}
    for name in card["sheets"]:
        picture = cv2.imread(str(folder / name))
        assert picture.std() > 5
        assert max(picture.shape) < 2200


def test_a_picture_is_fitted_without_distortion():
    tall = np.zeros((200, 100, 3), np.uint8)
    out = fit(tall, (60, 80))
    dark = np.nonzero((out == 0).all(2))
    assert out.shape == (60, 80, 3)
    assert np.ptp(dark[0]) + 1 == 60
    assert np.ptp(dark[1]) + 1 == 30


def test_a_sheet_shows_every_cell():
    cells = [np.full((10, 10 + k, 3), k, np.uint8) for k in range(5)]
    sheet = grid(cells, 2)
    assert all((sheet == k).all(2).sum() >= 100 for k in range(5))
    assert spread("abcdef", 3) == ["a", "c", "e"]
    assert spread("ab", 3) == ["a", "b"]
