"""How many parameters adapters add, beside the thesis' figures (table 6.1)."""

from __future__ import annotations

from dataclasses import dataclass

from robollm.train.adapters.multiway import attached
from robollm.train.beit3.checkpoint import encoder_state
from robollm.train.beit3.encoder import Beit3Encoder


@dataclass(frozen=True, slots=True)
class Published:
    """A row of the thesis' table 6.1, vision and language together.

    Attributes:
        adapters: trained parameters, M.
        model: parameters of the whole model, M.
    """

    adapters: float
    model: float


THESIS = {(768, 12): Published(7.13, 222.0), (1024, 24): Published(17.40, 675.0)}
"""By dim and depth."""


@dataclass(frozen=True, slots=True)
class ParameterReport:
    """Counts of one encoder; `str()` of it is for people.

    Attributes:
        backbone: parameters of the encoder itself.
        adapters: parameters by task.
        trainable: parameters of both that would be trained now.
        both_branches: what adapters of one task's size count with an expert of each branch, as
            the thesis has them.
        published: the thesis' figures for this backbone, if it has any.
    """

    backbone: int
    adapters: dict[str, int]
    trainable: int
    both_branches: dict[str, int]
    published: Published | None

    def fraction(self, task: str) -> float:
        """A task's adapters as a part of the vision backbone."""
        return self.adapters[task] / self.backbone

    def __str__(self) -> str:
        lines = [f"backbone {self.backbone / 1e6:.2f} M, trainable {self.trainable / 1e6:.2f} M"]
        for task, count in self.adapters.items():
            lines.append(
                f"  {task}: {count / 1e6:.2f} M, {self.fraction(task):.2%} of the vision backbone"
            )
            if self.published:
                both, p = self.both_branches[task] / 1e6, self.published
                lines.append(
                    f"    with both branches' experts {both:.2f} M, {both / p.model:.2%} of "
                    f"{p.model:.0f} M; the thesis has {p.adapters:.2f} M, "
                    f"{p.adapters / p.model:.2%}"
                )
        return "\n".join(lines)


def parameter_report(encoder: Beit3Encoder) -> ParameterReport:
    """Count an encoder's own parameters and its adapters'."""
    s = encoder.settings
    adapters = {
        task: sum(p.numel() for n, p in encoder.named_parameters() if f".adapters.{task}." in n)
        for task in attached(encoder)
    }
    return ParameterReport(
        backbone=sum(v.numel() for v in encoder_state(encoder).values()),
        adapters=adapters,
        trainable=sum(p.numel() for p in encoder.parameters() if p.requires_grad),
        both_branches={task: 2 * count for task, count in adapters.items()},
        published=THESIS.get((s.dim, s.depth)),
    )
