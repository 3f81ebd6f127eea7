"""Training of a `Regressor`'s layers. Needs PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from hwprof.prediction.encoding import Floats
from hwprof.prediction.relaxation import middle_of, random_mixes

if TYPE_CHECKING:
    from hwprof.prediction.regressor import Regressor

DECAYS = (0.1, 1.0, 4.0)
"""Weight decays that are tried, one by each copy. What is best depends on noise and number of networks:
NB201 on a Xeon Gold 6226 (HELP's numbers), 300 and 1,000 networks: 4.4 and 3.3 % error with 0.3, 3.6 and
3.1 % with 1, 3.5 and 3.3 % with 3; a law without noise wants none."""
COPIES = len(DECAYS)
HELD_OUT = 5
"""One network in so many tells the decay."""
HIDDEN = 64
STEPS = 800
BATCH = 128
MIXES, NETWORKS = 32, 8
STEPS_AT_ONCE = 16
"""Relaxed architectures of so many steps are drawn together, which costs far less than one by one."""
LEAST = 1e-3
"""A linear part below this share of the scale, which no network of the fit has, counts as this."""
LEARNING_RATE = 8e-3


def train_layers(start: Regressor, one_hot: Floats, values: Floats, seed: int) -> dict[str, Floats]:
    """Layers for a regressor that has none: squares of log(f / measured) on measured networks, plus
    squared relative distances of f(p) from the mean of f over networks drawn from p, for random p. The
    weight decay is that of the least error on networks held out; all copies are then trained with it."""
    held = np.random.default_rng([seed, 4]).permutation(len(values)) % HELD_OUT == 0
    trial = _Training(start, one_hot[~held], values[~held], seed)
    trial.run(DECAYS, relaxed=False)
    with torch.no_grad():
        errors = (trial.outputs(one_hot[held]) / trial.of_scale(values[held]) - 1.0).abs().mean(-1)
    final = _Training(start, one_hot, values, seed)
    final.run([DECAYS[int(errors.argmin())]] * COPIES, relaxed=True)
    return {name: layer.detach().double().numpy() for name, layer in final.layers.items()}


class _Training:
    """One training of all copies."""

    def __init__(self, start: Regressor, one_hot: Floats, values: Floats, seed: int) -> None:
        self.start = start
        self.generator = torch.Generator().manual_seed(seed)
        self.rng = np.random.default_rng([seed, 2])
        self.layers = _fresh_layers(start.into.shape[1], self.generator)
        self.middle = middle_of(start.encoding, one_hot)
        self.vectors = torch.as_tensor(one_hot, dtype=torch.float32)
        self.truth = self.of_scale(values)
        self.into, self.shift, self.base = (
            torch.as_tensor(array, dtype=torch.float32)
            for array in (start.into, start.shift, start.base)
        )

    def of_scale(self, values: Floats) -> Tensor:
        return torch.as_tensor(values / self.start.scale, dtype=torch.float32)

    def outputs(self, vectors: Floats | Tensor) -> Tensor:
        """(copies, networks), in units of the scale."""
        inputs = torch.as_tensor(vectors, dtype=torch.float32) @ self.into - self.shift
        hidden = inputs.expand(COPIES, *inputs.shape)
        for name in ("first", "second"):
            bias = self.layers[f"{name}_bias"]
            hidden = nn.functional.silu(torch.baddbmm(bias, hidden, self.layers[name]))
        straight = (inputs @ self.base[:-1] + self.base[-1]).clamp(min=LEAST)
        bent = torch.bmm(hidden, self.layers["last"])[..., 0]
        return straight * (nn.functional.elu(bent) + 1.0)

    def run(self, decays: Sequence[float], *, relaxed: bool) -> None:
        """With a weight decay for each copy, apart from the gradient (Loshchilov and Hutter 2019)."""
        optimizer = torch.optim.Adam(self.layers.values(), lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
        shrinking = torch.tensor(decays).reshape(COPIES, 1, 1)
        for step in range(STEPS):
            loss = self._of_measured()
            if relaxed:
                turn = step % STEPS_AT_ONCE
                if turn == 0:
                    mixes, drawn = self._drawn()
                loss = loss + self._of_relaxed(mixes[turn], drawn[turn])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for layer in self.layers.values():
                    layer.mul_(1.0 - schedule.get_last_lr()[0] * shrinking)
            optimizer.step()
            schedule.step()

    def _of_measured(self) -> Tensor:
        count = len(self.truth)
        picked = torch.randint(count, (min(BATCH, count),), generator=self.generator)
        found = self.outputs(self.vectors[picked])
        return (found / self.truth[picked]).log().square().mean()

    def _drawn(self) -> tuple[Tensor, Tensor]:
        """(steps, mixes, columns) relaxed architectures, and (steps, mixes x networks, columns) networks
        drawn from them."""
        encoding = self.start.encoding
        mixes = random_mixes(encoding, self.middle, STEPS_AT_ONCE * MIXES, self.rng)
        drawn = encoding.sampled(mixes, NETWORKS, self.rng)
        together = torch.as_tensor(mixes, dtype=torch.float32).reshape(STEPS_AT_ONCE, MIXES, -1)
        apart = torch.as_tensor(drawn, dtype=torch.float32)
        return together, apart.reshape(STEPS_AT_ONCE, MIXES * NETWORKS, -1)

    def _of_relaxed(self, mixes: Tensor, drawn: Tensor) -> Tensor:
        with torch.no_grad():
            means = self.outputs(drawn).reshape(COPIES, MIXES, NETWORKS).mean(-1)
        relaxed = self.outputs(mixes)
        # The logarithm of a mean of few is too small on average; the mean itself is not.
        return ((relaxed - means) / relaxed.detach()).square().mean()


def _fresh_layers(features: int, generator: torch.Generator) -> dict[str, Tensor]:
    """He's, the last one small: the regressor starts at its base."""

    def drawn(rows: int, columns: int, gain: float) -> Tensor:
        values = torch.randn(COPIES, rows, columns, generator=generator)
        return (values * (gain / sqrt(rows))).requires_grad_()

    return {
        "first": drawn(features, HIDDEN, 1.4),
        "first_bias": torch.zeros(COPIES, 1, HIDDEN, requires_grad=True),
        "second": drawn(HIDDEN, HIDDEN, 1.4),
        "second_bias": torch.zeros(COPIES, 1, HIDDEN, requires_grad=True),
        "last": drawn(HIDDEN, 1, 0.1),
    }
