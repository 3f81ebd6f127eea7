"""Schema 1 of a latency table and of its visits file: every column with type, unit and meaning.

`docs/format.md` shows the same to readers without this library; a test keeps the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 1
KEY = ("op_id", "environment_id", "granularity", "cache")
ORDER = ("kind", "environment_id", "granularity", "cache", "op_id")
"""Rows are sorted by it: an op kind and an environment lie together, so that a filter reads little."""
VISITS_ORDER = (
    "environment_id", "granularity", "cache", "op_id", "phase", "process", "round", "started_at",
)  # fmt: skip
ORIGIN_LENGTH = 16
GRANULARITIES = ("op", "pair", "network", "overhead")
CACHES = ("warm", "in_chain", "evicted")
SOURCES = ("measured", "imported", "derived")
USABLE_STATES = ("converged", "budget", "imported")
NUMBERLESS_STATES = ("unsupported", "failed", "timeout")
STATES = (*USABLE_STATES, "unstable", *NUMBERLESS_STATES)

TEXT, FLAG = pa.string(), pa.bool_()
INT, LONG = pa.int32(), pa.int64()
SINGLE, DOUBLE = pa.float32(), pa.float64()
TIME = pa.timestamp("ms", tz="UTC")

NOT_ONE_OP = "pair, network, overhead"
NO_KERNEL = f"no kernel; {NOT_ONE_OP}"
NO_NUMBER = "state unsupported, failed, timeout"
NO_SPREAD = f"{NO_NUMBER}; imported without it"


@dataclass(frozen=True)
class Column:
    """One column. `null_when` says when its value is null; empty: never. `few_values` marks text with
    few distinct values, which is dictionary-encoded in the file and in memory."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    null_when: str = ""
    few_values: bool = False

    @property
    def field(self) -> pa.Field:
        """The column as it stands in the file."""
        return pa.field(self.name, self.type, nullable=bool(self.null_when))


def _few(name: str, meaning: str, null_when: str = "") -> Column:
    return Column(name, TEXT, meaning, "", null_when, few_values=True)


COLUMNS = (
    Column("op_id", TEXT, "key: 20 hex digits, hash of op_json"),
    _few("environment_id", "key: hash of an environment's identity, told by metadata `environments`"),
    _few("granularity", f"key: what was timed: {', '.join(GRANULARITIES)}"),
    _few("cache", f"key: cache state while timing: {', '.join(CACHES)}"),
    _few("kind", "op kind, e.g. mbconv; `chain` for a pair or network; `overhead`"),
    Column("label", TEXT, "short readable name; not a key"),
    Column("op_json", TEXT, "canonical JSON of the op; a JSON list of ops for a pair or network"),
    Column("batch", INT, "batch size", "images"),
    Column("in_channels", INT, "channels of the input", "channels", "overhead"),
    Column("height", INT, "height of the input", "pixels", "no height (fc); overhead"),
    Column("width", INT, "width of the input", "pixels", "no width (fc); overhead"),
    Column("out_channels", INT, "channels of the output", "channels", "overhead"),
    Column("out_height", INT, "height of the output", "pixels", "no height (fc, head); overhead"),
    Column("out_width", INT, "width of the output", "pixels", "no width (fc, head); overhead"),
    _few("kernel_mix", "kernel sides and their channels, e.g. `3:64,5:32`", NO_KERNEL),
    Column("kernel_min", INT, "smallest kernel side", "pixels", NO_KERNEL),
    Column("kernel_max", INT, "largest kernel side", "pixels", NO_KERNEL),
    Column(
        "hidden_channels", INT,
        "sum of kernel_mix's channels: expanded width of a block, output width of a convolution",
        "channels", NO_KERNEL,
    ),
    Column("expansion", SINGLE, "hidden_channels / in_channels", "ratio", NO_KERNEL),
    Column("stride", INT, "spatial stride", "pixels", NOT_ONE_OP),
    _few("activation", "none, relu, relu6, hswish, swish, sigmoid", NOT_ONE_OP),
    Column(
        "se_channels", INT, "reduced width of squeeze-and-excitation; 0: it has none", "channels",
        NOT_ONE_OP,
    ),
    Column("se_ratio", SINGLE, "se_channels / in_channels", "ratio", NOT_ONE_OP),
    Column("residual", FLAG, "whether the input is added to the output", "", NOT_ONE_OP),
    Column("groups", INT, "groups of a convolution", "groups", NOT_ONE_OP),
    _few("pool", "max, avg, global_avg", "no pool"),
    _few("content", "sha256 of a subgraph's ONNX", "no subgraph"),
    _few("dtype", "element type of input, weights and output"),
    _few("backend", "backend that ran it, e.g. onnxruntime"),
    _few("target", "what the backend compiled for, e.g. cpu"),
    Column("threads", INT, "threads given to the runtime", "threads"),
    _few("regime", "`burst`: as short visits find the device; `sustained`: after a soak under load"),
    Column(
        "latency_ms",
        DOUBLE,
        "the estimate, a floor: mean of the lowest quarter of the clean visits",
        "ms",
        NO_NUMBER,
    ),
    Column("latency_low_ms", SINGLE, "lower end of the interval around latency_ms", "ms", NO_SPREAD),
    Column("latency_high_ms", SINGLE, "upper end of the interval around latency_ms", "ms", NO_SPREAD),
    Column("min_ms", SINGLE, "fastest call", "ms", NO_SPREAD),
    Column("p10_ms", SINGLE, "10th percentile of a call", "ms", NO_SPREAD),
    Column("p50_ms", SINGLE, "median call", "ms", NO_SPREAD),
    Column("p90_ms", SINGLE, "90th percentile of a call", "ms", NO_SPREAD),
    Column("p99_ms", SINGLE, "99th percentile of a call", "ms", NO_SPREAD),
    Column("visits", INT, "short timed stays, each in a fresh session", "visits", NO_SPREAD),
    Column("clean_visits", INT, "visits that nothing disturbed", "visits", NO_SPREAD),
    Column("processes", INT, "worker processes that made the visits", "processes", NO_SPREAD),
    Column("samples", LONG, "timed calls of all visits", "calls", NO_SPREAD),
    _few("state", f"how far to trust the row: {', '.join(STATES)}"),
    Column("reason", TEXT, "why the row has its state", "", "nothing to say"),
    _few("source", f"where the number comes from: {', '.join(SOURCES)}"),
    Column("flops", LONG, "analytic cost; a multiply-accumulate counts as two", "FLOPs", "unknown"),
    Column("parameters", LONG, "weights and biases, BatchNorm folded", "values", "unknown"),
    Column(
        "bytes_moved", LONG, "tensors and weights, each read or written once, activations fused",
        "bytes", "unknown",
    ),
    Column("energy_mj", SINGLE, "energy of one call", "mJ", "no sensor: see energy_reason"),
    _few("energy_reason", "why energy_mj is null", "energy_mj has a value"),
    Column(
        "peak_memory_bytes", LONG, "peak memory of one session of the op: weights, inputs, work space",
        "bytes", "cannot be read: see peak_memory_source",
    ),
    _few("peak_memory_source", "how peak_memory_bytes was read, or why it is null"),
    Column("compile_ms", SINGLE, "time to compile the op", "ms", "not measured"),
    Column("load_ms", SINGLE, "time to load the compiled op into a session", "ms", "not measured"),
    Column(
        "launch_ms", SINGLE, "host time of launching a call, apart from latency_ms", "ms",
        "the host itself does the work",
    ),
    _few("tuning", "how the code was tuned, and the database that holds the records", "not tuned"),
    _few("placement", "device or provider that the nodes really ran on", "not known"),
    Column("started_at", TIME, "start of the first visit", "UTC", "unknown (imported)"),
    _few("space", "search space that the op was measured for", "none"),
    _few("build_id", "build that measured the row", "unknown (imported)"),
    _few("origin", "table that a merge took the row from, told by metadata `merged`", "not merged"),
    _few("hwprof_version", "version that measured or imported the row"),
    Column("schema_version", INT, "version of this list of columns"),
)  # fmt: skip

VISIT_COLUMNS = (
    Column("op_id", TEXT, "key of the table's row"),
    _few("environment_id", "key of the table's row"),
    _few("granularity", "key of the table's row"),
    _few("cache", "key of the table's row"),
    Column("process", INT, "worker process, counted from 0"),
    Column("round", INT, "shuffled round, counted from 0"),
    Column("phase", INT, "1: first pass; 2: second pass, over flagged rows or networks"),
    Column("started_at", TIME, "start of the visit", "UTC"),
    Column("calls", INT, "timed calls", "calls"),
    Column("group", INT, "calls per clock reading (above 1 for very short ops)", "calls"),
    Column("p10_ms", SINGLE, "10th percentile of a call", "ms"),
    Column("p50_ms", SINGLE, "median call", "ms"),
    Column("p90_ms", SINGLE, "90th percentile of a call", "ms"),
    Column("max_ms", SINGLE, "slowest call", "ms"),
    Column("cpu_share", SINGLE, "thread CPU time / wall time of the visit", "ratio", "not told here"),
    Column("switches", INT, "involuntary context switches in the visit", "switches", "not told here"),
    Column("dense_sentinel_ms", SINGLE, "dense sentinel op next to the visit", "ms", "not timed"),
    Column("memory_sentinel_ms", SINGLE, "memory sentinel op next to the visit", "ms", "not timed"),
    Column("device_mhz", SINGLE, "clock of the GPU after the timed calls", "MHz", "no GPU"),
    _few("device_throttle", "why the GPU's clock was held down; `none`: it was not", "no GPU"),
    Column("device_temperature_c", SINGLE, "temperature of the GPU", "degrees C", "no GPU"),
    Column("clean", FLAG, "whether sentinels, cpu_share and device_throttle passed their gates"),
)  # fmt: skip

METADATA = {
    "file_kind": "`table` or `visits`",
    "schema_version": "version of the columns",
    "spaces": "list of the search spaces' names",
    "environments": "environment_id -> {identity, conditions}, for every environment of the table",
    "composition": "how rows become a network's latency, one fit a statistic; null until calibrated",
    "validation": "errors on networks that no fit has seen; null until validated",
    "licence": "licence of the data; null if none was given",
    "title": "title of the data; null if none was given",
    "authors": "names of its authors; null if none were given",
    "merged": "origin -> facts of a table that rows were merged from; null if none were",
    "content_hash": "hash of the rows (below)",
    "visits_hash": "content_hash of the visits file; null if the table was written without visits",
    "created_at": "when the file was written, ISO 8601, UTC",
    "hwprof_version": "version that wrote the file",
    "interval_level": "level of the interval from latency_low_ms to latency_high_ms",
}
VISITS_METADATA = ("file_kind", "schema_version", "content_hash", "created_at", "hwprof_version")


def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """Arrow schema of `COLUMNS` or `VISIT_COLUMNS`."""
    return pa.schema([column.field for column in columns])


def few_valued(columns: tuple[Column, ...]) -> list[str]:
    """Names of the text columns that are dictionary-encoded, in the file and in memory."""
    return [column.name for column in columns if column.few_values]


def repeating(columns: tuple[Column, ...]) -> list[str]:
    """Names of the columns that are dictionary-encoded in the file: `few_valued` and whole numbers."""
    return [column.name for column in columns if column.few_values or column.type == INT]
