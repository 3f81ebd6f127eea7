"""Peak memory of a Graph."""

from hwprof.graph import GraphBuilder
from hwprof.search.discrete.memory import peak_bytes
from hwprof.space import load_space


def test_a_branch_keeps_its_input_alive_until_it_is_joined():
    builder = GraphBuilder()
    start = builder.input((1, 4, 8, 8))
    wide = builder.conv(start, 16, 1)
    narrow = builder.conv(wide, 4, 1)
    graph = builder.build(builder.add(narrow, start))
    tensor = 4 * 8 * 8 * 4
    weights = 4 * (16 * 4 + 16 + 4 * 16 + 4)
    counted = peak_bytes(graph) - (tensor + 4 * tensor + tensor)
    assert counted in (weights, 4 * (16 * 4 + 4 * 16))


def test_half_precision_takes_half():
    tiny = load_space("tiny")
    point = tuple(0 for _ in tiny.positions)
    half = tiny.with_options(1, "float16")
    assert peak_bytes(half.network(point)) * 2 == peak_bytes(tiny.network(point))
