"""A shared supernet in a TND-NAS search: trained with networks that the policies draw, judged with its
weights as they are, shrunk with the space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hwprof.errors import HwprofError
from hwprof.search.cells import CellRecipe, CellSupernet
from hwprof.search.cells.supernet import darts_layout
from hwprof.search.data import Images, Normalisation
from hwprof.search.discrete.archive import Archive
from hwprof.search.discrete.decisions import DartsDecisions
from hwprof.search.discrete.objectives import Objective, Objectives, Point
from hwprof.search.discrete.run import run_search
from hwprof.search.discrete.tnd_nas import TndNas, TndSettings
from hwprof.search.supernet import Steps, TrainingError, seeded
from hwprof.space import Space


@dataclass(frozen=True)
class StagePlan:
    """One stage: train the supernet, let the policies query it, shrink.

    Attributes:
        steps: of the supernet's weights.
        queries: networks that are judged by it.
        keep: share of each decision's choices after it; None for the last stage, which shrinks nothing.
    """

    steps: int
    queries: int
    keep: float | None = None


@dataclass(frozen=True)
class StageReport:
    """What a stage gave.

    Attributes:
        loss: mean over the last tenth of its steps.
        front: networks on the front of its queries.
        offered: ops that are left on all edges together, `none` not counted.
    """

    loss: float
    front: int
    offered: int


class SharedSupernet:
    """The supernet of a search: each step trains one network that is drawn, on one batch.

    Args:
        supernet: trained in place.
        training: batches by step.
        validation: on these images networks are judged, with BatchNorm statistics of the batch.
        recipe: rates; its `steps` are those of all stages together.
    """

    def __init__(
        self,
        supernet: CellSupernet,
        training: Steps,
        validation: Images,
        normalisation: Normalisation,
        recipe: CellRecipe,
        *,
        seed: int,
    ) -> None:
        self.supernet, self.training, self.recipe, self.seed = supernet, training, recipe, seed
        self._images = normalisation.apply(validation.pixels)
        self._labels = validation.labels
        self._optimizer = torch.optim.SGD(
            supernet.parameters(),
            recipe.weight_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        self.step = 0

    def train(self, drawn: Callable[[], Point], steps: int) -> list[float]:
        """Losses of so many steps.

        Raises:
            TrainingError: a loss is not finite.
        """
        losses = []
        self.supernet.train()
        for _ in range(steps):
            for group in self._optimizer.param_groups:
                group["lr"] = self.recipe.weight_rate_at(self.step)
            images, labels = self.training.at(self.step)
            with seeded(self.seed, self.step, images.device):
                logits = self.supernet(images, self._gates(drawn()))
                loss = functional.cross_entropy(logits.float(), labels)
            # Weights of other networks have no gradient, and no decay in this step.
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.supernet.parameters(), self.recipe.clip_norm)
            self._optimizer.step()
            losses.append(float(loss.detach()))
            if not np.isfinite(losses[-1]):
                raise TrainingError(
                    f"loss is {losses[-1]} in step {self.step} of the supernet, at learning rate "
                    f"{self.recipe.weight_rate_at(self.step):.3g}: lower it"
                )
            self.step += 1
        return losses

    @torch.no_grad()
    def accuracy(self, point: Point) -> float:
        """Share of the validation images that a point's network has right, with the shared weights."""
        self.supernet.train()
        logits = self.supernet(self._images, self._gates(point))
        return float((logits.argmax(1) == self._labels).float().mean())

    def _gates(self, point: Point) -> Tensor:
        """Of a point of a space with the same edges, whatever its number of cells."""
        edges = self.supernet.layout.edge_places()
        own = [0] * len(self.supernet.space.positions)
        own[edges.start : edges.stop] = point[edges.start : edges.stop]
        return self.supernet.point_gates(own)


def search_supernet(
    shared: SharedSupernet,
    space: Space,
    costs: Sequence[Objective],
    plans: Sequence[StagePlan],
    *,
    settings: TndSettings | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> tuple[Archive, tuple[StageReport, ...]]:
    """TND-NAS with a supernet: stages of training, querying and shrinking. Accuracy on validation images
    is the first objective; the archive is that of the last stage, since values of earlier ones are of
    other weights.

    Args:
        space: of family `darts`, whose networks are found; its cells have the supernet's edges and
            choices, more or fewer of them.
        costs: further objectives, of its points.

    Raises:
        SpaceError: a space of another family.
        HwprofError: there is no stage, or one but the last shrinks nothing.
        ObjectiveError: as `run_search`.
        TrainingError: as `SharedSupernet.train`.
    """
    if not plans or any(plan.keep is None for plan in plans[:-1]) or plans[-1].keep is not None:
        raise HwprofError("each stage but the last says what it keeps, and the last one keeps all")
    supernet = shared.supernet
    decisions = DartsDecisions(space, darts_layout(space))
    objectives = Objectives([Objective("accuracy", shared.accuracy, larger_is_better=True), *costs])
    search = TndNas(
        decisions,
        len(objectives),
        queries=sum(plan.queries for plan in plans),
        seed=shared.seed,
        settings=(settings or TndSettings()).without_shrinking(),
    )
    reports = []
    archive = Archive(objectives)
    for number, plan in enumerate(plans, start=1):
        losses = shared.train(search.draw, plan.steps)
        search.forget()
        archive = run_search(search, objectives, plan.queries)
        if plan.keep is not None:
            search.shrink(plan.keep)
        offered = torch.from_numpy(decisions.offered(search.policies.offered))
        supernet.offer(offered.to(supernet.offered.device))
        last = losses[-max(1, len(losses) // 10) :]
        reports.append(
            StageReport(
                loss=float(np.mean(last)) if last else float("nan"),
                front=len(archive.front()),
                offered=int(offered.sum()) - len(offered),
            )
        )
        note(f"stage {number} of {len(plans)}: {reports[-1]}")
    return archive, tuple(reports)
