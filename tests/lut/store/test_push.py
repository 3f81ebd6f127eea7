"""What a push refuses or says, so that nobody takes what comes back for more than it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hwprof.errors import LutError
from hwprof.lut import load_lut
from hwprof.lut.store import Store, push_to_store, store_to_cache
from hwprof.lut.trust.footer import replace_metadata
from hwprof.lut.trust.signature import sign

pytestmark = pytest.mark.usefixtures("home")


def test_intervals_of_another_level_once_came_back_as_of_the_usual_one(folder, lut, make):
    replace_metadata(lut.path, {"interval_level": b"0.99"})
    with pytest.raises(LutError, match=r"^lut has intervals of level 0\.99, this hwprof writes"):
        push_to_store(str(lut.path), folder)
    other = load_lut(lut.path)
    with pytest.raises(LutError, match=r"^the batch has intervals of level 0\.99"):
        Store(folder).append(other.table, other.metadata, writer="w", sequence=0)
    assert not Path(folder.removeprefix("delta+")).exists()


def test_a_signature_was_once_lost_without_a_word(folder, lut, tmp_path, caplog):
    push_to_store(str(lut.path), folder)
    assert not caplog.messages
    key = tmp_path / "key"
    form = (Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    key.write_bytes(Ed25519PrivateKey.generate().private_bytes(*form))
    sign(lut.path, key, str)
    for _ in range(2):
        caplog.clear()
        push_to_store(str(lut.path), folder)
        (said,) = caplog.messages
        assert said.startswith("lut is signed; a store keeps rows, not files")


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_push_to_a_folder_with_a_percent_sign_once_went_to_another_store(tmp_path, lut, make, prefix):
    push_to_store(str(lut.path), f"delta+{tmp_path}/runA")
    name = "run%41" if not prefix else "run%2541"
    for call in (store_to_cache, lambda place: push_to_store(str(lut.path), place)):
        with pytest.raises(LutError, match=r"a store cannot be at .*run%41: .* give a path without %$"):
            call(f"delta+{prefix}{tmp_path}/{name}")
    assert not (tmp_path / "run%41").exists()


@pytest.mark.parametrize("name", ["100%", "sp ace", "h#ash", "q?m", "ü"])
def test_a_folder_is_taken_literally(tmp_path, lut, name):
    place = f"delta+{tmp_path}/{name}"
    push_to_store(str(lut.path), place)
    assert load_lut(store_to_cache(place)).table.equals(lut.table)
    Store(place).compact()
    assert (tmp_path / name / "rows").is_dir()


def test_a_file_url_of_a_folder_with_a_space_is_that_folder(tmp_path, lut):
    push_to_store(str(lut.path), f"delta+{(tmp_path / 'sp ace').as_uri()}")
    assert load_lut(store_to_cache(f"delta+{tmp_path}/sp ace")).table.equals(lut.table)
