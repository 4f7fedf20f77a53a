"""One of several processes that train on parts of one batch. Run by test_train_loss_modules.py.

`python loss_process.py RANK PROCESSES MEETING_FILE RESULT_FILE`
"""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import normalize

from robollm.train.losses import CLCELoss, InfoNCELoss, LaCViTLoss, SCLRHELoss

PAIRS = 8
LOSSES = {
    "InfoNCE": lambda: InfoNCELoss(gather=True),
    "InfoNCE multi": lambda: InfoNCELoss(same="multi", gather=True),
    "LaCViT": lambda: LaCViTLoss(gather=True),
    "CLCE": lambda: CLCELoss(classes=5, dim=6, gather=True),
    "SCL-RHE": lambda: SCLRHELoss(gather=True),
}


class Net(nn.Module):
    """A small encoder and a loss."""

    def __init__(self, loss):
        super().__init__()
        self.encoder = nn.Linear(7, 6)
        self.loss = loss

    def forward(self, queries, references, labels):
        features = self.encoder(torch.cat([queries, references]))
        q, r = normalize(features, dim=1).chunk(2)
        return self.loss(q, r, labels, features)


def net(name):
    torch.manual_seed(0)
    return Net(LOSSES[name]()).double()


def batch():
    """The joined batch; labels meet across the two halves."""
    g = torch.Generator().manual_seed(1)
    labels = torch.tensor([0, 1, 1, 2, 2, 3, 0, 4])
    return *(torch.randn(PAIRS, 7, generator=g, dtype=torch.float64) for _ in range(2)), labels


def step(model, parts):
    """The loss and the gradients of all parameters."""
    value = model(*parts)
    value.backward()
    return value.detach(), [parameter.grad.clone() for parameter in model.parameters()]


def averaged(value, gradients):
    """What DistributedDataParallel makes of the gradients; importing it takes seconds."""
    for gradient in gradients:
        dist.all_reduce(gradient)
        gradient /= dist.get_world_size()
    return value, gradients


def main():
    rank, processes = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{sys.argv[3]}", rank=rank, world_size=processes)
    own = [part.chunk(processes)[rank] for part in batch()]
    torch.save({name: averaged(*step(net(name), own)) for name in LOSSES}, sys.argv[4])
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
