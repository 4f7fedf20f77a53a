"""What a bundle's card says of the data that its tasks were trained on."""

from __future__ import annotations

import json

from robollm.export.card import training_data


def test_the_card_names_data_with_their_kind_while_they_are_there(tmp_path):
    data = tmp_path / "tiny"
    part = data / "armbench-object-id-0.1"
    part.mkdir(parents=True)
    assert training_data(data) == {"data": "tiny", "kind": "armbench"}
    (data / "card.json").write_text(json.dumps({"format": "robollm-dataset"}))
    assert training_data(data) == {"data": "tiny", "kind": "simulated"}
    assert training_data(part) == {"data": part.name, "kind": "simulated"}
    assert training_data(tmp_path / "gone") == {"data": "gone"}
