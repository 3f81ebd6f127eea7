"""Ed25519 keys as people have them: OpenSSH's files (`~/.ssh/id_ed25519`) or PEM (`openssl genpkey`)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from hwprof.errors import LutError
from hwprof.text import shown

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KIND = "ssh-ed25519"
MOST_BYTES = 1 << 20
INSTALL = "signatures need cryptography: pip install 'hwprof[share]'"
MAKE = "make a key with: ssh-keygen -t ed25519 -f hwprof_key"


def private_key(path: Path, ask: Callable[[], str]) -> Ed25519PrivateKey:
    """The private key in a file.

    Args:
        ask: asked for the passphrase if the key has one.

    Raises:
        LutError: the file cannot be read, holds no private Ed25519 key, or the passphrase is wrong.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import (
            load_pem_private_key,
            load_ssh_private_key,
        )
    except ImportError:
        raise LutError(INSTALL) from None
    data = _read(path)
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else load_pem_private_key
    try:
        try:
            key = load(data, None)
        except TypeError:  # it has a passphrase
            key = load(data, ask().encode())
    except (ValueError, TypeError):
        raise LutError(
            f"{path} holds no private key, or its passphrase is another one; {MAKE}"
        ) from None
    except UnsupportedAlgorithm as error:
        raise LutError(f"{path} cannot be read: {shown(error)}; {MAKE}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise LutError(f"{path} holds a key of another kind than Ed25519; {MAKE}")
    return key


def public_keys(path: Path) -> tuple[str, ...]:
    """The Ed25519 keys in a file, as `ssh-ed25519 BASE64`: of a `.pub` file, of a list with a key in
    each line (`authorized_keys`, `https://github.com/USER.keys`), or of PEM.

    Raises:
        LutError: the file cannot be read, or holds none.
    """
    data = _read(path)
    if b"PRIVATE KEY" in data:
        raise LutError(f"{path} holds a private key; give the public one, {path}.pub")
    if b"BEGIN PUBLIC KEY" in data:
        return (_of_pem(path, data),)
    found = []
    for line in data.decode(errors="replace").splitlines():
        words = line.partition("#")[0].split()
        found += [f"{KIND} {key}" for kind, key in pairwise(words) if kind == KIND]
    if not found:
        raise LutError(
            f"{path} holds no public key of the kind {KIND}; {MAKE}, which writes hwprof_key.pub"
        )
    for key in found:
        load_public(key)
    return tuple(found)


def load_public(text: str) -> Ed25519PublicKey:
    """The key of `ssh-ed25519 BASE64`.

    Raises:
        LutError: it is none.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_ssh_public_key
    except ImportError:
        raise LutError(INSTALL) from None
    try:
        key = load_ssh_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise LutError(f"{shown(text)!r} is no public key of the kind {KIND}; {MAKE}")
    return key


def as_text(key: Ed25519PublicKey) -> str:
    """`ssh-ed25519 BASE64`."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def fingerprint(text: str) -> str:
    """Short name of a public key, as `ssh-keygen -lf` prints it."""
    digest = hashlib.sha256(base64.b64decode(text.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _of_pem(path: Path, data: bytes) -> str:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise LutError(INSTALL) from None
    try:
        key = load_pem_public_key(data)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise LutError(f"{path} holds no public Ed25519 key; {MAKE}")
    return as_text(key)


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise LutError(f"{path} is no file; give a key's file")
        with path.open("rb") as file:
            return file.read(MOST_BYTES)
    except OSError as error:
        raise LutError(f"key {path} cannot be read: {error.strerror}; {MAKE}") from None
