"""Supernet design: how many blocks each stage gets, from a table.

S3NAS (Lee et al. 2020, arXiv 2009.02009) gives stages of cheap blocks more of them; how its 3-4-7-4-11
was found is not published. Here a stage's blocks are inversely proportional to the latency of one block
of it, which comes within one block per stage of both published supernets on their own table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hwprof import ops
from hwprof.errors import SpaceError
from hwprof.lut import Lut
from hwprof.ops import OpSpec, output_shape
from hwprof.search.space_file import write_space
from hwprof.space import Space, list_spaces
from hwprof.space.document import read_document
from hwprof.space.load import CATALOG
from hwprof.space.read_chain import MAX_BLOCKS

PUBLISHED: Mapping[str, tuple[tuple[int, ...], ...]] = {"s3nas": ((3, 4, 7, 4, 11), (2, 3, 5, 2, 8))}
"""Blocks of each stage as S3NAS published them (models/supergraphs in its repository), by base space."""


@dataclass(frozen=True)
class Stage:
    """A stage of a designed supernet.

    Attributes:
        reference: the block whose latency stands for the stage's.
        share: of all blocks, before rounding: proportional to 1 / latency_ms.
    """

    reference: OpSpec
    latency_ms: float
    share: float
    blocks: int


@dataclass(frozen=True)
class Design:
    """Blocks of each stage of a base space.

    Attributes:
        published: the published blocks of each stage, beside what the same rule gives for as many.
    """

    base: str
    stages: tuple[Stage, ...]
    published: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()

    @property
    def depths(self) -> tuple[int, ...]:
        return tuple(stage.blocks for stage in self.stages)

    def summary(self) -> dict[str, Any]:
        return {
            "base": self.base,
            "blocks": sum(self.depths),
            "depths": list(self.depths),
            "stages": [
                {
                    "reference": stage.reference.label,
                    "latency_ms": stage.latency_ms,
                    "share": stage.share,
                    "blocks": stage.blocks,
                }
                for stage in self.stages
            ],
            "published": [
                {"published": list(theirs), "ours": list(ours)} for theirs, ours in self.published
            ],
        }


def design_supernet(
    table: Lut,
    base: Space,
    blocks: int,
    *,
    kernel: int = 5,
    expansion: int = 6,
    environment: str | None = None,
    cache: str = "warm",
    allow_unstable: bool = False,
) -> Design:
    """Distribute `blocks` over the stages of a chain space, inversely proportional to the latency of
    one inner block (stride 1, as wide at its input as at its output) of each stage.

    Args:
        kernel, expansion: of the block whose latency counts: an MBConv without SE.

    Raises:
        SpaceError: the base is no chain with stages, or `blocks` does not suit it.
        OpError: a stage is too small for the kernel.
        MissingRow: the table lacks a stage's block.
    """
    references = reference_blocks(base, kernel, expansion)
    latencies = table.latencies_ms(
        references, environment=environment, cache=cache, allow_unstable=allow_unstable
    ).tolist()
    depths = distribute(latencies, blocks)
    rates = [1 / latency for latency in latencies]
    stages = tuple(
        Stage(reference, latency, blocks * rate / sum(rates), depth)
        for reference, latency, rate, depth in zip(references, latencies, rates, depths, strict=True)
    )
    published = tuple(
        (theirs, distribute(latencies, sum(theirs)))
        for theirs in PUBLISHED.get(base.name, ())
        if len(theirs) == len(stages)
    )
    return Design(base.name, stages, published)


def reference_blocks(base: Space, kernel: int, expansion: int) -> list[OpSpec]:
    """An inner MBConv block of each stage, with the activation of the stage's first choice.

    Raises:
        SpaceError: the space is no chain with stages.
        OpError: a stage is too small for the kernel.
    """
    if base.family != "chain":
        raise SpaceError(f"{base.name} is a {base.family} space: only a chain has stages to fill")
    last_of: dict[str, OpSpec] = {}
    for position in base.positions:
        if position.kind == "block":
            last_of[position.name.partition(".")[0]] = position.choices[0].ops[-1]
    if not last_of:
        raise SpaceError(f"{base.name} has no blocks")
    return [
        ops.mbconv(
            output_shape(last), last.out_channels, kernel, expansion,
            activation=_activation(base, stage), dtype=last.dtype,
        )
        for stage, last in last_of.items()
    ]  # fmt: skip


def distribute(latencies_ms: Sequence[float], blocks: int) -> tuple[int, ...]:
    """Blocks of each stage, inversely proportional to latency: at least one each, the rest by the
    largest-remainder rule. A stage whose share is below one gets one block, and the others share what
    is left; of equal remainders the later stage is served first.

    Raises:
        SpaceError: fewer blocks than stages, or more than a space, or a stage of it, may have.
    """
    count = len(latencies_ms)
    if not count <= blocks <= count * MAX_BLOCKS:
        raise SpaceError(
            f"{blocks} blocks do not fill {count} stages; give {count} to {count * MAX_BLOCKS}"
        )
    open_stages = dict(enumerate(1 / latency for latency in latencies_ms))
    depths = [1] * count
    left = blocks
    while True:
        shares = {n: left * rate / sum(open_stages.values()) for n, rate in open_stages.items()}
        below = [n for n, share in shares.items() if share < 1]
        if not below:
            break
        for n in below:
            del open_stages[n]
        left -= len(below)
    for n, share in shares.items():
        depths[n] = int(share)
    by_remainder = sorted(shares, key=lambda n: (shares[n] % 1, n), reverse=True)
    for n in by_remainder[: blocks - sum(depths)]:
        depths[n] += 1
    most = max(depths)
    if most > MAX_BLOCKS:
        raise SpaceError(
            f"stage {depths.index(most) + 1} would get {most} of {blocks} blocks, and a space file "
            f"allows {MAX_BLOCKS} in a stage; give fewer blocks, about {blocks * MAX_BLOCKS // most}"
        )
    return tuple(depths)


def write_design(design: Design, base: str | Path, out: Path, name: str | None = None) -> Space:
    """Write the base space, with these blocks in each stage, as a file of its own.

    Args:
        base: the space that was designed from, as `load_space` takes it.
        name: of the new space; default: the base's with the number of blocks.

    Raises:
        SpaceError: as `write_space`; a stage has more blocks than a space may have.
    """
    shipped = isinstance(base, str) and base in list_spaces()
    document = read_document(CATALOG / f"{base}.yaml" if shipped else Path(base))
    fields = {str(key.node.value): value for key, value in document.entries()}
    depths = "-".join(map(str, design.depths))
    changes = {
        "name": name or f"{design.base[:59]}-{sum(design.depths)}",
        "summary": f"{design.base} with {depths} blocks, by hwprof design-supernet",
    }
    for changed, text in changes.items():
        fields[changed].node.value = text
    for stage, blocks in zip(fields["stages"].items(), design.depths, strict=True):
        field = next(value for key, value in stage.entries() if key.node.value == "blocks")
        field.node.value = str(blocks)
    return write_space(out, yaml.serialize(document.node, width=100))


def _activation(base: Space, stage: str) -> str:
    """Of the first choice of the stage's first block."""
    first = next(p for p in base.positions if p.name.startswith(f"{stage}."))
    return first.choices[0].ops[0].activation
