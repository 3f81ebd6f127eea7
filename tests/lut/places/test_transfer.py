"""Transfers: a place never shows a part of a file, and what was fetched is not fetched again."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from hwprof.errors import LutError
from hwprof.lut.places import open_place
from hwprof.lut.places import transfer as transfers
from hwprof.lut.places.transfer import download, upload_bytes, upload_file

DATA = random.Random(0).randbytes(3_000_000)


class FullMemory(MemoryFileSystem):
    """fsspec's memory file system on a disk of 1 MB: what does not fit raises ENOSPC."""

    protocol = "full"
    store: dict = {}  # noqa: RUF012 - as fsspec's own
    pseudo_dirs = [""]  # noqa: RUF012

    def _open(self, path, mode="rb", **options):
        file = super()._open(path, mode, **options)
        if "w" in mode:
            write = file.write

            def limited(data):
                if file.tell() + len(data) > 1_000_000:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return write(data)

            file.write = limited
        return file


fsspec.register_implementation("full", FullMemory, clobber=True)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def listed(place):
    return sorted(place.fs.find(place.root))


@pytest.fixture
def folder(url):
    return open_place(url)


def test_what_is_uploaded_is_there_and_comes_back(folder, source, tmp_path):
    place = folder.child("deep", "er", "x")
    upload_file(place, source, sha256(DATA))
    assert listed(folder) == [place.path]
    download(place, tmp_path / "back", len(DATA))
    assert (tmp_path / "back").read_bytes() == DATA


def test_a_file_that_changes_while_it_is_sent_is_not_shown(folder, source):
    with pytest.raises(LutError, match="was changed while it was read"):
        upload_file(folder.child("x"), source, sha256(b"what it was"))
    assert folder.child("x").info() is None
    assert folder.names() == []


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_an_upload_that_fails_on_the_local_disk_leaves_nothing(tmp_path, source, monkeypatch, failing):
    def fail(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    folder = open_place(str(tmp_path / "there"))
    upload_bytes(folder.child("before"), b"1")
    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(LutError, match="cannot be written: Input/output error") as caught:
        upload_file(folder.child("x"), source, sha256(DATA))
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path / "there") == ["before"]


def test_a_full_place_shows_no_half_file(source):
    folder = open_place("full://disk")
    upload_bytes(folder.child("small"), b"fits")
    with pytest.raises(LutError, match=r"cannot be written: No space left on device"):
        upload_file(folder.child("large"), source, sha256(DATA))
    assert [path.rpartition("/")[2] for path in listed(folder)] == ["small"]


FULL = """
import hashlib, resource, signal, sys
from pathlib import Path
from hwprof.errors import LutError
from hwprof.lut.places import open_place
from hwprof.lut.places.transfer import upload_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
place, source = open_place(sys.argv[1]).child("x"), Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000000, 1000000))
try:
    upload_file(place, source, hashlib.sha256(source.read_bytes()).hexdigest())
except LutError as error:
    print(error)
"""


def test_a_full_local_disk_is_one_line_and_shows_no_half_file(tmp_path, source):
    """The file-size limit stops the write as a full disk does, in the middle."""
    command = [sys.executable, "-c", FULL, str(tmp_path / "there"), str(source)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.count("\n") == 1
    assert "cannot be written: File too large" in said
    assert os.listdir(tmp_path / "there") == []


def test_a_killed_upload_shows_no_half_file(tmp_path, source):
    program = FULL.replace("resource.setrlimit(resource.RLIMIT_FSIZE, (1000000, 1000000))", "import os\n"
                           "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)")  # fmt: skip
    command = [sys.executable, "-c", program, str(tmp_path / "there"), str(source)]
    assert subprocess.run(command, check=False).returncode == -9
    folder = open_place(str(tmp_path / "there"))
    assert folder.child("x").info() is None
    upload_file(folder.child("x"), source, sha256(DATA))
    assert folder.child("x").info().bytes == len(DATA)


class Flaky:
    """Opens files that fail after so many bytes, and counts the bytes that were read."""

    def __init__(self, place, monkeypatch, *limits):
        self.limits, self.sent, self.offsets = [*limits], 0, []
        real = type(place).open_from

        def open_from(asked, offset):
            self.offsets.append(offset)
            return self._limited(real(asked, offset))

        monkeypatch.setattr(type(place), "open_from", open_from)
        monkeypatch.setattr(transfers, "PAUSE_S", 0)

    @contextlib.contextmanager
    def _limited(self, opened):
        left = self.limits.pop(0) if self.limits else len(DATA) + 1

        def read(count):
            nonlocal left
            if not left:
                raise ConnectionError("line is dead")
            data = file.read(min(count, left))
            left -= len(data)
            self.sent += len(data)
            return data

        with opened as file:
            yield SimpleNamespace(read=read)


def test_a_download_goes_on_after_the_line_was_dead(memory, tmp_path, monkeypatch):
    place = open_place(memory).child("x")
    upload_bytes(place, DATA)
    flaky = Flaky(place, monkeypatch, 1_000_000, 500_000)
    download(place, tmp_path / "got", len(DATA))
    assert (tmp_path / "got").read_bytes() == DATA
    assert flaky.offsets == [0, 1_000_000, 1_500_000]
    assert flaky.sent == len(DATA)


def test_a_download_that_gave_up_is_taken_up_by_the_next(memory, tmp_path, monkeypatch):
    place = open_place(memory).child("x")
    upload_bytes(place, DATA)
    flaky = Flaky(place, monkeypatch, 1_000_000, 0)
    with pytest.raises(LutError, match="cannot be fetched: line is dead"):
        download(place, tmp_path / "got", len(DATA))
    download(place, tmp_path / "got", len(DATA))
    assert (tmp_path / "got").read_bytes() == DATA
    assert flaky.sent == len(DATA)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (len(DATA) - 1, "is longer than the 2999999 bytes"),
        (len(DATA) + 1, "ended after 3000000 of 3000001"),
    ],
)
def test_a_file_of_another_length_than_told_is_refused(memory, tmp_path, told, message):
    place = open_place(memory).child("x")
    upload_bytes(place, DATA)
    with pytest.raises(LutError, match=message):
        download(place, tmp_path / "got", told)


def test_a_file_that_does_not_fit_on_the_disk_is_not_begun(memory, tmp_path):
    with pytest.raises(LutError, match=r"MiB free, .* MiB are needed"):
        download(open_place(memory).child("x"), tmp_path / "got", 1 << 50)
    assert not (tmp_path / "got").exists()


@pytest.fixture
def web(tmp_path):
    """A web server that cuts the first answer off and, if asked, sends parts of files."""
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(b"")

        def do_GET(self):
            asked.append(self.headers.get("Range"))
            self.answer(DATA[: 1_000_000 if len(asked) == 1 else None])

        def answer(self, body):
            start = 0
            if "parts" in self.path and (wanted := self.headers.get("Range")):
                start, end = (int(x) for x in wanted.removeprefix("bytes=").split("-"))
                body = DATA[start : end + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(DATA)}")
                self.send_header("Content-Length", str(len(body)))
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(DATA)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["parts", "whole"])
def test_a_web_server_is_asked_for_the_rest_and_if_it_sends_no_parts_for_all(
    web, tmp_path, monkeypatch, name
):
    url, asked = web
    monkeypatch.setattr(transfers, "PAUSE_S", 0)
    download(open_place(f"{url}/{name}"), tmp_path / "got", len(DATA))
    assert (tmp_path / "got").read_bytes() == DATA
    assert asked[0] is None
    start = int(asked[1].removeprefix("bytes=").partition("-")[0])
    assert 0 < start <= 1_000_000
    assert asked[2:] == ([None] if name == "whole" else [])


# S3 takes no smaller parts, but for the last.
PART_BYTES = 5 << 20


@pytest.fixture
def large(tmp_path, monkeypatch) -> tuple[Path, str]:
    """A file of three parts."""
    monkeypatch.setattr("hwprof.lut.places.transfer.PART_BYTES", PART_BYTES)
    monkeypatch.setattr("hwprof.lut.places.s3.PART_BYTES", PART_BYTES)
    path = tmp_path / "large"
    data = random.Random(1).randbytes(1 << 20) * (2 * (PART_BYTES >> 20)) + DATA
    path.write_bytes(data)
    return path, sha256(data)


def test_an_upload_to_s3_that_was_interrupted_sends_only_the_parts_that_are_not_there(
    bucket, large, monkeypatch
):
    place = open_place(f"{bucket}/x")
    real, sent = place.fs.call_s3, []

    def dying(method, **arguments):
        if method == "upload_part":
            sent.append(arguments["PartNumber"])
            if len(sent) == 2:
                raise ConnectionError("line is dead")
        return real(method, **arguments)

    monkeypatch.setattr(place.fs, "call_s3", dying)
    with pytest.raises(LutError, match="cannot be written: line is dead"):
        upload_file(place, *large)
    assert place.info() is None
    upload_file(place, *large)
    assert sent == [1, 2, 2, 3]
    assert sha256(place.fs.cat_file(place.path)) == large[1]


def test_a_part_at_s3_that_is_not_as_it_should_be_is_sent_again(bucket, large):
    place = open_place(f"{bucket}/x")
    there, key = place.path.split("/")
    begun = place.fs.call_s3("create_multipart_upload", Bucket=there, Key=key)["UploadId"]
    place.fs.call_s3(
        "upload_part", Bucket=there, Key=key, UploadId=begun, PartNumber=1, Body=b"?" * PART_BYTES
    )
    upload_file(place, *large)
    assert sha256(place.fs.cat_file(place.path)) == large[1]


def test_two_uploads_of_one_file_to_s3_at_once_both_succeed(bucket, large, monkeypatch):
    place = open_place(f"{bucket}/x")
    real, once = place.fs.call_s3, []

    def overtaken(method, **arguments):
        if method == "complete_multipart_upload" and not once:
            once.append(1)
            upload_file(place, *large)
        return real(method, **arguments)

    monkeypatch.setattr(place.fs, "call_s3", overtaken)
    upload_file(place, *large)
    assert sha256(place.fs.cat_file(place.path)) == large[1]
