"""Operator profiles of LiteRT's (TensorFlow Lite's) `benchmark_model --enable_op_profiling=true`.

text, CSV     the "Run Order" table of "Operator-wise Profiling Info for Regular Benchmark Runs"
              (tensorflow/core/util/stats_calculator.cc)
JSON, text    `BenchmarkProfilingData` (tensorflow/lite/profiling/proto/profiling_info.proto), as
              protobuf writes it as JSON or text
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwprof.errors import LutError
from hwprof.lut.importing.prototext import parse_prototext

MAX_LINE = 4096
DOUBTS = (
    "each number is the mean of a node's calls, not a floor; how many they are is not told",
    "profiling slows every node; the runtime's version and its kernels are not told",
    "TensorFlow's SAME padding may put one row or column more on one side than ours",
)
_N = r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_S = "(?: ?, ?| )"
_ROW = re.compile(
    rf"(?P<kind>[^ ,].{{0,200}}?){_S}(?:{_N}{_S})?{_N}{_S}(?P<mean>{_N}){_S}{_N}%{_S}{_N}%{_S}{_N}{_S}"
    rf"[0-9]+{_S}(?P<name>.*)"
)
_NAME = re.compile(r"\[(?P<outputs>[^\]]*)\](?::(?P<index>[0-9]{1,9}))?")


@dataclass(frozen=True)
class Call:
    """A node of the profile: the runtime's operator, its name, and its mean time."""

    kind: str
    name: str
    mean_ms: Any

    def node(self) -> tuple[int | None, str]:
        """Index in the model, if it is told, and names of the outputs.

        Raises:
            LutError: its name is no node's.
        """
        found = _NAME.search(self.name)
        if found is None:
            raise LutError("its name is not [OUTPUT]:INDEX, so not that of a node of the model")
        return int(found["index"]) if found["index"] else None, found["outputs"]


def profiled_calls(text: str, message: Any, where: str) -> list[Call]:
    """The nodes of a profile, in run order.

    Args:
        text: the profile.
        message: the same as JSON, None where it is none.
        where: the file, for messages.

    Raises:
        LutError: it is no profile.
    """
    if message is not None:
        return _from_message(message, where)
    if re.match(r"\s*(?:model_name|init_profile|runtime_profile)\s*[:{]", text):
        return _from_message(parse_prototext(text, where), where)
    return _from_table(text, where)


def _from_table(text: str, where: str) -> list[Call]:
    """The rows of the last "Run Order" table that is of runs, not of the initialisation."""
    calls: list[Call] = []
    of_runs = inside = False
    headed = "Regular Benchmark Runs" in text
    for line in text.splitlines():
        if "Profiling Info for" in line:
            of_runs, inside = "Regular Benchmark Runs" in line, False
        elif "= Run Order =" in line:
            inside = of_runs or not headed
            calls = [] if inside else calls
        elif inside and not line.strip():
            inside = False
        elif inside and "node type" not in line:
            calls.append(_row(line))
    if not calls:
        raise LutError(
            f"{where} has no table of operators in run order; run benchmark_model with "
            "--enable_op_profiling=true and give what it prints or writes"
        )
    return calls


def _row(line: str) -> Call:
    # One space for each run of them, so that the pattern has one way to match.
    words = " ".join(line.split())
    found = _ROW.fullmatch(words) if len(words) <= MAX_LINE else None
    if found is None:
        return Call("line", words, None)
    return Call(found["kind"], found["name"], float(found["mean"]))


def _from_message(message: Any, where: str) -> list[Call]:
    """The operators of the first subgraph's runs; delegates' own operators are no nodes of the model."""
    calls = []
    for graph in _listed(_field(_field(message, "runtime_profile"), "subgraph_profiles"))[:1]:
        for operator in _listed(_field(graph, "per_op_profiles")):
            microseconds = _field(_field(operator, "inference_microseconds"), "avg")
            calls.append(
                Call(
                    str(_field(operator, "node_type")),
                    str(_field(operator, "name")),
                    _milliseconds(microseconds),
                )
            )
    if not calls:
        raise LutError(f"{where} has no operators in runtime_profile.subgraph_profiles.per_op_profiles")
    return calls


def _milliseconds(value: Any) -> Any:
    """JSON writes 64-bit integers as text."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,15}", value):
        value = int(value)
    return value / 1000.0 if isinstance(value, int | float) and not isinstance(value, bool) else value


def _field(message: Any, name: str) -> Any:
    """A field by its name in the .proto file or by the one that JSON gives it."""
    if not isinstance(message, Mapping):
        return None
    head, *rest = name.split("_")
    return message.get(name, message.get(head + "".join(word.capitalize() for word in rest)))


def _listed(value: Any) -> list[Any]:
    """A repeated field; text format does not tell one element from a field that is not repeated."""
    return value if isinstance(value, list) else [] if value is None else [value]
