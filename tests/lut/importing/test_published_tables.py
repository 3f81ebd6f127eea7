"""Tables that others published, where the files are at hand: what they hold, and prices published with
them."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hwprof import ops
from hwprof.lut import load_lut
from hwprof.lut.importing import Request, import_table
from hwprof.lut.importing.mit_yaml import _divisible
from hwprof.lut.importing.nb201_networks import Nb201

DATA = Path(__file__).parents[4] / "shared" / "data"
OFA, PROXYLESS, NB201 = DATA / "ofa_note10", DATA / "proxylessnas", DATA / "nb201.parquet"


def needs(path):
    return pytest.mark.skipif(not path.exists(), reason=f"the published file is not at {path}")


# The network that OFA's tutorial finds at 192 pixels, as (width, expansion, kernel) by stage
# (github.com/mit-han-lab/once-for-all, tutorial/ofa.ipynb: "24.73 ms latency on note10").
TUTORIAL_MS = 24.73
TUTORIAL = (
    ((32, 3, 5), (32, 3, 3)),
    ((48, 4, 5), (48, 4, 3)),
    ((96, 6, 7), (96, 3, 7), (96, 4, 3)),
    ((136, 4, 5), (136, 4, 5), (136, 4, 7), (136, 3, 3)),
    ((192, 6, 3), (192, 6, 3), (192, 6, 5)),
)
STAGES = ((2, 0, "relu"), (2, 1, "relu"), (2, 0, "hswish"), (1, 1, "hswish"), (2, 1, "hswish"))


def tutorial_network(side=192):
    yield ops.conv((1, 3, side, side), 24, 3, stride=2, activation="hswish")
    side //= 2
    yield ops.mbconv((1, 24, side, side), 24, 3, 1)
    width = 24
    for blocks, (stride, se, activation) in zip(TUTORIAL, STAGES, strict=True):
        for number, (out, expansion, kernel) in enumerate(blocks):
            hidden = expansion * width
            op = ops.OpSpec(
                "mbconv", (1, width, side, side), out, mix=((kernel, hidden),),
                stride=1 if number else stride, activation=activation,
                se_channels=_divisible(hidden // 4) if se else 0, residual=number > 0,
            )  # fmt: skip
            yield op
            side, width = ops.output_shape(op)[2], out
    yield ops.conv((1, width, side, side), 1152, activation="hswish")
    yield ops.pool((1, 1152, side, side), "global_avg")
    yield ops.conv((1, 1152, 1, 1), 1536, activation="hswish")
    yield ops.fc((1, 1536), 1000)


@needs(OFA)
def test_ofas_note10_gives_the_latency_that_its_tutorial_prints(imported):
    _, lut = imported(OFA / "192_lookup_table.yaml", "ofa", device="Samsung Note10")
    total = sum(lut.latency_ms(op) for op in tutorial_network())
    assert total == pytest.approx(TUTORIAL_MS, abs=0.005)


@needs(OFA)
def test_three_resolutions_of_ofa_are_one_table_and_wide_kernels_on_small_inputs_are_named(imported):
    made, lut = imported(OFA, "ofa", device="Samsung Note10")
    assert made.entries + len(made.refused) == 3 * 96
    assert len(made.refused) == 9
    assert all("kernel 7x7 is larger than its input" in reason for _, reason in made.refused)
    assert made.rows == len(lut) == made.entries - made.repeated == 267
    assert set(lut.table.column("state").to_pylist()) == {"imported"}
    assert lut.table.column("latency_low_ms").null_count == len(lut)
    # The classifier and the layer before it are in all three files, each with its own number.
    assert lut.find(ops.fc((1, 1536), 1000))["reason"].startswith("median of 3: 160_lookup_table.yaml")


@needs(PROXYLESS)
def test_proxylessnas_has_72_entries_and_a_head(imported):
    made, lut = imported(PROXYLESS, "proxylessnas")
    assert (made.entries, made.rows, made.derived, made.refused) == (72, 73, 1, ())
    head = lut.find(ops.head((1, 320, 7, 7), 1000, 1280, activation="relu6"))
    assert head["latency_ms"] == pytest.approx(3.088623217922607 + 0.3096415478615071, rel=1e-12)
    stem = lut.find(ops.conv((1, 3, 224, 224), 32, 3, stride=2, activation="relu6"))
    assert stem["latency_ms"] == 4.083755600814664
    assert stem["reason"].endswith("mean of 982 runs)")


@pytest.fixture
def cells(tmp_path):
    """The first 40 cells of the published frame."""
    pq.write_table(pq.read_table(NB201).slice(0, 40), tmp_path / "cells.parquet")
    return tmp_path / "cells.parquet"


@needs(NB201)
@pytest.mark.parametrize("metric", ["gold_6226", "raspi4"])
def test_cells_of_nb201_are_networks_with_their_published_number(imported, cells, metric):
    made, lut = imported(cells, "hw-nas-bench", metric=metric, dataset="cifar10", batch=1)
    assert made.entries + len(made.refused) == 40
    published = pq.read_table(cells, columns=["arch", metric]).to_pylist()
    refused = dict(made.refused)
    for row in published:
        if row["arch"] not in refused:
            network = Nb201("cifar10", 1).network(row["arch"])
            found = lut.find(network.network_id, granularity="network")
            assert found["latency_ms"] == row[metric]
    assert lut.metadata["spaces"] == ["nb201"]


@needs(NB201)
def test_a_frame_of_27_columns_asks_for_one(tmp_path, cells):
    from hwprof.errors import LutError

    with pytest.raises(LutError, match="has 27 metrics; give --metric NAME: it has arch_index"):
        import_table(cells, tmp_path / "lut.parquet", "hw-nas-bench", Request())
    assert not (tmp_path / "lut.parquet").exists()


@needs(OFA)
def test_an_imported_table_tells_what_it_is(imported):
    made, lut = imported(OFA / "160_lookup_table.yaml", "ofa", device="Samsung Note10")
    summary = load_lut(lut.path).summary()
    assert summary["rows_by_state"] == {"imported": made.rows}
    assert summary["interval_half_width_median"] is None
    assert "Samsung Note10" in summary["environments"][0]["description"]
