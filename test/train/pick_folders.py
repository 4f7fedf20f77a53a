"""Folders of drawn picks, a stand-in for the encoder, and batches of both."""

from __future__ import annotations

import numpy as np
import torch

from robollm.data import armbench_identification as armbench
from robollm.data import jpeg
from robollm.train.parts import register_parts

register_parts("identification")


from robollm.train.engine.draws import collate  # noqa: E402
from robollm.train.features import Features  # noqa: E402
from robollm.train.identification.head import IdentificationHead  # noqa: E402
from robollm.train.identification.metric import RetrievalMetric  # noqa: E402

FLAVOURS = ("Salmon", "Beef", "Tuna")
THREE = ("PickRGB", "ToteWallRGB", "OnArmLowRGB")


def product_id(number):
    return f"B{number:09d}"


def title(number):
    """Three flavours of each article; articles share no word that counts."""
    article = number // 3
    return f"maker{article} article{article}, {FLAVOURS[number % 3]}, {article + 1} g"


def picture(product, noise, hw=(40, 48)):
    """A product is three colours in stripes; a photograph of it is that and noise."""
    colours = np.random.default_rng([product, 7]).integers(30, 226, (3, 1, 3))
    rng = np.random.default_rng([product, noise])
    rgb = np.repeat(colours, -(-hw[0] // 3), axis=0)[: hw[0]] + np.zeros((1, hw[1], 1))
    rgb = rgb + rng.normal(0, 12, rgb.shape) + rng.normal(0, 10, 3)
    return np.clip(rgb, 0, 255).astype(np.uint8)


def photo(product, noise):
    return jpeg.encode(picture(product, noise), 95)


def write(folder, *, products=18, picks=3, references=2, val=(12, 13, 14), test=(15, 16, 17)):
    """A small folder in ARMBench's layout; `picks` of each product, all views."""
    root = folder / armbench.ROOT
    names = {"train": [], "val": [], "test": []}
    which = {n: "val" if n in val else "test" if n in test else "train" for n in range(products)}
    for number in range(products):
        packed = [photo(number, 100 + k) for k in range(references)]
        armbench.write_references(root, product_id(number), packed)
        manifest = [n for n in range(products) if which[n] == which[number]]
        for k in range(picks):
            pick = f"{number}{k:03d}"
            names[which[number]].append(pick)
            armbench.write_pick(
                root,
                pick,
                {v: photo(number, 10 * k + i) for i, v in enumerate((*THREE, "FarTrayRGB"))},
                {product_id(n): {"title": title(n)} for n in manifest},
                {
                    "GT_ID": product_id(number),
                    "segmentation": {"PickRGB": [[8, 4, 40, 4, 40, 36, 8, 36]]},
                },
            )
    ids = {s: [product_id(n) for n in which if which[n] == s] for s in names}
    armbench.write_split(root, names, ids)
    return root


def pool_encoder(image):
    """Stands for BEiT-3: 4x4 cells' mean colours."""
    cells = torch.nn.functional.adaptive_avg_pool2d(image, 4)
    mixed = torch.cat([cells, cells**2], dim=1)
    return Features(mixed, mixed.flatten(1))


DIM = 6 * 16


def head(views=1, loss="InfoNCELoss", **options):
    return IdentificationHead(
        dim=DIM, embed_dim=16, views=views, hidden=32, loss={"type": loss, **options}
    )


def batch_of(data, draws):
    batch = collate([data[d] for d in draws])
    inputs = {
        k: (v.float() - 127.5) / 127.5 if v.dtype == torch.uint8 else v
        for k, v in batch["inputs"].items()
    }
    return inputs, batch["data_samples"]


def score(samples, **options):
    metric = RetrievalMetric(**options)
    metric.process({}, samples)
    return metric.compute_metrics(metric.results)


def evaluate(one, data):
    inputs, about = batch_of(data, range(len(data)))
    with torch.no_grad():
        return score(one.predict(pool_encoder, inputs, about))
