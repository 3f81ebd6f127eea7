"""Policies: distributions over genomes, a categorical one for each decision, held as logits alpha."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.search.discrete.decisions import Decisions, Genome
from hwprof.search.discrete.objectives import Floats

# Least probability that a natural step leaves a choice: alpha stays finite.
LEAST = 1e-6


@dataclass(frozen=True)
class Sampled:
    """Genomes that were evaluated, as arrays.

    Attributes:
        chosen: (networks, decisions, choices) of 0 and 1.
        active: (networks, decisions): 1 where the network depends on the decision.
    """

    chosen: Floats
    active: Floats

    def __len__(self) -> int:
        return len(self.chosen)

    @classmethod
    def of(cls, decisions: Decisions, genomes: Sequence[Genome]) -> Sampled:
        widths = decisions.widths
        indices = np.array(genomes, dtype=np.int64).reshape(-1, len(widths))
        active = [decisions.active(genome) for genome in genomes]
        return cls(
            np.eye(max(widths))[indices],
            np.array(active, dtype=np.float64).reshape(-1, len(widths)),
        )

    def joined(self, other: Sampled) -> Sampled:
        return Sampled(
            np.concatenate([self.chosen, other.chosen]), np.concatenate([self.active, other.active])
        )


class Policies:
    """Policies over one space; what is offered is the same for all of them, as their supernet is.

    Args:
        count: of policies.
        widths: choices of each decision.

    Attributes:
        alpha: (policies, decisions, choices) logits, 0 at first.
        offered: bool (decisions, choices).
    """

    def __init__(self, count: int, widths: Sequence[int]) -> None:
        self.offered: NDArray[np.bool_] = np.arange(max(widths)) < np.array(widths)[:, None]
        self.alpha: Floats = np.zeros((count, *self.offered.shape))

    def probabilities(self) -> Floats:
        """(policies, decisions, choices); 0 where a choice is not offered."""
        logits = np.where(self.offered, self.alpha, -np.inf)
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        found: Floats = shares / shares.sum(-1, keepdims=True)
        return found

    def explored(self, probabilities: Floats, exploration: float) -> Floats:
        """(decisions, choices): a policy's probabilities with a share of uniform ones."""
        uniform = self.offered / self.offered.sum(-1, keepdims=True)
        found: Floats = (1.0 - exploration) * probabilities + exploration * uniform
        return found

    def natural_step(self, sampled: Sampled, rewards: Floats, rate: float) -> None:
        """A step along the natural gradient of the expected reward. For a categorical distribution that
        is the reward-weighted mean of (choice - probability), in the probabilities (Ollivier et al.
        2017, section 5.1).

        Args:
            rewards: (policies, networks), 0 or more, each policy's summing to 1.
            rate: 0 to 1; 1 goes all the way to the reward-weighted mean of the sampled networks.
        """
        probabilities = self.probabilities()
        weights = rewards @ sampled.active
        mean = np.einsum("kn,ndc->kdc", rewards, sampled.chosen * sampled.active[..., None])
        informed = weights[..., None] > 0
        mean = np.where(informed, mean / np.where(informed, weights[..., None], 1.0), probabilities)
        self.alpha = np.log(np.maximum(probabilities + rate * (mean - probabilities), LEAST))

    def reinforce_step(self, sampled: Sampled, advantages: Floats, rate: float, entropy: float) -> None:
        """REINFORCE (Williams 1992) on the logits, with an entropy bonus.

        Args:
            advantages: (policies, networks): reward less baseline, times the importance weight of a
                network that another policy drew.
        """
        probabilities = self.probabilities()
        weighted = advantages[..., None] * sampled.active
        drawn = np.einsum("knd,ndc->kdc", weighted, sampled.chosen)
        gradient = (drawn - probabilities * weighted.sum(1)[..., None]) / sampled.chosen.shape[0]
        logs = np.log(np.maximum(probabilities, LEAST))
        mean_log = (probabilities * logs).sum(-1, keepdims=True)
        bonus = -probabilities * (logs - mean_log)
        self.alpha = self.alpha + rate * (gradient + entropy * bonus)

    def narrow(self, keep: Sequence[int]) -> None:
        """Offer of each decision the `keep` choices that some policy gives most probability; the others
        are gone for good."""
        best = np.where(self.offered, self.probabilities().max(0), -1.0)
        order = np.argsort(-best, axis=-1, kind="stable")
        ranks = np.argsort(order, axis=-1, kind="stable")
        self.offered = self.offered & (ranks < np.array(keep)[:, None])

    def log_probabilities(self, sampled: Sampled) -> Floats:
        """(policies, networks), over the decisions that each network depends on."""
        logs = np.log(np.maximum(self.probabilities(), LEAST))
        found: Floats = np.einsum("kdc,ndc->kn", logs, sampled.chosen * sampled.active[..., None])
        return found


def draw(probabilities: Floats, rng: np.random.Generator) -> Genome:
    """A genome from (decisions, choices)."""
    ends = probabilities.cumsum(-1)
    drawn = rng.random((len(ends), 1)) * ends[:, -1:]
    return tuple((ends <= drawn).sum(-1).tolist())
