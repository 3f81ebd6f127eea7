"""The plan of an offline measurement: plan.json, from the export to run.py and to the import."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hwprof.errors import HwprofError, LutError
from hwprof.measure.protocol import Protocol
from hwprof.offline.runner.lines import FORMAT
from hwprof.ops import OpSpec

PLAN = "plan.json"


@dataclass(frozen=True)
class PlannedOp:
    """One op of a plan.

    Attributes:
        model: path of its file in the folder; empty where it could not be compiled, see `failure`.
        outputs: shapes of the model's outputs, in the runtime's layout.
        nodes: of the model, where the runtime does not tell how many there are.
        metadata: of the backend's artifact.
        failure: (state, reason) of an op that could not be compiled.
    """

    op: OpSpec
    model: str = ""
    sha256: str = ""
    outputs: tuple[tuple[int, ...], ...] = ()
    nodes: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    compile_ms: float | None = None
    failure: tuple[str, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Without the fields that are at their default, but with id and label."""
        fields = {name: value for name, value in self.__dict__.items() if value and name != "op"}
        compiled = {"metadata": dict(self.metadata)} if self.model else {}
        return {
            "id": self.op.op_id,
            "label": self.op.label,
            "op": self.op.to_dict(),
            **fields,
            **compiled,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PlannedOp:
        fields = {name: value for name, value in data.items() if name not in ("id", "label", "op")}
        if "failure" in fields:
            state, reason = fields["failure"]
            fields["failure"] = (state, reason)
        op = OpSpec.from_dict(data["op"])
        if op.op_id != data["id"]:
            raise ValueError(f"op {data['id']} is op {op.op_id} to this version of hwprof")
        return cls(op, **fields)


@dataclass(frozen=True)
class OfflinePlan:
    """What is to be measured on the device, and how.

    Attributes:
        runtime: what run.py loads, a name of its `RUNTIMES`.
        options: the backend's options as they were given.
        environment: the backend's part of the environment's identity; the device fills in
            `runtime_version`.
        probe: a model of one node, zlib and base64, that the runtime must run, on the delegate where the
            plan wants one; empty: the runtime needs no such test.
        facts: glob patterns of the files that describe the device.
        sentinels: sizes and repeats of the two sentinels.
    """

    backend: str
    target: str
    runtime: str
    options: Mapping[str, str]
    environment: Mapping[str, Any]
    threads: int
    batch: int
    dtype: str
    space: str
    space_hash: str
    seed: int
    protocol: Protocol
    op_timeout_s: float
    probe: str
    facts: tuple[str, ...]
    sentinels: Mapping[str, int]
    hwprof_version: str
    ops: tuple[PlannedOp, ...]

    def to_json(self) -> str:
        fields = {**self.__dict__, "protocol": asdict(self.protocol)}
        return json.dumps(
            {"format": FORMAT, **fields, "ops": [op.to_dict() for op in self.ops]}, indent=1
        )

    @classmethod
    def read(cls, path: Path) -> tuple[OfflinePlan, str]:
        """The plan and the sha256 of its file.

        Raises:
            LutError: missing, damaged, or of another format or version.
        """
        try:
            content = path.read_bytes()
            data = json.loads(content)
            found = data.pop("format")
        except OSError as error:
            raise LutError(
                f"plan {path} cannot be read: {error.strerror}; results are imported beside the plan of "
                "their export, so copy them back into the exported folder"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise LutError(f"{path} is damaged, or no plan; export the jobs again") from None
        if found != FORMAT:
            raise LutError(f"{path} is a plan of format {found}, this hwprof reads {FORMAT}")
        try:
            ops = tuple(PlannedOp.from_dict(op) for op in data["ops"])
            plan = cls(**{**data, "protocol": Protocol(**data["protocol"]), "ops": ops})
        except (KeyError, TypeError, ValueError, AttributeError, HwprofError) as error:
            raise LutError(
                f"{path} was damaged, or exported by another version of hwprof "
                f"({data.get('hwprof_version')}): {error}"
            ) from None
        return plan, hashlib.sha256(content).hexdigest()
