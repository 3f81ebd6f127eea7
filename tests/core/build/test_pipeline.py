"""A build from space to sealed table, on backends without a clock."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hwprof.backends.backend import Target
from hwprof.backends.simulated import SimulatedBackend, true_latency_ms
from hwprof.build import build_lut, make_plan
from hwprof.build.pipeline import work_folder
from hwprof.build.progress import Progress
from hwprof.errors import BackendUnavailable, BuildError, HwprofError, LutError
from hwprof.lut import load_lut
from hwprof.ops import OpSpec
from hwprof.space import load_space


def rows_of(path):
    return load_lut(path).table.to_pylist()


def test_every_op_of_the_space_gets_one_row_near_its_true_latency(options):
    report = build_lut(options)
    rows = rows_of(options.out)
    assert {row["op_id"] for row in rows} == {op.op_id for op in load_space("tiny").ops()}
    assert report.measured == len(rows)
    for row in rows:
        truth = true_latency_ms(OpSpec.from_json(row["op_json"]).lower())
        assert row["latency_ms"] == pytest.approx(truth, rel=0.03)
        assert row["min_ms"] <= row["p10_ms"] <= row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
    assert not work_folder(options.out).exists()


def test_noise_without_end_is_never_called_converged(options):
    build_lut(replace(options, target="unstable"))
    states = [row["state"] for row in rows_of(options.out)]
    assert states.count("unstable") > len(states) / 2
    assert states.count("converged") == 0


def test_without_noise_every_row_converges_on_the_truth(options):
    build_lut(replace(options, target="exact", effort="normal"))
    for row in rows_of(options.out):
        truth = true_latency_ms(OpSpec.from_json(row["op_json"]).lower())
        assert row["state"] == "converged"
        assert row["latency_ms"] == pytest.approx(truth, rel=1e-4)


def test_second_pass_uses_new_processes_and_is_marked(options):
    build_lut(replace(options, target="two-speed", effort="normal", rel_precision=0.001))
    visits = load_lut(options.out).visits.to_pylist()
    first = {v["process"] for v in visits if v["phase"] == 1}
    second = {v["process"] for v in visits if v["phase"] == 2}
    assert first == {0, 1, 2, 3, 4, 5}
    assert second == {6, 7, 8, 9, 10, 11}


def test_rows_that_are_there_are_not_measured_again(options):
    build_lut(options)
    before = rows_of(options.out)
    report = build_lut(options)
    assert (report.measured, report.present) == (0, len(before))
    assert rows_of(options.out) == before


def test_limit_measures_some_now_and_the_rest_later(options):
    build_lut(replace(options, limit=3))
    assert len(rows_of(options.out)) == 3
    build_lut(options)
    assert len(rows_of(options.out)) == len(load_space("tiny").ops())


def test_fresh_measures_anew_under_a_new_build_id(options):
    build_lut(options)
    first = {row["build_id"] for row in rows_of(options.out)}
    build_lut(replace(options, fresh=True, seed=1))
    second = {row["build_id"] for row in rows_of(options.out)}
    assert len(first) == len(second) == 1
    assert first != second


def test_dry_run_counts_and_writes_nothing(options):
    plan = make_plan(options)
    assert plan.summary()["to_measure"] == len(load_space("tiny").ops())
    assert plan.expected_minutes > 0
    assert list(options.out.parent.iterdir()) == []


def test_same_seed_gives_the_same_table(options, tmp_path):
    other = replace(options, out=tmp_path / "other.parquet")
    build_lut(options)
    build_lut(other)
    values = [
        [(r["op_id"], r["latency_ms"], r["visits"]) for r in rows_of(o.out)] for o in (options, other)
    ]
    assert values[0] == values[1]


def test_replaying_recorded_visits_repeats_every_decision(options, tmp_path):
    options = replace(options, target="two-speed", effort="normal")
    build_lut(options)
    recording = tmp_path / "lut.visits.parquet"
    replayed = replace(options, backend="replay", target=str(recording), out=tmp_path / "again.parquet")
    build_lut(replayed)
    keys = ("op_id", "state", "reason", "visits", "processes")
    first, second = ([[r[k] for k in keys] for r in rows_of(o.out)] for o in (options, replayed))
    assert first == second
    for a, b in zip(rows_of(options.out), rows_of(replayed.out), strict=True):
        assert a["latency_ms"] == pytest.approx(b["latency_ms"], rel=1e-4)


def test_kept_rows_of_another_space_stay(options):
    build_lut(options)
    before = {row["op_id"] for row in rows_of(options.out)}
    build_lut(replace(options, space="nb201"))
    table = load_lut(options.out)
    assert before < {row["op_id"] for row in table.table.to_pylist()}
    assert table.metadata["spaces"] == ["nb201", "tiny"]


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        ("segfault", "failed", "SIGSEGV"),
        ("leave", "failed", "exit code 3"),
        ("raise", "failed", "the compiler gave up on this op"),
        ("nan", "failed", "NaN"),
        ("denormal", "failed", "denormals"),
        ("huge", "failed", "limit"),
        ("shape", "failed", "shape"),
        ("hang", "timeout", "no answer within"),
        ("segfault-in-visit", "failed", "SIGSEGV"),
        ("hang-in-visit", "timeout", "no answer within"),
    ],
)
def test_fault_costs_its_own_rows_and_the_build_goes_on(faulty, options, fault, state, reason):
    report = build_lut(replace(options, backend="faulty", target=fault, op_timeout_s=1.5, limit=7))
    strided = {True: [], False: []}
    for row in rows_of(options.out):
        strided[row["stride"] == 2].append(row)
    assert strided[True], "the space has no strided op among the first four"
    assert strided[False]
    for row in strided[True]:
        assert row["state"] == state
        assert reason in row["reason"]
        assert row["latency_ms"] is None
    assert all(row["latency_ms"] > 0 for row in strided[False])
    assert report.failed == len(strided[True])


def test_runtime_that_prints_to_stdout_does_not_garble_the_answers(faulty, options):
    build_lut(replace(options, backend="faulty", target="print", limit=3))
    assert all(row["latency_ms"] > 0 for row in rows_of(options.out))


def test_worker_that_outgrows_its_memory_is_killed_and_costs_one_row(faulty, options, monkeypatch):
    from hwprof.measure import executor

    small = executor.Limits(op_timeout_s=30.0, memory_bytes=300 << 20)
    options = replace(options, backend="faulty", target="hoard-in-visit", limit=7)
    made = lambda o, folder: executor.LocalExecutor(  # noqa: E731
        o.backend, o.full_target(), folder / "worker.log", small
    )
    build_lut(options, executor=made)
    failed = [row for row in rows_of(options.out) if row["state"] == "failed"]
    assert failed
    assert all("more than its limit" in row["reason"] for row in failed)


def test_failed_rows_are_measured_again_only_when_asked(faulty, options):
    options = replace(options, backend="faulty", target="raise", limit=4)
    assert build_lut(options).failed
    measured = build_lut(replace(options, limit=None)).measured
    assert measured == len(load_space("tiny").ops()) - 4
    assert build_lut(options).measured == 0
    assert build_lut(replace(options, retry_failed=True)).failed


def test_changed_environment_is_told_and_never_mixed_in(faulty, options, monkeypatch, capsys):
    options = replace(options, backend="faulty", target="none", limit=2)
    build_lut(options)
    monkeypatch.setenv("FAULTY_FLAVOUR", "new")
    build_lut(options, Progress())
    assert "2 rows of environment" in capsys.readouterr().err
    table = load_lut(options.out)
    assert len(table) == 4
    with pytest.raises(LutError, match="environment"):
        table.find(load_space("tiny").ops()[0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"backend": "nope"}, BackendUnavailable, "choose of"),
        ({"space": "nope"}, HwprofError, "s3nas"),
        ({"dtype": "int7"}, BuildError, "int7.*choose of float32"),
        ({"threads": 0}, BuildError, "threads 0 is not in 1.."),
        ({"threads": 4096}, BuildError, "threads 4096 is not in 1.."),
        ({"batch": 0}, BuildError, "batch must be more than 0"),
        ({"limit": 0}, BuildError, "limit must be more than 0"),
        ({"seed": -1}, BuildError, "seed"),
        ({"effort": "extreme"}, BuildError, "fast, normal, rigorous"),
        ({"rel_precision": 2.0}, BuildError, "rel-precision"),
        ({"cache": "lukewarm"}, BuildError, "warm, in_chain, evicted"),
        ({"target": "gpu"}, BuildError, "choose of exact"),
        ({"backend": "replay", "target": ""}, BuildError, "needs --target"),
        ({"backend": "replay", "target": "missing.parquet"}, BackendUnavailable, "visits file"),
        ({"out": Path("lut.csv")}, BuildError, "does not end in .parquet"),
        ({"out": Path("no/such/folder/lut.parquet")}, BuildError, "does not exist"),
    ],
)
def test_bad_option_is_one_line_with_value_and_allowed_values(options, change, error, message):
    with pytest.raises(error, match=message) as caught:
        make_plan(replace(options, **change))
    assert "\n" not in str(caught.value)


def test_out_that_is_a_folder_is_refused(options, tmp_path):
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(BuildError, match="is a folder"):
        build_lut(replace(options, out=tmp_path / "folder.parquet"))


def test_another_kind_of_parquet_is_never_overwritten(options):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), options.out)
    before = options.out.read_bytes()
    with pytest.raises(LutError, match="another kind"):
        build_lut(options)
    assert options.out.read_bytes() == before
    assert not work_folder(options.out).exists()


def test_simulated_backend_refuses_what_it_cannot_price(tmp_path, monkeypatch):
    from hwprof.errors import UnsupportedOp
    from hwprof.graph import GraphBuilder

    builder = GraphBuilder()
    graph = builder.build(builder.onnx(builder.input((1, 2, 3, 3)), "0" * 64, (1, 2, 3, 3)))
    with pytest.raises(UnsupportedOp):
        SimulatedBackend().compile(graph, Target("exact"))


def test_build_without_a_terminal_prints_plain_lines(hwprof_command, tmp_path):
    done = hwprof_command(
        "build-lut", "--backend", "simulated", "--space", "tiny", "--out", "lut.parquet",
        "--effort", "fast", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["measured"] == len(load_space("tiny").ops())
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
