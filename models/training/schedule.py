"""The learning rate: up, level for half of the steps, and down to nearly nothing over the other half."""

import time
from collections import deque
from statistics import median

import torch
import torch.distributed as dist

WARMUP = 150
LOOK = 20  # steps between two looks at the clock


class Schedule:
    """With `minutes`, falling begins early when as many steps again would not fit into what is left of them. `steps` is
    what it comes to: given as such, it repeats the run."""

    def __init__(self, rate, steps, minutes=None):
        self.rate, self.minutes = rate, minutes
        self.level = steps // 2
        self.start = time.monotonic()
        self.looks = deque([self.start], maxlen=6)

    @property
    def steps(self):
        return 2 * self.level

    def minutes_so_far(self):
        return (time.monotonic() - self.start) / 60

    def done(self, step):
        """How much of the fall is over, 0 to 1."""
        return max(0.0, step / self.level - 1)

    def _late(self, step):
        """Whether falling must begin, by the median pace of late: a pause says nothing about the steps to come."""
        self.looks.append(time.monotonic())
        times = list(self.looks)
        pace = median(b - a for a, b in zip(times, times[1:], strict=False)) / LOOK / 60
        late = torch.tensor(int(self.minutes_so_far() + step * pace >= self.minutes))
        dist.broadcast(late, 0)  # one clock for all workers
        return bool(late)

    def at(self, step):
        """The rate of the 0-based `step`."""
        if self.minutes and step and step % LOOK == 0 and step < self.level and self._late(step):
            self.level = step
        return self.rate * min(1.0, (step + 1) / WARMUP) * (1 - 0.98 * self.done(step))
