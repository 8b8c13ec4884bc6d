"""The learning rate: up, level, and down to nearly nothing."""

import time

import torch
import torch.distributed as dist

WARMUP = 150
LOOK = 20  # steps between two looks at the clock


class Schedule:
    """`steps` in all, the last `fall` of them falling. With `minutes`, falling begins early when the time that is left
    would not do otherwise; the `steps` it then comes to, given as such, repeat the run."""

    def __init__(self, rate, steps, fall, minutes=None):
        self.rate, self.fall, self.minutes = rate, fall, minutes
        self.level = steps - fall
        self.start = time.monotonic()

    @property
    def steps(self):
        return self.level + self.fall

    def minutes_so_far(self):
        return (time.monotonic() - self.start) / 60

    def done(self, step):
        """How much of the fall is over, 0 to 1."""
        return max(0.0, (step - self.level) / self.fall)

    def at(self, step):
        """The rate of the 0-based `step`."""
        if self.minutes and step and step % LOOK == 0 and step < self.level:
            late = self.minutes_so_far() * (1 + self.fall / step) >= self.minutes
            late = torch.tensor(int(late))
            dist.broadcast(late, 0)  # one clock for all workers
            if late:
                self.level = step
        return self.rate * min(1.0, (step + 1) / WARMUP) * (1 - 0.98 * self.done(step))
