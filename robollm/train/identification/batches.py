"""Batches in which a product meets others, above all those that look like it.

All plans are pure functions of seed and step; `MinedBatches` also of its table of look-alikes,
which `MineNegatives` fills and keeps in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS, HOOKS
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.train.identification.plans import (
    GroupedBatches,
    Ints,
    ProductPlan,
    draw_some,
    nearest_products,
)
from robollm.train.multitask import AlternatingBatches


@DATA_SAMPLERS.register_module()
class ProductBatches(ProductPlan):
    """Different products in a batch, as far as there are enough; every sample once per epoch.

    An epoch leaves out a rest of less than a batch, other samples each time. Products with many
    samples left are preferred, so that they don't remain alone at the end.
    """

    def __init__(self, dataset: Any, batch_size: int, seed: int = 0) -> None:
        super().__init__(dataset, batch_size, seed)
        self._epoch = -1
        self._plan: list[list[int]] = []

    def indices(self, step: int) -> Sequence[int]:
        """See `Batches.indices`."""
        epoch, place = divmod(step, len(self))
        if epoch != self._epoch:
            self._epoch, self._plan = epoch, self._draw(epoch)
        return self._plan[place]

    def _draw(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng([self.seed, epoch, 3])
        waiting = [rng.permutation(m).tolist() for m in self.members]
        left = np.array([len(w) for w in waiting])
        plan = []
        for step in range(len(self)):
            batch: list[int] = []
            while len(batch) < self.whole:
                if not left.any():  # fewer samples than places
                    waiting = [rng.permutation(m).tolist() for m in self.members]
                    left = np.array([len(w) for w in waiting])
                open_ = np.flatnonzero(left)
                # Weighted without replacement: the smallest of exponential times / weight.
                keys = rng.exponential(size=len(open_)) / left[open_]
                keys[left[open_] >= len(self) - step] = -1  # these must be in every batch now
                for product in open_[np.argsort(keys, kind="stable")][: self.whole - len(batch)]:
                    batch.append(waiting[product].pop())
                    left[product] -= 1
            plan.append(batch)
        return plan


@DATA_SAMPLERS.register_module()
class FamilyBatches(GroupedBatches):
    """Groups are products of a family, guessed from titles.

    Args:
        dataset: also has `families`, family of each label.
        batch_size: see `GroupedBatches`.
        seed: see `GroupedBatches`.
        share: see `GroupedBatches`.
        group: see `GroupedBatches`.

    Raises:
        ConfigError: if no family has two products.
    """

    def __init__(
        self, dataset: Any, batch_size: int, seed: int = 0, *, share: float = 0.5, group: int = 4
    ) -> None:
        super().__init__(dataset, batch_size, seed, share=share, group=group)
        family = np.asarray(dataset.families)[self.labels]
        _, of_product = np.unique(family, return_inverse=True)
        order = np.argsort(of_product, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(of_product))[:-1])
        self._families = [p for p in parts if len(p) > 1]
        self._sizes = np.array([len(f) for f in self._families])
        if not self._families:
            raise ConfigError(
                f"no two of {self.products} products have similar titles, so there are no families",
                fix="use ProductBatches or MinedBatches",
            )

    def groups(self, step: int, rng: np.random.Generator) -> Iterator[list[int]]:
        """Families in any order, large ones sooner."""
        keys = rng.exponential(size=len(self._sizes)) / self._sizes
        # Each group fills two places at least, so a step has no use for more.
        most = min(len(keys), self.whole)
        first = np.argpartition(keys, most - 1)[:most]
        for i in first[np.argsort(keys[first], kind="stable")]:
            yield rng.permutation(self._families[i]).tolist()


@DATA_SAMPLERS.register_module()
class MinedBatches(GroupedBatches):
    """Groups are a product and those that the model takes for it; any products at first.

    Args:
        dataset: see `ProductPlan`.
        batch_size: see `GroupedBatches`.
        seed: see `GroupedBatches`.
        share: see `GroupedBatches`.
        group: see `GroupedBatches`.
        keep: how many neighbours of a product are kept.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        seed: int = 0,
        *,
        share: float = 0.5,
        group: int = 4,
        keep: int = 16,
    ) -> None:
        super().__init__(dataset, batch_size, seed, share=share, group=group)
        self.keep = keep
        self._tables: list[tuple[int, Ints]] = []

    def update(self, embeddings: NDArray[np.float32], products: Ints, start: int = 0) -> None:
        """Look for the look-alikes anew.

        Args:
            embeddings: (n, D) float32; those of one product are averaged.
            products: (n,) the dataset's labels; others than its training labels are ignored.
            start: the first step that uses what was found.
        """
        place = np.searchsorted(self.labels, products).clip(0, self.products - 1)
        ours = self.labels[place] == products
        total = np.zeros((self.products, embeddings.shape[1]), np.float32)
        np.add.at(total, place[ours], embeddings[ours].astype(np.float32))
        norm = np.linalg.norm(total, axis=1, keepdims=True)
        vectors = np.divide(total, norm, out=np.zeros_like(total), where=norm > 0)
        table = nearest_products(vectors, self.keep)
        # Batches are made ahead of the steps that use them, so the last table stays in force.
        self._tables = [*(t for t in self._tables if t[0] < start), (start, table)][-3:]

    def groups(self, step: int, rng: np.random.Generator) -> Iterator[list[int]]:
        """Any product, and its nearest ones."""
        table = next((t for start, t in reversed(self._tables) if start <= step), None)
        if table is None:
            return
        for product in draw_some(rng, self.products, 4 * self.whole):
            yield [product, *(int(p) for p in table[product] if p >= 0)]

    def state_dict(self) -> dict[str, Any]:
        """The tables, as plain values and tensors."""
        tables = [torch.from_numpy(t.astype(np.int32)) for _, t in self._tables]
        return {"starts": [s for s, _ in self._tables], "tables": tables}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back.

        Raises:
            ConfigError: if they are of another number of products.
        """
        tables = [t.numpy().astype(np.int64) for t in state["tables"]]
        if any(len(t) != self.products for t in tables):
            raise ConfigError(
                f"the checkpoint's look-alikes are of {len(tables[0])} products, the data has "
                f"{self.products}",
                fix="resume with the same data",
            )
        self._tables = list(zip(state["starts"], tables, strict=True))


@HOOKS.register_module()
class MineNegatives(Hook):  # type: ignore[misc]
    """Feeds `MinedBatches` with the reference embeddings that training makes anyway.

    It keeps the last embedding of every product, in half precision; both it and the tables are
    part of the checkpoint, so that a resumed run sees the same batches.

    Args:
        every: steps of the task between two searches; at least `ahead`.
        ahead: steps that may already have been drawn when a search ends; at least the number of
            batches that the loader's workers prepare (2 each).
        task: whose head and plan.

    Raises:
        ConfigError: if a number is out of range, or the plan is another one.
    """

    def __init__(self, every: int = 200, ahead: int = 32, task: str = "identification") -> None:
        if not 1 <= ahead <= every:
            raise ConfigError(
                f"every is {every}, ahead {ahead}; want 1 <= ahead <= every", fix="try 200 and 32"
            )
        self._every, self._ahead, self._task = every, ahead, task
        self._bank: dict[int, NDArray[np.float16]] = {}
        self._steps = 0

    def plan(self, runner: Any) -> MinedBatches:
        """The plan that is fed."""
        plan = runner.train_loop.plan
        if isinstance(plan, AlternatingBatches):
            plan = plan.plans.get(self._task)
        if not isinstance(plan, MinedBatches):
            raise ConfigError(
                f"MineNegatives found a {type(plan).__name__}, want MinedBatches",
                fix="set it as the task's batch_sampler, or remove the hook",
            )
        return plan

    def before_train(self, runner: Any) -> None:
        """Look at the plan while it is early."""
        self.plan(runner)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Remember the batch; now and then search."""
        if data_batch["task"] != self._task:
            return
        model = getattr(runner.model, "module", runner.model)
        vectors, labels = model.heads[self._task].latest
        for part, which in zip(all_gather(vectors), all_gather(labels), strict=True):
            rows = part.to(torch.float16).cpu().numpy()
            # Copies: a view would hold its whole batch in memory as long as the product lives.
            self._bank |= {p: row.copy() for p, row in zip(which.tolist(), rows, strict=True)}
        self._steps += 1
        if self._steps % self._every == 0:
            products = np.array(sorted(self._bank), np.int64)
            vectors = np.stack([self._bank[p] for p in products.tolist()]).astype(np.float32)
            self.plan(runner).update(vectors, products, self._steps + self._ahead)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Keep bank and tables with what resuming needs."""
        if "optimizer" not in checkpoint:
            return
        products = sorted(self._bank)
        rows = [torch.from_numpy(self._bank[p]) for p in products]
        checkpoint["mining"] = {
            "steps": self._steps,
            "products": products,
            "bank": torch.stack(rows) if rows else torch.zeros(0, 0).half(),
            "plan": self.plan(runner).state_dict(),
        }

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Take them back when the run goes on."""
        kept = checkpoint.get("mining")
        if runner._resume and kept:
            self._steps = int(kept["steps"])
            rows = kept["bank"].cpu().numpy()
            self._bank = dict(zip(kept["products"], rows, strict=True))
            self.plan(runner).load_state_dict(kept["plan"])
