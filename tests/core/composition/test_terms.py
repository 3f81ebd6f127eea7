"""What a network's terms are."""

import pytest

from hwprof import ops
from hwprof.composition.terms import network_terms

MIB = 1 << 20
CHAIN = (
    ops.conv((1, 3, 16, 16), 8, 3, stride=2),
    ops.mbconv((1, 8, 8, 8), 8, 3, 2),
    ops.mbconv((1, 8, 8, 8), 12, 3, 2),
)


def test_borders_between_ops_count_and_the_networks_own_do_not():
    terms = network_terms(CHAIN, [1.0, 2.0, 3.0])
    assert terms["rows"] == 6.0
    assert (terms["cuts"], terms["once"]) == (2.0, 1.0)
    # Each of the two inner tensors is one op's output and the next one's input.
    assert terms["cut_mib"] == pytest.approx(2 * (8 * 8 * 8 + 8 * 8 * 8) * 4 / MIB)


def test_one_op_is_a_network_without_borders():
    terms = network_terms(CHAIN[:1], [1.0])
    assert (terms["rows"], terms["cuts"], terms["cut_mib"], terms["once"]) == (1.0, 0.0, 0.0, 1.0)
    assert terms["weight_mib"] == pytest.approx((8 * 3 * 9 + 8) * 4 / MIB)
