"""A searched block: MBConv (Sandler et al. 2018) or MixConv (Tan and Le 2019) with every choice in one
set of weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwprof.search.supernet.branches import SearchedBlock, canonical_mix
from hwprof.search.supernet.layers import (
    ConvNorm,
    activate,
    fan_out_deviation,
    new_norm,
    normalise,
    pick,
)
from hwprof.search.supernet.layout import block_layout
from hwprof.search.supernet.masks import channel_masks, kernel_masks


@dataclass(frozen=True)
class Coefficients:
    """Products of gates that one block is run with, each 0 or 1 in value.

    Attributes:
        kernels: a factor for each branch and kernel size, 1 where the kernel is at least that large.
        groups: a factor for each branch and channel group, 1 where the group is on.
        off: 1 where the block is skipped; None where it cannot be.
    """

    kernels: Tensor
    groups: Tensor
    off: Tensor | None


@dataclass(frozen=True)
class Selection:
    """The share of the weights that one state uses: hidden channels (None: all) and 0/1 kernel taps
    (channels, 1, side, side), cropped to the largest kernel in use."""

    channels: Tensor | None
    taps: Tensor


class Superblock(nn.Module):
    """Expand, masked depthwise convolution, project; the branches side by side in the hidden channels.

    The kernel of a branch is nested: w_eff = w o m0 + u1 (w o m1 + u2 (w o m2 + ...)) over its core and
    rings. Its channel groups are gated alike, behind BatchNorm and activation: a closed group adds
    exactly 0 there. A block that is off returns its input.
    """

    _rings: Tensor
    _ring_owners: Tensor
    _channel_branch: Tensor
    _channel_group: Tensor
    _group_masks: Tensor
    _regions: Tensor
    _scales: Tensor

    def __init__(self, block: SearchedBlock, generator: torch.Generator) -> None:
        super().__init__()
        self.block = block
        self.layout = block_layout(block)
        self.states = block.states()
        self.side = max(branch.kernels[-1] for branch in block.branches)
        op, hidden = block.op, block.hidden_channels
        self.expand = ConvNorm(op.in_channels, hidden, generator) if hidden != op.in_channels else None
        self.depthwise = nn.Parameter(torch.zeros(hidden, 1, self.side, self.side))
        self.depthwise_norm = new_norm(hidden)
        self.project = ConvNorm(hidden, op.out_channels, generator)
        self._selections: dict[tuple[int, torch.device], Selection] = {}
        self._prepare(generator)

    def forward(self, x: Tensor, coefficients: Coefficients) -> Tensor:
        """Every branch, with gradients for every gate, also for closed ones."""
        op = self.block.op
        h = x if self.expand is None else activate(self.expand(x), op.activation)
        rings = coefficients.kernels[:, None, None] * self._rings
        taps = (self._ring_owners[:, :, None, None] * rings).sum(1)[self._channel_branch]
        kernel = self.depthwise * taps[:, None]
        h = functional.conv2d(h, kernel, None, op.stride, self.side // 2, groups=len(kernel))
        h = activate(self.depthwise_norm(h), op.activation)
        open_ = coefficients.groups[self._channel_group]
        if coefficients.off is not None:
            # A block that is off runs all of itself and multiplies by 0: its BatchNorm does not see
            # zeros, and its gates feel what turning it on would change.
            open_ = torch.where(coefficients.off.detach() > 0.5, torch.ones_like(open_), open_)
        # Gates of the input channels of a 1x1 convolution can stand in its weights: less memory moved.
        projection = self.project.conv.weight * open_[:, None, None]
        y: Tensor = self.project.norm(functional.conv2d(h, projection))
        if coefficients.off is not None:
            y = y * (1.0 - coefficients.off).to(y.dtype)
        return x + y if op.residual else y

    def run_state(self, x: Tensor, state: int) -> Tensor:
        """The network block that a state is, at its own cost. No gradients for gates."""
        if not canonical_mix(self.states[state]):
            return x
        op, selection = self.block.op, self._selection(state)
        channels, taps = selection.channels, selection.taps
        h = x if self.expand is None else activate(self.expand.outputs(x, channels), op.activation)
        margin = (self.side - taps.shape[-1]) // 2
        kernel = pick(self.depthwise, channels)
        kernel = kernel[:, :, margin : self.side - margin, margin : self.side - margin] * taps
        h = functional.conv2d(h, kernel, None, op.stride, taps.shape[-1] // 2, groups=len(kernel))
        h = activate(normalise(h, self.depthwise_norm, channels), op.activation)
        y = self.project.inputs(h, channels)
        return x + y if op.residual else y

    def norms(self) -> Tensor:
        """For each gate the norm of the weights that it decides on, relative to the norm that their
        initial distribution has; of shape (gates,)."""
        squares = self._group_masks @ self.depthwise.square().flatten(1)
        sums = (self._regions * squares).sum((1, 2))
        return sums.sqrt() / self._scales

    def hidden_order(self, state: int) -> Tensor:
        """Hidden channels that a state uses, in the order of its op: by kernel size, then by branch."""
        parts: list[tuple[int, list[int]]] = []
        first = 0
        for branch, (kernel, channels) in zip(
            self.block.branches, self.states[state] or (), strict=False
        ):
            parts.append((kernel, list(range(first, first + channels))))
            first += branch.channels
        return torch.tensor([c for _, channels in sorted(parts, key=lambda p: p[0]) for c in channels])

    def _selection(self, state: int) -> Selection:
        device = self.depthwise.device
        if (state, device) not in self._selections:
            self._selections[state, device] = self._select(state, device)
        return self._selections[state, device]

    def _select(self, state: int, device: torch.device) -> Selection:
        chosen = self.states[state] or ()
        side = max(kernel for kernel, _ in chosen)
        channels: list[int] = []
        taps = []
        first = 0
        for branch, (kernel, count) in zip(self.block.branches, chosen, strict=True):
            if count:
                mask = kernel_masks([kernel], side)[0]
                taps.append(mask.expand(count, 1, side, side))
                channels += range(first, first + count)
            first += branch.channels
        whole = len(channels) == self.block.hidden_channels
        index = None if whole else torch.tensor(channels, device=device)
        return Selection(index, torch.cat(taps).to(device))

    def _prepare(self, generator: torch.Generator) -> None:
        """Masks as buffers, initial depthwise weights, and the norm that each gate's weights then
        have."""
        branches = self.block.branches
        rings = [kernel_masks(branch.kernels, self.side) for branch in branches]
        whole = [masks.sum(0) for masks in rings]
        widths = torch.tensor([branch.channels for branch in branches])
        sizes = [size for branch in branches for size in branch.groups]
        owners = [n for n, branch in enumerate(branches) for _ in branch.groups]
        deviations = [fan_out_deviation(branch.kernels[-1], 1) for branch in branches]
        regions = torch.zeros(len(self.layout.gates), len(sizes), self.side * self.side)
        for row, gate in enumerate(self.layout.gates):
            for number, ring, group in gate.region:
                taps = whole[number] if ring is None else rings[number][ring]
                places = [i for i, owner in enumerate(owners) if owner == number]
                for place in places if group is None else [places[group]]:
                    regions[row, place] = taps.flatten()
        per_group = torch.tensor(sizes)[:, None] * torch.tensor(deviations)[owners, None].square()
        buffers = {
            "_rings": torch.cat(rings),
            "_ring_owners": channel_masks([len(masks) for masks in rings]),
            "_channel_branch": torch.repeat_interleave(torch.arange(len(branches)), widths),
            "_channel_group": torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)),
            "_group_masks": channel_masks(sizes),
            "_regions": regions,
            "_scales": (regions * per_group).sum((1, 2)).sqrt(),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)
        for weight, number in zip(self.depthwise.data, self._channel_branch.tolist(), strict=True):
            nn.init.normal_(weight, 0.0, deviations[number], generator=generator)
            weight.mul_(whole[number])
