"""Place: a file or folder at a local path or any fsspec URL."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hwprof.errors import LutError
from hwprof.text import visible

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
# A secret key of AWS may hold a slash, which cuts such a URL in another place; a port is no password.
CREDENTIALS = re.compile(r"(?<=://)(?:[^/@\s]*|(?![^/:@\s]*:\d*/)[^/:@\s]*:[^@\s]*)@|\?\S*")
LOCAL = ("file", "local")
WEB = ("http", "https")
# Stores that show a file under its name only once all of it is there.
WHOLE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "oci", "oss")
INSTALL = "pip install 'hwprof[share]'"
MOST_NAMES = 100_000
LISTING_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20
HTTP_SECONDS = 60


@dataclass(frozen=True)
class Info:
    """What a place says of a file: its size, and a mark that changes with its content, if any."""

    bytes: int | None
    version: str | None


@dataclass(frozen=True, eq=False)
class Place:
    """A file or folder. Every method turns the place's own errors into a one-line `LutError`.

    Attributes:
        shown: how messages name it; passwords and query strings are left out.
        protocol: `file` for a local path, else the URL's.
        path: where it is in `fs`.
        root: the place that was opened, of which this one is a part; a symbolic link below it is
            refused.
    """

    shown: str
    protocol: str
    fs: Any
    path: str
    root: str

    def __str__(self) -> str:
        return self.shown

    @property
    def is_local(self) -> bool:
        """Whether it lies in the local file system."""
        return self.protocol in LOCAL

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self._path_and_query()[0].rstrip("/").rpartition("/")[2]

    def child(self, *names: str) -> Place:
        """A file or folder below this one. The names are hwprof's own or were checked."""
        path, query = self._path_and_query()
        shown, path = ("/".join((part.rstrip("/"), *names)) for part in (self.shown, path))
        return Place(shown, self.protocol, self.fs, path + query, self.root)

    def beside(self, name: str) -> Place:
        """Another file in the same folder."""
        path, query = self._path_and_query()
        shown, path = (
            f"{text.rpartition('/')[0]}/{name}" if "/" in text else name for text in (self.shown, path)
        )
        return Place(shown, self.protocol, self.fs, path + query, path + query)

    def _path_and_query(self) -> tuple[str, str]:
        """The path without and the query with its `?`; only the URLs of web servers have one."""
        if self.protocol not in WEB:
            return self.path, ""
        path, mark, query = self.path.partition("?")
        return path, mark + query

    def info(self) -> Info | None:
        """Size and version of the file; None if nothing is there.

        Raises:
            LutError: the place cannot be asked, or a symbolic link, folder or device is there.
        """
        with self.worded("be reached"):
            self.fs.invalidate_cache()
            try:
                found = self.fs.info(self.path)
            except FileNotFoundError as error:
                if self._is_missing(error):
                    return None
                raise
            self._refuse_links()
        if found.get("type") == "directory":
            raise LutError(f"{self} is a folder, not a file")
        if found.get("type") != "file":
            raise LutError(f"{self} is no regular file; remove it")
        size = found.get("size")
        marks = ("ETag", "etag", "md5Hash", "content_md5", "blob_id", "mtime", "created", "LastModified")
        # With the size: a time of whole seconds, as of SFTP, may stay through a change.
        version = next((f"{found[mark]} {size}" for mark in marks if found.get(mark) is not None), None)
        return Info(size, version)

    def names(self) -> list[str]:
        """Names of the files and folders directly below, sorted; none if there is no such folder.

        Raises:
            LutError: the place cannot be listed, a symbolic link is among them, or they are more than
                100,000.
        """
        if self.protocol in WEB:
            return self._linked_names()
        with self.worded("be listed"):
            self.fs.invalidate_cache()
            try:
                found = self.fs.ls(self.path, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
            self._refuse_links()
            if len(found) > MOST_NAMES:
                raise LutError(f"{self} holds more than {MOST_NAMES} names; it is no folder of tables")
            names = set()
            for entry in found:
                parent, _, name = str(entry["name"]).rstrip("/").rpartition("/")
                if entry.get("islink"):
                    raise _link(f"{self}/{name}")
                if parent.strip("/") == self.path.strip("/") and name not in ("", ".", ".."):
                    names.add(name)
        return sorted(names)

    def read(self, limit: int) -> bytes:
        """The whole file.

        Raises:
            LutError: it is not there, longer than `limit` bytes, or cannot be read.
        """
        with self.worded("be read"):
            self._refuse_links()
            if self.protocol in WEB:
                with self.fs.open(self.path, "rb", block_size=0) as file:
                    data = _read_up_to(file, limit + 1)
            else:
                data = self.fs.cat_file(self.path, start=0, end=limit + 1)
        return self.within(data, limit)

    def read_each(self, names: Sequence[str], limit: int) -> list[bytes | LutError]:
        """The files of these names below, fetched together where the place can; an error for each that
        cannot be read or is longer than `limit` bytes."""
        files = [self.child(name) for name in names]
        if self.protocol in WEB or self.is_local:
            return [_or_error(file, limit) for file in files]
        with self.worded("be read"):
            found = self.fs.cat_ranges(
                [file.path for file in files], [0] * len(files), [limit + 1] * len(files),
                on_error="return",
            )  # fmt: skip
        return [_within_or_error(file, data, limit) for file, data in zip(files, found, strict=True)]

    def within(self, data: bytes, limit: int) -> bytes:
        """The data, unless they are longer than a limit."""
        if len(data) > limit:
            raise LutError(
                f"{self} is longer than {limit} bytes: it is not what it should be; remove it"
            )
        return data

    def open_from(self, offset: int) -> contextlib.AbstractContextManager[io.BufferedIOBase]:
        """The file, opened for reading from a byte on. Errors are those of the place."""
        self._refuse_links()
        if self.protocol in WEB and not offset:
            # A stream: not every server can send a part.
            stream: contextlib.AbstractContextManager[io.BufferedIOBase]
            stream = self.fs.open(self.path, "rb", block_size=0)
            return stream
        file: Any = self.fs.open(self.path, "rb")
        file.seek(offset)
        opened: contextlib.AbstractContextManager[io.BufferedIOBase] = file
        return opened

    @contextlib.contextmanager
    def worded(self, what: str) -> Iterator[None]:
        """Turn whatever the place's library raises into one line."""
        try:
            yield
        except LutError:
            raise
        except Exception as error:
            raise self.failure(what, error) from error

    def failure(self, what: str, error: Exception) -> LutError:
        """One line for an error of the place's library."""
        if isinstance(error, FileNotFoundError) and not self._is_missing(error):
            error = error.__cause__ if isinstance(error.__cause__, Exception) else error
        reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        line = CREDENTIALS.sub("", " ".join(reason.split()))
        return LutError(
            f"{self} cannot {what}: {visible(line[:300])}; check the name, the network and your rights"
        )

    def _is_missing(self, error: FileNotFoundError) -> bool:
        """Whether the place says that nothing is there. Of a web server that cannot be reached, fsspec
        says the same."""
        cause = error.__cause__
        if self.protocol not in WEB or cause is None or isinstance(cause, FileNotFoundError):
            return True
        return getattr(cause, "status", None) in (404, 410)

    def _linked_names(self) -> list[str]:
        """Names that a web server's page about a folder links to."""
        page = self.child("")
        try:
            text = page.read(LISTING_BYTES).decode(errors="replace")
        except LutError as error:
            if isinstance(error.__cause__, FileNotFoundError) and self._is_missing(error.__cause__):
                return []
            raise
        links = (unquote(link).rstrip("/") for link in re.findall(r'href="([^"?#]+)"', text))
        return sorted({link for link in links if link and "/" not in link and link != ".."})

    def _refuse_links(self) -> None:
        """In the local file system, refuse symbolic links below the place that was opened."""
        if not self.is_local:
            return
        here, root = Path(self.path), Path(self.root)
        for part in (here, *here.parents):
            if part == root:
                return
            if part.is_symlink():
                raise _link(str(part))


def is_url(text: str | os.PathLike[str]) -> bool:
    """Whether it is a URL (`s3://...`) and no local path."""
    return isinstance(text, str) and SCHEME.match(text) is not None


def shown_url(text: str) -> str:
    """A path or URL as messages name it: a URL without its password and query string."""
    return CREDENTIALS.sub("", text) if "://" in text else text


def check_utf8(name: str | os.PathLike[str]) -> None:
    """Check the name of a place or file, which goes into notes, hashes and what commands print.

    Raises:
        LutError: it has bytes that are no UTF-8.
    """
    text = os.fspath(name)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise LutError(f"{shown_url(text)!a} is a name that is no UTF-8; give another") from None


def open_place(text: str | os.PathLike[str]) -> Place:
    """A place by its path or URL; nothing is asked of it yet.

    Raises:
        LutError: fsspec or what the URL's protocol needs is not installed, the protocol is unknown, or
            the name is no UTF-8.
    """
    check_utf8(text)
    try:
        import fsspec
    except ImportError:
        raise LutError(f"{shown_url(str(text))} needs fsspec; {INSTALL}") from None
    text = os.fspath(text)
    match = SCHEME.match(text)
    if match is None:
        path = str(Path(text).expanduser().absolute())
        return Place(text, "file", fsspec.filesystem("file"), path, path)
    protocol = match[1].lower()
    shown = shown_url(text)
    try:
        fs, path = fsspec.core.url_to_fs(text, **(_web_options() if protocol in WEB else {}))
    except (ImportError, ValueError) as error:
        hint = INSTALL if protocol in ("s3", "s3a", *WEB) else "install what it names"
        raise LutError(f"{shown} cannot be opened: {_one_line(error)}; {hint}") from None
    except Exception as error:
        raise LutError(f"{shown} cannot be opened: {_one_line(error)}; check your settings") from error
    if protocol not in WEB:
        path = path.rstrip("/") or path
    return Place(shown.rstrip("/"), "file" if protocol in LOCAL else protocol, fs, path, path)


def _web_options() -> dict[str, Any]:
    """A large file may take as long as it takes, but a server that says nothing more is given up."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=HTTP_SECONDS, sock_read=HTTP_SECONDS)
    return {"client_kwargs": {"timeout": timeout}}


def _or_error(file: Place, limit: int) -> bytes | LutError:
    try:
        return file.read(limit)
    except LutError as error:
        return error


def _within_or_error(file: Place, found: bytes | Exception, limit: int) -> bytes | LutError:
    if isinstance(found, Exception):
        return file.failure("be read", found)
    try:
        return file.within(found, limit)
    except LutError as error:
        return error


def _read_up_to(file: io.BufferedIOBase, most: int) -> bytes:
    """At most so many bytes; a stream may hand over fewer at a time."""
    parts: list[bytes] = []
    while most > 0 and (data := file.read(min(CHUNK_BYTES, most))):
        parts.append(data)
        most -= len(data)
    return b"".join(parts)


def _one_line(error: Exception) -> str:
    return visible(" ".join(str(error).split())[:300]) or type(error).__name__


def _link(path: str) -> LutError:
    return LutError(f"{visible(path)} is a symbolic link, which may not be here; remove it")
