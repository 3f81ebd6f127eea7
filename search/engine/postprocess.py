"""Post-processing: squeeze-and-excitation and h-swish added where they pay (S3NAS, Lee et al. 2020,
section on post-processing; the papers name no automatic test, a person compared accuracy and latency).

Evidence comes from the network itself. All variants start from the same weights of the supernet and are
fine-tuned alike. SE: whether it helps everywhere at once, and each block's excitation variance, by
which S3NAS removes it selectively. h-swish: whether it helps everywhere at once; blocks where it costs
least keep it. Both are bought from the latency that the search left below its target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from hwprof.search.engine.candidates import Point
from hwprof.search.features import keep_what_pays, variant
from hwprof.search.supernet import Network
from hwprof.search.supernet.network import op_layers
from hwprof.space import Space

HSWISH = "hswish"


@dataclass(frozen=True)
class Step:
    """One step of the post-processing.

    Attributes:
        name: what was tried or decided.
        latency_ms: predicted.
        accuracy: on the validation images, after fine-tuning.
    """

    name: str
    point: Point
    latency_ms: float
    accuracy: float


# Fine-tunes the network of a point from the supernet's weights: the network and its accuracy.
Tune = Callable[[Point], tuple[Network, float]]
Price = Callable[[Sequence[Point]], Sequence[float]]


def postprocess(
    space: Space,
    base: Point,
    target_ms: float,
    price: Price,
    tune: Tune,
    images: Callable[[], Iterable[Tensor]],
) -> Iterator[Step]:
    """The steps, the last one being what to take.

    Args:
        base: a network without SE and with the first activation.
        price: predicted ms of each point.
        images: batches of normalised validation images, for the excitation variance.
    """
    best = Step("found", base, price([base])[0], tune(base)[1])
    yield best
    for name, se, activation in (("SE", True, None), ("h-swish", None, HSWISH)):
        variants = {
            position: other
            for position, choice in enumerate(best.point)
            if (other := variant(space, position, choice, se=se, activation=activation)) is not None
            and other != choice
        }
        if not variants:
            continue
        everywhere = _with(best.point, variants)
        network, accuracy = tune(everywhere)
        yield Step(f"{name} everywhere", everywhere, price([everywhere])[0], accuracy)
        if accuracy <= best.accuracy:
            continue
        worth = [1.0] * len(variants)
        if se:
            worth = _by_position(space, everywhere, excitation_variance(network, images()), variants)
        each = price([_with(best.point, {position: other}) for position, other in variants.items()])
        extra = [ms - best.latency_ms for ms in each]
        kept = keep_what_pays(worth, extra, target_ms - best.latency_ms)
        chosen = {
            position: other
            for (position, other), keep in zip(variants.items(), kept, strict=True)
            if keep
        }
        if not chosen:
            continue
        point = _with(best.point, chosen)
        if point != everywhere:
            accuracy = tune(point)[1]
        step = Step(f"{name} in {len(chosen)} of {len(variants)}", point, price([point])[0], accuracy)
        yield step
        best = step if step.accuracy > best.accuracy else best
    yield replace(best, name="chosen")


def has_features(space: Space) -> bool:
    """Whether the space offers SE or h-swish to some block beside the choice without."""
    return any(
        variant(space, position, 0, se=True) is not None
        or variant(space, position, 0, activation=HSWISH) not in (None, 0)
        for position in range(len(space.positions))
    )


def _with(point: Point, changes: Mapping[int, int]) -> Point:
    return tuple(changes.get(position, choice) for position, choice in enumerate(point))


def _by_position(
    space: Space, point: Point, of_ops: Sequence[float], positions: Iterable[int]
) -> list[float]:
    """Values of a network's ops as values of its positions: of a position's ops the sum."""
    values, first = {}, 0
    for position, choice in enumerate(space.choices_of(point)):
        values[position] = sum(of_ops[first : first + len(choice.ops)])
        first += len(choice.ops)
    return [values[position] for position in positions]


def excitation_variance(network: Network, batches: Iterable[Tensor]) -> list[float]:
    """Of each op with SE: mean over channels of the standard deviation over images of its excitation
    (S3NAS, `extract_se_excitations.py`); 0 for the others."""
    gates: dict[int, nn.Module] = {}
    for place, (op, layers) in enumerate(zip(network.ops, op_layers(network), strict=True)):
        if op.se_channels:
            # Of an op's layers only SE's have a bias of their own; its second gives the excitation.
            gates[place] = [layer for layer in layers if isinstance(layer, nn.Conv2d)][-1]
    seen: dict[int, list[Tensor]] = {place: [] for place in gates}

    def keep(place: int) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda module, given, result: seen[place].append(result.flatten(1).sigmoid())

    hooks = [module.register_forward_hook(keep(place)) for place, module in gates.items()]
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                network(batch)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return [
        float(torch.cat(seen[place]).std(0).mean()) if place in gates else 0.0
        for place in range(len(network.ops))
    ]
