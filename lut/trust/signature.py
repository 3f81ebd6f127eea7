"""The signature of a table, kept in its metadata: it goes wherever the file goes.

What is signed is spelled out in docs/trust.md, so that others can check it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from hwprof.errors import LutError
from hwprof.lut.guard.metadata import parse
from hwprof.lut.reading import SIGNATURE, StoredTable, open_table
from hwprof.lut.table import verify_lut
from hwprof.lut.trust.footer import replace_metadata
from hwprof.lut.trust.keys import as_text, fingerprint, load_public, private_key
from hwprof.text import shown

FORMAT = 1
ALGORITHM = "ed25519"
PREAMBLE = f"hwprof-signature-v{FORMAT}\n"


@dataclass(frozen=True)
class Signature:
    """Who signed a table and when (ISO 8601, UTC, by the signer's clock). `public_key` is
    `ssh-ed25519 BASE64`, `signature` base64."""

    format: int
    algorithm: str
    public_key: str
    signed_at: str
    signature: str

    @property
    def fingerprint(self) -> str:
        """The key's short name, as `ssh-keygen -lf` prints it."""
        return fingerprint(self.public_key)

    def holds(self, stored_metadata: Mapping[str, bytes]) -> bool:
        """Whether it is the key's signature of these metadata.

        Raises:
            LutError: cryptography is not installed.
        """
        key = load_public(self.public_key)
        from cryptography.exceptions import InvalidSignature

        try:
            key.verify(
                base64.b64decode(self.signature, validate=True),
                message(stored_metadata, self.public_key, self.signed_at),
            )
        except (InvalidSignature, ValueError):
            return False
        return True


def message(stored_metadata: Mapping[str, bytes], public_key: str, signed_at: str) -> bytes:
    """The bytes that are signed: the preamble and a JSON object of the key, the time and the sha256 of
    each of the table's metadata as it stands in the file. They hold the content hash of the rows and
    that of the visits."""
    hashes = {
        key: hashlib.sha256(value).hexdigest()
        for key, value in stored_metadata.items()
        if key != SIGNATURE
    }
    told = {"metadata": hashes, "public_key": public_key, "signed_at": signed_at}
    return f"{PREAMBLE}{json.dumps(told, sort_keys=True, separators=(',', ':'))}".encode()


def signature_of(stored: StoredTable) -> Signature | None:
    """The signature in a table's metadata, not yet checked; None if it has none.

    Raises:
        LutError: what stands there is no signature, or of a newer format.
    """
    raw = stored.stored_metadata.get(SIGNATURE)
    if raw is None:
        return None
    told = parse(raw)
    names = ("format", "algorithm", "public_key", "signed_at", "signature")
    if not isinstance(told, dict) or not isinstance(told.get("format"), int):
        raise LutError(f"{stored.path}: its metadata hwprof.signature is none; sign it again")
    if told["format"] != FORMAT or told.get("algorithm") != ALGORITHM:
        raise LutError(
            f"{stored.path} has a signature of format {told['format']}, {shown(told.get('algorithm'))}; "
            f"this hwprof reads format {FORMAT}, {ALGORITHM}; upgrade hwprof"
        )
    if sorted(told) != sorted(names) or not all(isinstance(told[name], str) for name in names[1:]):
        raise LutError(f"{stored.path}: its metadata hwprof.signature is none; sign it again")
    load_public(told["public_key"])
    return Signature(**told)


def sign(path: str | os.PathLike[str], key: Path, ask: Callable[[], str]) -> Signature:
    """Sign a table: its rows, its visits and its metadata. Rows and their hash do not change.

    Args:
        key: file of a private Ed25519 key, of OpenSSH or PEM.
        ask: asked for the key's passphrase if it has one.

    Raises:
        LutError: the table was changed after it was written or cannot be read or written, or the key
            cannot be used.
    """
    secret = private_key(key, ask)
    verify_lut(path)
    stored = open_table(Path(path)).stored_metadata
    public = as_text(secret.public_key())
    now = datetime.now(UTC).isoformat(timespec="seconds")
    signed = base64.b64encode(secret.sign(message(stored, public, now))).decode()
    made = Signature(FORMAT, ALGORITHM, public, now, signed)
    replace_metadata(path, {SIGNATURE: json.dumps(asdict(made), sort_keys=True).encode()})
    return made
