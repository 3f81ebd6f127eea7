"""TND-NAS (Lyu and Wen, arXiv 2111.03892): architecture parameters alpha updated in the discrete space
by policy gradient over sampled networks, without a controller, the space shrunk progressively by alpha.

The reward, the stages and the choices that they keep are not published: docs/tnd-nas.md says what
stands for them here, and how it was chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hwprof.errors import HwprofError
from hwprof.search.discrete.decisions import Decisions
from hwprof.search.discrete.drawing import Drawing
from hwprof.search.discrete.objectives import Floats, Point
from hwprof.search.discrete.policy import Policies, Sampled, draw
from hwprof.search.discrete.scalarise import chebyshev, neighbours, normalised, weightings
from hwprof.search.discrete.shrinking import DEFAULT_STAGES, Shrinking, Stage, choices_left

UPDATES = ("natural", "reinforce")
# Importance weights of networks that another policy drew are cut here: their variance has no bound.
LARGEST_RATIO = 5.0


@dataclass(frozen=True)
class TndSettings:
    """How a TND-NAS search goes; defaults were chosen as docs/tnd-nas.md tells.

    Attributes:
        policies: weightings of the objectives, each with an alpha of its own.
        draws: networks that each policy draws in a round.
        warm: share of the queries that is drawn uniformly before the first update.
        update: `natural` (rewards by rank, over all networks so far) or `reinforce` (REINFORCE with
            baseline and entropy, over the last round).
        rate: of the update.
        elite: networks with a reward, of `natural`.
        sharing: share of draws from the mean of a policy and those of neighbouring weightings.
        exploration: share of uniform draws.
        entropy: weight of the entropy, of `reinforce`.
        stages: of the shrinking; none leaves the space as it is.

    Raises:
        HwprofError: names the setting, its value and what is allowed.
    """

    policies: int = 10
    draws: int = 2
    warm: float = 0.12
    update: str = "natural"
    rate: float = 1.0
    elite: int = 8
    sharing: float = 0.2
    exploration: float = 0.02
    entropy: float = 0.02
    stages: tuple[Stage, ...] = DEFAULT_STAGES

    def __post_init__(self) -> None:
        if self.update not in UPDATES:
            raise HwprofError(f"update {self.update!r} is unknown; choose of {', '.join(UPDATES)}")
        for name in ("policies", "draws", "elite"):
            if getattr(self, name) < 1:
                raise HwprofError(f"{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("warm", "sharing", "exploration"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise HwprofError(f"{name} is a share of 0 to 1, got {getattr(self, name)}")

    def without_shrinking(self) -> TndSettings:
        return replace(self, stages=())


class TndNas:
    """See `hwprof.search.discrete.interface.Search`.

    Each policy minimises the augmented Chebyshev function of the objectives under a weighting of its
    own, so that the policies together cover the front; what one has drawn teaches all.

    Args:
        objectives: how many there are.
        queries: of the whole search; the stages are shares of it.

    Attributes:
        policies: alpha, and what is offered.
    """

    name = "tnd-nas"

    def __init__(
        self,
        decisions: Decisions,
        objectives: int,
        *,
        queries: int,
        seed: int,
        settings: TndSettings | None = None,
    ) -> None:
        self.settings = settings or TndSettings()
        self._decisions = decisions
        self._rng = np.random.default_rng(seed)
        self._drawing = Drawing(decisions, self._rng)
        self._weights = weightings(objectives, self.settings.policies)
        self._near = neighbours(self._weights)
        self.policies = Policies(len(self._weights), decisions.widths)
        self._shrinking = Shrinking(self.settings.stages, queries)
        self._warm = round(self.settings.warm * queries)
        self._done = 0
        self._asked = self._sampled = Sampled.of(decisions, [])
        self._values: Floats = np.empty((0, objectives))

    def ask(self) -> list[Point]:
        exploration = 1.0 if self._done < self._warm else self.settings.exploration
        probabilities = self._drawn_from()
        drawn = []
        for policy in self._rng.permutation(len(self._weights)):
            mixed = partial(self.policies.explored, probabilities[policy])
            for _ in range(self.settings.draws):
                found = self._drawing.new(mixed, exploration)
                if found is not None:
                    drawn.append(found)
        self._asked = Sampled.of(self._decisions, [genome for genome, _ in drawn])
        return [point for _, point in drawn]

    def tell(self, values: Floats) -> None:
        self._sampled = self._sampled.joined(self._asked)
        self._values = np.vstack([self._values, values])
        self._done += len(self._asked)
        if self._done < self._warm:
            return
        if self.settings.update == "natural":
            self.policies.natural_step(self._sampled, self._rank_rewards(), self.settings.rate)
        else:
            self._reinforce()
        share = self._shrinking.due(self._done)
        if share is not None:
            self.shrink(share)

    def draw(self) -> Point:
        """A network of one of the policies, which may have been asked for: what a shared supernet is
        trained with. Uniform while warm."""
        exploration = 1.0 if self._done < self._warm else self.settings.exploration
        policy = int(self._rng.integers(len(self._weights)))
        probabilities = self.policies.explored(self._drawn_from()[policy], exploration)
        while (point := self._decisions.point(draw(probabilities, self._rng))) is None:
            pass
        return point

    def shrink(self, share: float) -> None:
        """Leave this share of each decision's first choices, those that some policy wants most."""
        self.policies.narrow(choices_left(self._decisions.widths, share))

    def forget(self) -> None:
        """Values so far no longer hold, as after a supernet was trained on: networks may be asked for
        again. Alpha and what is offered stay."""
        self._sampled, self._values = Sampled.of(self._decisions, []), self._values[:0]
        self._drawing.seen.clear()

    def _drawn_from(self) -> Floats:
        """(policies, decisions, choices): what each policy draws from, before exploration."""
        own = self.policies.probabilities()
        shared = np.einsum("kl,ldc->kdc", self._near, own)
        found: Floats = (1.0 - self.settings.sharing) * own + self.settings.sharing * shared
        return found

    def _rank_rewards(self) -> Floats:
        """(policies, networks): of the best networks by each weighting, falling with the rank as in
        CMA-ES (Hansen and Ostermeier 2001), 0 for all others: any increasing function of an objective
        would give the same within its weighting's order."""
        scores = chebyshev(normalised(self._values), self._weights)
        ranks = np.argsort(np.argsort(scores, axis=1, kind="stable"), axis=1, kind="stable")
        elite = min(self.settings.elite, scores.shape[1])
        rewards = np.maximum(0.0, np.log(elite + 0.5) - np.log(ranks + 1.0))
        found: Floats = rewards / rewards.sum(1, keepdims=True)
        return found

    def _reinforce(self) -> None:
        """Of the networks of the last round: reward is minus the score, the baseline its mean under the
        policy, the unit the spread over all networks so far."""
        sampled = self._asked
        scores = chebyshev(normalised(self._values), self._weights)
        spread = np.maximum(scores.std(1, keepdims=True), 1e-12)
        rewards = -scores[:, -len(self._asked) :] / spread
        logs = self.policies.log_probabilities(sampled)
        drawn_by_any = np.log(np.exp(logs).mean(0))
        ratios = np.minimum(np.exp(logs - drawn_by_any), LARGEST_RATIO)
        baseline = (ratios * rewards).sum(1, keepdims=True) / ratios.sum(1, keepdims=True)
        self.policies.reinforce_step(
            sampled, ratios * (rewards - baseline), self.settings.rate, self.settings.entropy
        )
