"""HW-NAS-Bench and frames like it: JSON, CSV and Parquet, one metric a table."""

import json
import os
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hwprof import ops
from hwprof.errors import LutError
from hwprof.lut.importing import Request, import_table
from hwprof.lut.importing.nb201_networks import Nb201
from hwprof.measure.messages import Job
from hwprof.space import load_space
from hwprof.space.nb201 import point_from_string

ARCHS = (
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|",
)
DEAD = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
FBNET = {
    "ConvNorm_H224_W224_Cin3_Cout16_kernel3_stride2_group1": ops.conv(
        (1, 3, 224, 224), 16, 3, stride=2, activation="relu"
    ),
    "ConvBlock_H112_W112_Cin16_Cout24_exp6_kernel5_stride2_group1": ops.mbconv(
        (1, 16, 112, 112), 24, 5, 6, stride=2
    ),
    "ConvBlock_H56_W56_Cin24_Cout24_exp3_kernel3_stride1_group1": ops.mbconv((1, 24, 56, 56), 24, 3, 3),
    "Skip_H112_W112_Cin16_Cout24_stride2": ops.conv(
        (1, 16, 112, 112), 24, 1, stride=2, activation="relu"
    ),
    "Skip_H56_W56_Cin24_Cout24_stride1": ops.skip((1, 24, 56, 56)),
    "AvgP_H7_W7_Cin1984_Cout1984_kernel7_stride1": ops.pool((1, 1984, 7, 7), "global_avg"),
    "FC_Cin1984_Cout1000": ops.fc((1, 1984), 1000),
}
NOT_EXPRESSED = {
    "ConvBlock_H56_W56_Cin24_Cout24_exp1_kernel3_stride1_group1": "does not expand",
    "ConvBlock_H56_W56_Cin24_Cout24_exp1_kernel3_stride1_group2": "2 groups",
    "ConvBlock_H4_W4_Cin8_Cout8_exp3_kernel5_stride1_group1": "larger than its input",
    "AvgP_H7_W7_Cin8_Cout8_kernel3_stride1": "does not cover",
    "Unknown_H7": "no key of HW-NAS-Bench",
}


def network_id(text, dataset="cifar10", batch=1):
    return Nb201(dataset, batch).network(text).network_id


def nb201_json(dataset="cifar10"):
    return {
        "nasbench201": {
            dataset: {
                "raspi4_latency": [10.5, 54.8], "eyeriss_latency": [3.6, 17.2],
                "eyeriss_energy": [0.7, 2.5], "eyeriss_arithmetic_intensity": [9.0, 9.0],
                "config": [{"name": "infer.tiny", "C": 16, "N": 5, "arch_str": text} for text in ARCHS],
            }
        }
    }  # fmt: skip


def test_networks_of_the_api_as_json_are_network_rows(write, imported):
    source = write("nb201.json", json.dumps(nb201_json()))
    made, lut = imported(source, "hw-nas-bench", metric="raspi4_latency", dataset="cifar10")
    for text, latency in zip(ARCHS, (10.5, 54.8), strict=True):
        row = lut.find(network_id(text), granularity="network")
        assert (row["latency_ms"], row["space"], row["energy_mj"]) == (latency, "nb201", None)
        assert row["reason"] == f"{text} ({latency} ms)"
        assert len(json.loads(row["op_json"])) > 10
    (facts,) = lut.environments.values()
    assert facts["identity"]["device"] == "Raspberry Pi 4"
    assert facts["identity"]["metric"] == "raspi4_latency"
    assert made.rows == 2


def test_energy_of_the_same_device_goes_into_the_row(write, imported):
    source = write("nb201.json", json.dumps(nb201_json()))
    _, lut = imported(source, "hw-nas-bench", metric="eyeriss_latency")
    row = lut.find(network_id(ARCHS[0]), granularity="network")
    assert (row["latency_ms"], row["energy_mj"], row["energy_reason"]) == (3.6, pytest.approx(0.7), None)


@pytest.mark.parametrize(
    ("dataset", "classes", "side"), [("cifar100", 100, 32), ("ImageNet16-120", 120, 16)]
)
def test_other_data_sets_are_other_networks_of_no_shipped_space(write, imported, dataset, classes, side):
    source = write("nb201.json", json.dumps(nb201_json(dataset)))
    _, lut = imported(source, "hw-nas-bench", metric="raspi4_latency", dataset=dataset, batch=4)
    row = lut.find(network_id(ARCHS[0], dataset, 4), granularity="network")
    told = (row["space"], row["out_channels"], row["height"], row["batch"])
    assert told == (None, classes, side, 4)


def test_a_network_is_that_of_the_shipped_space():
    space = load_space("nb201")
    point = point_from_string(space, ARCHS[0])
    job = Job(space.point_ops(point), "network", space.network(point))
    assert network_id(ARCHS[0]) == job.job_id


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_frame_with_a_column_a_device_is_one_table_a_metric(write, imported, tmp_path, kind):
    columns = {"arch": [*ARCHS, DEAD], "gold_6226": [10.5, 15.2, 0.1], "pixel2": [9.0, None, 1.0]}
    if kind == "parquet":
        pq.write_table(pa.table(columns), tmp_path / "frame")
        source = tmp_path / "frame"
    else:
        rows = zip(*columns.values(), strict=True)
        text = "\n".join(",".join("" if v is None else str(v) for v in row) for row in [columns, *rows])
        source = write("frame", text)
    made, lut = imported(source, "hw-nas-bench", metric="gold_6226")
    assert made.rows == 2
    assert made.refused == ((DEAD, "no path leads from the cell's input to its output"),)
    (facts,) = lut.environments.values()
    assert facts["identity"]["device"] == "gold_6226"
    doubts = " ".join(facts["conditions"]["doubts"])
    assert "the batch is not told" in doubts
    assert "the data set is not told" in doubts
    made, _ = imported(source, "hw-nas-bench", metric="pixel2", device="Pixel 2")
    assert made.rows == 1
    assert dict(made.refused)[ARCHS[1]] == "'None' is no number"


@pytest.mark.parametrize("wrapped", [True, False])
def test_fbnets_table_of_ops_is_read_by_its_keys(write, imported, wrapped):
    numbers = {key: 0.5 + n for n, key in enumerate([*FBNET, *NOT_EXPRESSED])}
    tables = {"edgegpu_latency": numbers, "edgegpu_energy": dict.fromkeys(numbers, 2.0)}
    text = json.dumps({"fbnet": tables} if wrapped else tables)
    made, lut = imported(write("fbnet.json", text), "hw-nas-bench")
    for n, op in enumerate(FBNET.values()):
        row = lut.find(op)
        assert (row["latency_ms"], row["energy_mj"], row["bytes_moved"]) == (0.5 + n, 2.0, None)
    refused = dict(made.refused)
    assert refused.keys() == NOT_EXPRESSED.keys()
    for key, why in NOT_EXPRESSED.items():
        assert why in refused[key]


def test_several_metrics_ask_for_one_by_name(write, tmp_path):
    source = write("nb201.json", json.dumps(nb201_json()))
    out = tmp_path / "lut.parquet"
    with pytest.raises(LutError, match=r"give --metric NAME: it has raspi4_latency, eyeriss_latency"):
        import_table(source, out, "hw-nas-bench")
    with pytest.raises(LutError, match="has no metric 'fpga'; it has raspi4_latency"):
        import_table(source, out, "hw-nas-bench", Request(metric="fpga"))
    with pytest.raises(LutError, match=r"has the data sets 'cifar10'; give --dataset"):
        import_table(source, out, "hw-nas-bench", Request(metric="raspi4_latency", dataset="svhn"))


@pytest.mark.parametrize("kind", ["json", "csv", "parquet"])
@pytest.mark.parametrize("other", ["raspi4_energy", "eyeriss_arithmetic_intensity"])
@pytest.mark.parametrize("alone", [True, False])
def test_an_energy_is_no_latency(write, tmp_path, kind, other, alone):
    columns = {"key": ["FC_Cin10_Cout20"], other: [3.5], **({} if alone else {"raspi4_latency": [1.5]})}
    source = write("frame", json.dumps(columns))
    if kind == "csv":
        source = write(
            "frame", f"{','.join(columns)}\n{','.join(str(v) for (v,) in columns.values())}\n"
        )
    elif kind == "parquet":
        pq.write_table(pa.table(columns), source)
    why = f"{other} is no latency; give --metric NAME: it has raspi4_latency"
    if alone:
        why = f"has {other} and no latencies; add a column such as raspi4_latency"
    for asked in (other, None) if alone else (other,):
        with pytest.raises(LutError, match=why):
            import_table(source, tmp_path / "lut.parquet", "hw-nas-bench", Request(metric=asked))
    assert not (tmp_path / "lut.parquet").exists()


def test_a_parquet_frame_without_the_metric_says_which_it_has(imported, tmp_path):
    columns = {"arch": [ARCHS[0]], "raspi4_latency": [1.0], "raspi4_energy": [2.0]}
    pq.write_table(pa.table(columns), tmp_path / "frame")
    with pytest.raises(LutError, match=r"has no metric 'fpga'; it has raspi4_latency$"):
        imported(tmp_path / "frame", "hw-nas-bench", metric="fpga")


@pytest.mark.parametrize(
    ("energies", "energy", "why"),
    [
        ([10.0, 12.0], 11.0, None),
        ([10.0, 10.0], 10.0, None),
        ([None, 12.0], None, "told by 1 of the 2 entries"),
        ([10.0, None], None, "told by 1 of the 2 entries"),
        ([None, None], None, "not told by what was imported"),
    ],
)
def test_the_energy_of_several_entries_of_a_network_is_their_median(
    write, imported, energies, energy, why
):
    told = {"config": [{"arch_str": ARCHS[0]}] * 2, "raspi4_latency": [1.0, 2.0]}
    source = write("nb.json", json.dumps({**told, "raspi4_energy": energies}))
    _, lut = imported(source, "hw-nas-bench")
    row = lut.find(network_id(ARCHS[0]), granularity="network")
    assert (row["latency_ms"], row["energy_mj"], row["energy_reason"]) == (1.5, energy, why)


def test_a_pickle_is_never_read(write, tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "trapped"),))

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        source = write("HW-NAS-Bench-v1_0.pickle", pickle.dumps(Trap(), protocol))
        why = (
            "is a pickle: reading one runs whatever code" if protocol > 1 else "no column of names|UTF-8"
        )
        with pytest.raises(LutError, match=why):
            import_table(source, tmp_path / "lut.parquet", "hw-nas-bench")
    assert not (tmp_path / "trapped").exists()
    pickle.loads(pickle.dumps(Trap()))
    assert (tmp_path / "trapped").is_dir()


def test_a_network_without_energy_has_none_and_bad_energy_is_named(write, imported):
    keys = list(FBNET)[:3]
    energies = {keys[0]: 1.0, keys[1]: -1.0}
    text = json.dumps({"fpga_latency": dict.fromkeys(keys, 1.0), "fpga_energy": energies})
    made, lut = imported(write("fbnet.json", text), "hw-nas-bench")
    assert lut.find(FBNET[keys[0]])["energy_mj"] == 1.0
    assert lut.find(FBNET[keys[2]])["energy_reason"] == "not told by what was imported"
    assert made.refused == ((keys[1], "its energy '-1.0' is no number above 0"),)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "neither lists beside a list of architectures nor a table"),
        ('{"fbnet": {}, "nasbench201": {}}', "holds nasbench201 and fbnet"),
        ('{"arch": ["a", "b"], "x_latency": [1.0]}', "has not as many values as arch, 2"),
        ('{"a":' * 1000, "nested deeper than 64"),
        ("a,b\n1,2\n", "has no column of names; call it arch or arch_str"),
        ("arch,arch\n1,2\n", "has a column twice"),
        ("arch,x\n1\n", "frame:2 has 1 cells, the first line 2"),
        ("arch," * 5000, "more than 1000 columns"),
        ("PAR1" + "x" * 100, "is damaged or no Parquet file"),
    ],
)
def test_other_frames_are_one_line(write, tmp_path, text, why):
    with pytest.raises(LutError, match=why):
        import_table(write("frame", text), tmp_path / "lut.parquet", "hw-nas-bench")
    assert not (tmp_path / "lut.parquet").exists()


def test_parquet_of_other_types_is_refused(tmp_path):
    pq.write_table(pa.table({"arch": [ARCHS[0]], "x": [[1.0]]}), tmp_path / "frame")
    with pytest.raises(LutError, match=r"column 'x' is list<.*>, wanted numbers or text"):
        import_table(tmp_path / "frame", tmp_path / "lut.parquet", "hw-nas-bench")


def test_an_unknown_data_set_is_an_error():
    with pytest.raises(LutError, match="none of cifar10, cifar100, ImageNet16-120"):
        Nb201("svhn", 1)
