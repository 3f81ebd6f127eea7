"""Whether a table is what it was when it was written, who vouches for it, and what looks wrong."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hwprof.errors import LutError
from hwprof.lut.content import content_hash
from hwprof.lut.lint import Finding, at_least, lint
from hwprof.lut.lint.finding import SEVERITIES
from hwprof.lut.reading import StoredTable, open_table, visits_path_of
from hwprof.lut.table import Lut
from hwprof.lut.trust.keys import fingerprint, public_keys
from hwprof.lut.trust.signature import Signature, signature_of

HASH_DIGITS = 12


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: `rows`, `visits`, `signature` or `lint`.
        passed: None where there is nothing to check.
        message: what was found, in words.
    """

    name: str
    passed: bool | None
    message: str


@dataclass(frozen=True)
class Verification:
    """All checks of one table; `signature` is None where it has none."""

    path: Path
    checks: tuple[Check, ...]
    signature: Signature | None
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)

    def summary(self) -> dict[str, Any]:
        """JSON-able."""
        signed = self.signature
        return {
            "path": str(self.path),
            "passed": self.passed,
            "checks": [asdict(check) for check in self.checks],
            "signature": None
            if signed is None
            else asdict(signed) | {"fingerprint": signed.fingerprint},
            "findings": [asdict(finding) for finding in self.findings],
        }


def verify(
    path: str | os.PathLike[str], keys: Path | None = None, severity: str = "error"
) -> Verification:
    """Check a table: rows and visits against their hashes, the signature, and what lint finds. Its
    schema, its metadata and every page are checked by reading it.

    Args:
        keys: file of public keys; the table must be signed by one of them. None: whoever signed it, if
            anyone did, must have signed it as it is.
        severity: findings of lint that are this bad or worse fail.

    Raises:
        LutError: the table cannot be read, or is signed and cryptography is not installed.
    """
    trusted = None if keys is None else public_keys(keys)
    stored = open_table(Path(path))
    table = Lut(stored.metadata, stored.num_rows, stored.read, stored.path)
    signature = signature_of(stored)
    findings = lint(table)
    checks = (
        _rows(table),
        _visits(table),
        _signature(stored, signature, keys, trusted),
        _lint(findings, severity),
    )
    return Verification(table.path, checks, signature, tuple(findings))


def _rows(table: Lut) -> Check:
    return _hash("rows", content_hash(table.table), table.metadata["content_hash"], len(table))


def _visits(table: Lut) -> Check:
    told, place = table.metadata["visits_hash"], visits_path_of(table.path)
    if told is None:
        return Check("visits", None, "written without")
    if not place.exists():
        return Check("visits", None, f"{place} is not here")
    try:
        visits = table.visits
    except LutError as error:
        return Check("visits", False, str(error))
    return _hash("visits", content_hash(visits), told, visits.num_rows)


def _hash(name: str, found: str, told: str, count: int) -> Check:
    if found == told:
        return Check(name, True, f"{count}, content hash {found}")
    message = f"changed after they were written: they hash to {found[:HASH_DIGITS]}, the metadata say "
    return Check(name, False, f"{message}{told[:HASH_DIGITS]}")


def _signature(
    stored: StoredTable,
    signature: Signature | None,
    keys: Path | None,
    trusted: tuple[str, ...] | None,
) -> Check:
    if signature is None:
        return Check("signature", None if keys is None else False, "none")
    who = f"{signature.fingerprint}, {signature.signed_at}"
    if not signature.holds(stored.stored_metadata):
        return Check("signature", False, f"does not fit: the metadata were changed since ({who})")
    if trusted is None:
        return Check("signature", True, f"by {who}; whose key that is, --key tells")
    if signature.public_key not in trusted:
        known = ", ".join(fingerprint(key) for key in trusted)
        return Check("signature", False, f"by {who}, which is not in {keys} ({known})")
    return Check("signature", True, f"by {who}, which is in {keys}")


def _lint(findings: list[Finding], severity: str) -> Check:
    failed = any(at_least(finding, severity) for finding in findings)
    return Check("lint", not failed, ", ".join(_counts(findings)) or "nothing found")


def _counts(findings: list[Finding]) -> Iterator[str]:
    counts = Counter(finding.severity for finding in findings)
    for severity in reversed(SEVERITIES):
        if count := counts[severity]:
            yield f"{count} {severity}{'s' * (count != 1)}"
