"""Signatures: whose they are, what they hold for, and what undoes them."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_public_key,
)

from hwprof.errors import LutError
from hwprof.lut import load_lut, verify_lut, visits_path_of
from hwprof.lut.reading import open_table
from hwprof.lut.trust.facts import set_facts
from hwprof.lut.trust.footer import replace_metadata
from hwprof.lut.trust.keys import fingerprint, public_keys
from hwprof.lut.trust.signature import sign, signature_of
from hwprof.lut.trust.verify import verify
from hwprof.lut.write import update_metadata


def no_passphrase():
    raise AssertionError("asked for a passphrase")


class Key:
    """A key in files as people have them."""

    def __init__(self, folder: Path, name: str, form: str = "openssh", passphrase: str = "") -> None:
        secret = ed25519.Ed25519PrivateKey.generate()
        forms = {"openssh": PrivateFormat.OpenSSH, "pem": PrivateFormat.PKCS8}
        locked = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
        self.private, self.public = folder / name, folder / f"{name}.pub"
        self.private.write_bytes(secret.private_bytes(Encoding.PEM, forms[form], locked))
        public = secret.public_key()
        if form == "pem":
            told = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        else:
            told = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" ada@analytical\n"
        self.public.write_bytes(told)


@pytest.fixture
def ada(tmp_path):
    return Key(tmp_path, "ada")


@pytest.fixture
def bob(tmp_path):
    return Key(tmp_path, "bob")


def checks(path, keys=None):
    return {check.name: check.passed for check in verify(path, keys).checks}


def passes(path, keys):
    """Whether it verifies; an error of one line is a no."""
    try:
        return verify(path, keys).passed
    except LutError as error:
        return not str(error).isprintable()


def test_an_unsigned_table_verifies_unless_a_signature_is_asked_for(lut, ada):
    assert checks(lut.path) == {"rows": True, "visits": True, "signature": None, "lint": True}
    assert verify(lut.path).passed
    assert not verify(lut.path, ada.public).passed


def test_a_signed_table_is_the_same_table(lut, ada):
    before = lut.table
    data = lut.path.read_bytes()
    pages = data[: -8 - int.from_bytes(data[-8:-4], "little")]
    sign(lut.path, ada.private, no_passphrase)
    again = load_lut(lut.path)
    assert again.table.equals(before)
    assert again.metadata == lut.metadata
    assert lut.path.read_bytes().startswith(pages)
    verify_lut(lut.path)
    assert pq.read_table(lut.path).num_rows == 6


def test_a_signature_names_its_key_and_holds_for_it_alone(lut, ada, bob):
    made = sign(lut.path, ada.private, no_passphrase)
    assert made.fingerprint == fingerprint(public_keys(ada.public)[0])
    assert checks(lut.path)["signature"] is True
    assert checks(lut.path, ada.public)["signature"] is True
    assert checks(lut.path, bob.public)["signature"] is False


def test_the_fingerprint_is_the_one_that_ssh_keygen_prints(ada):
    try:
        told = subprocess.run(
            ["ssh-keygen", "-lf", str(ada.public)], capture_output=True, text=True, check=True
        )
    except FileNotFoundError:
        pytest.skip("ssh-keygen is not installed")
    assert fingerprint(public_keys(ada.public)[0]) in told.stdout


def test_one_of_several_keys_is_enough(lut, ada, bob, tmp_path):
    """As `https://github.com/USER.keys` and `authorized_keys` list them, other kinds among them."""
    sign(lut.path, bob.private, no_passphrase)
    many = tmp_path / "many.keys"
    lines = ["# the team", "ssh-rsa AAAAB3NzaC1yc2E= old", ada.public.read_text(), ""]
    many.write_text("\n".join([*lines, f'ada@x,bob@x namespaces="file" {bob.public.read_text()}']))
    assert len(public_keys(many)) == 2
    assert checks(lut.path, many)["signature"] is True


@pytest.mark.parametrize("form", ["openssh", "pem"])
def test_keys_of_openssh_and_openssl_with_a_passphrase(lut, tmp_path, form):
    if form == "openssh":
        pytest.importorskip("bcrypt")
    key = Key(tmp_path, "locked", form, "open sesame")
    with pytest.raises(LutError, match="passphrase is another one"):
        sign(lut.path, key.private, lambda: "guess")
    assert checks(lut.path)["signature"] is None
    sign(lut.path, key.private, lambda: "open sesame")
    assert checks(lut.path, key.public)["signature"] is True


@pytest.mark.parametrize("key", ["licence", "spaces", "environments", "created_at", "interval_level"])
def test_a_signature_ends_with_any_change_of_the_metadata(lut, ada, key):
    sign(lut.path, ada.private, no_passphrase)
    told = lut.metadata[key]
    other = {"licence": "CC0-1.0", "interval_level": 0.5, "created_at": "2026-01-01T00:00:00+00:00"}
    value = other.get(key) or (
        [*told, "more"] if key == "spaces" else {**told, "e": told[next(iter(told))]}
    )
    replace_metadata(lut.path, {key: json.dumps(value).encode()})
    assert load_lut(lut.path).metadata[key] == value
    assert checks(lut.path)["signature"] is False


def test_a_signature_ends_with_another_row_though_the_content_hash_is_made_to_fit(lut, ada, save, rows):
    """Rows are signed by their hash, which verify computes anew."""
    sign(lut.path, ada.private, no_passphrase)
    signature = open_table(lut.path).stored_metadata["signature"]
    save([{**rows[0], "latency_ms": 1.5, "latency_low_ms": 1.4, "latency_high_ms": 1.6}, *rows[1:]])
    replace_metadata(lut.path, {"signature": signature})
    found = checks(lut.path)
    assert found["rows"] is True
    assert found["signature"] is False


def test_rows_that_were_changed_do_not_verify_though_the_signature_fits(lut, ada, save, rows):
    sign(lut.path, ada.private, no_passphrase)
    told = dict(open_table(lut.path).stored_metadata)
    save([{**rows[0], "label": "faster"}, *rows[1:]], visits=None)
    replace_metadata(lut.path, told)
    found = checks(lut.path)
    assert found["signature"] is True
    assert found["rows"] is False
    with pytest.raises(LutError, match="changed after it was written"):
        sign(lut.path, ada.private, no_passphrase)


def test_visits_of_another_table_do_not_verify(lut, save, rows, make):
    other = save(rows[:1], name="other.parquet", visits=make.visits(rows[0]))
    visits_path_of(lut.path).write_bytes(visits_path_of(other.path).read_bytes())
    assert checks(lut.path)["visits"] is False
    visits_path_of(lut.path).unlink()
    assert checks(lut.path)["visits"] is None
    assert verify(lut.path).passed


def test_what_a_build_or_a_calibration_writes_is_unsigned(lut, ada):
    sign(lut.path, ada.private, no_passphrase)
    update_metadata(lut.path, licence="CC0-1.0")
    assert signature_of(open_table(lut.path)) is None


def test_facts_are_set_without_touching_the_rows_and_take_the_signature_away(lut, ada):
    before = lut.table
    assert set_facts(lut.path, {"licence": "CC-BY-4.0", "authors": ["Ada", "Bob"]}) is False
    sign(lut.path, ada.private, no_passphrase)
    assert set_facts(lut.path, {"title": "A table"}) is True
    again = load_lut(lut.path)
    assert again.table.equals(before)
    assert again.metadata["licence"] == "CC-BY-4.0"
    assert checks(lut.path)["signature"] is None
    assert sorted(place.name for place in lut.path.parent.glob("*lut*")) == [
        "lut.parquet", "lut.visits.parquet",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"licence": "a\x1b[2J"}, "control character"),
        ({"licence": ["CC0"]}, "null or a text"),
        ({"authors": "Ada"}, "a list of at most 100 names"),
        ({"title": "x" * 5000}, "4,096 are allowed"),
        ({"content_hash": "0" * 64}, "cannot be set; choose of licence, title, authors"),
    ],
)
def test_facts_that_no_table_may_hold_change_nothing(lut, facts, line):
    before = lut.path.read_bytes()
    with pytest.raises(LutError, match=line):
        set_facts(lut.path, facts)
    assert lut.path.read_bytes() == before


def test_the_signed_bytes_are_those_that_the_documentation_names(lut, ada):
    """A change here would end every signature: it needs another format."""
    made = sign(lut.path, ada.private, no_passphrase)
    told = pq.read_metadata(lut.path).metadata
    hashes = {
        key.decode().removeprefix("hwprof."): hashlib.sha256(value).hexdigest()
        for key, value in told.items()
        if key.startswith(b"hwprof.") and key != b"hwprof.signature"
    }
    documented = {"metadata": hashes, "public_key": made.public_key, "signed_at": made.signed_at}
    message = "hwprof-signature-v1\n" + json.dumps(documented, sort_keys=True, separators=(",", ":"))
    key = load_ssh_public_key(made.public_key.encode())
    key.verify(base64.b64decode(made.signature), message.encode())


@pytest.mark.parametrize(
    "stored",
    [b"null", b"[]", b"{}", b'{"format": 2, "algorithm": "ed25519"}', b'{"format": true}',
     b'{"format": 1, "algorithm": "none"}', b'{"format": 1, "algorithm": "ed25519", "public_key": 3}'],
)  # fmt: skip
def test_a_signature_that_is_none_is_an_error_of_one_line(lut, stored):
    replace_metadata(lut.path, {"signature": stored})
    with pytest.raises(LutError) as caught:
        verify(lut.path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("part", ["public_key", "signature", "signed_at"])
@pytest.mark.parametrize("value", ["", "ssh-ed25519 AAAA", "ssh-rsa AAAA", "\u00e9", "AAAA", "=" * 88])
def test_a_forged_signature_does_not_verify(lut, ada, part, value):
    sign(lut.path, ada.private, no_passphrase)
    told = json.loads(open_table(lut.path).stored_metadata["signature"])
    replace_metadata(lut.path, {"signature": json.dumps({**told, part: value}).encode()})
    assert not passes(lut.path, ada.public)


def test_files_that_hold_no_key_are_named(lut, ada, tmp_path):
    other = tmp_path / "other"
    with pytest.raises(LutError, match="cannot be read"):
        sign(lut.path, other, no_passphrase)
    other.write_text("hello")
    with pytest.raises(LutError, match="holds no private key"):
        sign(lut.path, other, no_passphrase)
    with pytest.raises(LutError, match="holds no public key"):
        verify(lut.path, other)
    with pytest.raises(LutError, match=r"give the public one, .*ada\.pub"):
        verify(lut.path, ada.private)
    secret = rsa.generate_private_key(65537, 2048)
    other.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(LutError, match="another kind than Ed25519"):
        sign(lut.path, other, no_passphrase)


def test_a_folder_that_cannot_be_written_leaves_the_table_as_it_is(lut, ada, monkeypatch):
    before = lut.path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(LutError, match="No space left on device; nothing was replaced"):
        sign(lut.path, ada.private, no_passphrase)
    assert lut.path.read_bytes() == before
    assert not list(lut.path.parent.glob(".*partial"))


def test_without_cryptography_only_signatures_need_it(lut, ada, monkeypatch):
    sign(lut.path, ada.private, no_passphrase)
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives.serialization", None)
    with pytest.raises(LutError, match=r"pip install 'hwprof\[share\]'"):
        verify(lut.path)
    assert len(load_lut(lut.path).table) == 6
    replace_metadata(lut.path, {"signature": None})
    assert verify(lut.path).passed
