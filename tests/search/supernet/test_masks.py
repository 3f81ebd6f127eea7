"""Kernel masks are centred rings, channel masks consecutive groups."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402 - torch is optional
from hypothesis import strategies as st  # noqa: E402

from hwprof.search.supernet.masks import channel_masks, kernel_masks  # noqa: E402

KERNELS = st.lists(st.integers(0, 6).map(lambda n: 2 * n + 1), min_size=1, max_size=4, unique=True)


def test_the_core_of_three_in_seven_is_where_a_padded_3x3_kernel_lies() -> None:
    core, ring5, ring7 = kernel_masks([3, 5, 7])
    rows = core.nonzero()[:, 0]
    assert (rows.min().item(), rows.max().item()) == (2, 4)
    assert [int(mask.sum()) for mask in (core, ring5, ring7)] == [9, 16, 24]
    assert ring7[0].all()
    assert ring7[:, 0].all()  # the public code never uses row and column 0


@given(KERNELS.map(sorted))
def test_rings_are_disjoint_symmetric_and_add_up_to_whole_kernels(kernels: list[int]) -> None:
    masks = kernel_masks(kernels)
    for count, kernel in enumerate(kernels, start=1):
        margin = (kernels[-1] - kernel) // 2
        whole = torch.nn.functional.pad(torch.ones(kernel, kernel), (margin,) * 4)
        assert torch.equal(masks[:count].sum(0), whole)
    for mask in masks:
        assert torch.equal(mask, mask.flip(0))
        assert torch.equal(mask, mask.T)


def test_a_larger_side_pads_every_mask() -> None:
    small, large = kernel_masks([3, 5]), kernel_masks([3, 5], side=9)
    assert torch.equal(large, torch.nn.functional.pad(small, (2,) * 4))


def test_channel_masks_are_consecutive_groups() -> None:
    assert channel_masks([1, 3, 2]).tolist() == [
        [1, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 1],
    ]
