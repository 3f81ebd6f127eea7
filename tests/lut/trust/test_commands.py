"""`hwprof lut verify`, `sign`, `set` and `cite`."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from hwprof.cli.main import cli
from hwprof.errors import LutError
from hwprof.lut.trust.footer import replace_metadata


@pytest.fixture
def key(tmp_path):
    secret = Ed25519PrivateKey.generate()
    path = tmp_path / "key"
    for place, locked in (
        (path, NoEncryption()),
        (tmp_path / "locked", BestAvailableEncryption(b"sesame")),
    ):
        place.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    public = secret.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    path.with_suffix(".pub").write_bytes(public)
    return path


def run(*words, **options):
    return CliRunner().invoke(cli, ["lut", *map(str, words)], **options)


def test_a_table_is_signed_and_verified(lut, key):
    signed = run("sign", lut.path, "--key", key)
    assert signed.exit_code == 0
    assert "signed by SHA256:" in signed.output
    found = run("verify", lut.path, "--key", key.with_suffix(".pub"))
    assert found.exit_code == 0
    assert found.output.startswith(f"{lut.path}: verified\n")
    assert f"which is in {key.with_suffix('.pub')}" in found.output
    told = json.loads(run("verify", lut.path, "--json").output)
    assert told["passed"] is True
    assert told["signature"]["fingerprint"] in signed.output
    assert [check["name"] for check in told["checks"]] == ["rows", "visits", "signature", "lint"]


def test_exit_codes_are_0_1_and_2(lut, key, save, rows):
    assert run("verify", lut.path).exit_code == 0
    unsigned = run("verify", lut.path, "--key", key.with_suffix(".pub"))
    assert unsigned.exit_code == 1
    assert "NOT verified" in unsigned.output
    replace_metadata(lut.path, {"content_hash": json.dumps("0" * 64).encode()})
    changed = run("verify", lut.path)
    assert changed.exit_code == 1
    assert "FAILED rows: changed after they were written" in changed.output
    lut.path.write_bytes(lut.path.read_bytes()[:-50])
    with pytest.raises(LutError, match="cut off or damaged"):
        run("verify", lut.path, catch_exceptions=False)


def test_lint_fails_a_table_from_the_severity_that_is_asked_for(save, rows):
    """`write_lut` refuses most errors of lint; a 50th percentile above the 90th passes it."""
    path = save([{**rows[0], "p50_ms": 3.0}, *rows[1:]]).path
    found = run("verify", path)
    assert found.exit_code == 1
    assert "FAILED lint: 1 error" in found.output
    assert "error: order: p50_ms is above p90_ms" in found.output


def test_a_passphrase_is_asked_for_or_taken_from_the_environment(lut, key, monkeypatch):
    locked = key.with_name("locked")
    asked = run("sign", lut.path, "--key", locked, "--json", input="sesame\n")
    assert asked.exit_code == 0
    assert "sesame" not in asked.output
    monkeypatch.setenv("HWPROF_PASSPHRASE", "sesame")
    assert json.loads(run("sign", lut.path, "--key", locked, "--json").output)["algorithm"] == "ed25519"


def test_facts_are_set_and_cited(lut, key):
    run("sign", lut.path, "--key", key)
    words = ("--licence", "CC-BY-4.0", "--title", "T", "--author", "Ada", "--author", "Bob")
    done = run("set", lut.path, *words)
    assert done.exit_code == 0
    assert "set licence, title, authors" in done.output
    assert "its signature was taken away" in done.output
    assert run("cite", lut.path).output.startswith("Ada, Bob (20")
    assert run("cite", lut.path, "--bibtex").output.startswith("@misc{hwprof-")
    assert json.loads(run("cite", lut.path, "--json").output)["licence"] == "CC-BY-4.0"
    gone = json.loads(run("set", lut.path, "--licence", "", "--author", "", "--json").output)
    assert gone == {"path": str(lut.path), "licence": None, "authors": None, "signature_removed": False}
    assert "no licence given" in run("cite", lut.path).output
    assert run("set", lut.path).exit_code == 2
