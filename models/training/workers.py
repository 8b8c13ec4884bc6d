"""The processes that train together: each a worker of one thread. On few cores that is faster than one process of several
threads, which would have to meet after every small operation."""

import os

import torch
import torch.distributed as dist


def start():
    """(number of this worker, of all workers)."""
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    torch.set_num_threads(1)
    return rank, world


def share_gradients(parameters):
    """The mean over all workers."""
    flat = torch.cat([p.grad.flatten() for p in parameters])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad.copy_(part.view_as(p))
