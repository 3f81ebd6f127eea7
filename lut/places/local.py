"""The local file of a table, wherever the table is."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from pathlib import Path

from hwprof.errors import LutError
from hwprof.lut.places.cache import (
    NO_VISITS,
    fetched,
    file_sha256,
    keep_table,
    latest,
    remember,
    told_offline,
    undamaged_table,
)
from hwprof.lut.places.place import LOCAL, SCHEME, Info, Place, check_utf8, is_url, open_place, shown_url
from hwprof.lut.reading import open_table, visits_path_of

STORE = "delta+"
FILE_SUFFIX = ".parquet"


def is_store(text: str) -> bool:
    """Whether it names a store: `delta+` and its place."""
    return text.startswith(STORE)


def table_name(text: str) -> str:
    """What a table that is named so is called: the last part, without suffix; of a URL without hash
    and query, which a path has not."""
    bare = text.removeprefix(STORE)
    if is_url(bare):
        last = bare.partition("?")[0].rstrip("/").rpartition("/")[2].partition("@")[0]
    else:
        last = os.path.basename(os.path.abspath(bare))
    return last.removesuffix(FILE_SUFFIX) or "lut"


def local_table(table: str | os.PathLike[str]) -> Path:
    """The local path of a table: a local path itself, or the kept copy of what a place holds.

    Args:
        table: a path; the URL of a `.parquet` file; a registry's URL, `/NAME` and if wanted `@HASH`;
            or `delta+` and the path or URL of a store.

    What is kept of a place that is not local is taken without asking the place again, and a note on
    the log says so; `hwprof lut pull` asks. Otherwise the table and its visits are fetched and kept.

    Raises:
        LutError: nothing is kept and the place cannot be read, or `HWPROF_OFFLINE` is set; or what it
            holds is no whole table.
    """
    text = os.fspath(table)
    if not isinstance(table, str) or not (is_url(text) or is_store(text)):
        return Path(text)
    check_utf8(text)
    if (file := _local_file(text)) is not None:
        return file
    if not _is_far(text):
        return pull_to_cache(text)
    known = latest(text)
    path = None if known is None else undamaged_table(known.sha256, known.visits)
    if known is not None and path is not None:
        logging.getLogger(__name__).warning(
            "using the copy of %s of %s; hwprof lut pull %s asks for a newer one",
            shown_url(text), known.asked_at, shown_url(text),
        )  # fmt: skip
        return path
    return pull_to_cache(text)


def pull_to_cache(text: str, *, offline: bool = False) -> Path:
    """The path of `pull_table`."""
    return pull_table(text, offline=offline)[0]


def pull_table(text: str, *, offline: bool = False) -> tuple[Path, str]:
    """Ask a place for a table, fetch it if it is not kept, and return the kept copy and what it is
    called there.

    Args:
        text: as for `local_table`; here a registry may also be given by its path.
        offline: take what is kept, and touch no network; also if `HWPROF_OFFLINE` is set.

    Raises:
        LutError: as `local_table`; also if the name is no UTF-8.
    """
    check_utf8(text)
    offline = offline or told_offline()
    if is_store(text):
        from hwprof.lut.store import store_to_cache

        return store_to_cache(text, offline=offline), table_name(text)
    if not _is_file(text):
        from hwprof.lut.registry import pull_from_registry

        return pull_from_registry(text, offline=offline)
    return _file_to_cache(text, offline), table_name(text)


def _is_far(text: str) -> bool:
    """Whether asking the place may touch a network."""
    scheme = SCHEME.match(text.removeprefix(STORE))
    return scheme is not None and scheme[1].lower() not in LOCAL


def _is_file(text: str) -> bool:
    return text.partition("?")[0].endswith(FILE_SUFFIX)


def _local_file(text: str) -> Path | None:
    """The path of a `file://` URL of a single table."""
    if not text.lower().startswith(("file://", "local://")) or not _is_file(text):
        return None
    return Path(open_place(text).path)


def _file_to_cache(text: str, offline: bool) -> Path:
    """A table that is a single file at a URL, and its visits beside it."""
    if not is_url(text):
        raise LutError(f"{text} is here already; give a registry, a store or a URL")
    known = latest(text)
    path = None if known is None else undamaged_table(known.sha256, known.visits)
    if offline:
        if path is None:
            raise LutError(
                f"{shown_url(text)} is not in the cache; run the command again without --offline"
            )
        return path
    place = open_place(text)
    info = place.info()
    if info is None:
        raise LutError(f"{place} does not exist; check the name")
    if known is not None and path is not None and info.version and known.version == info.version:
        _, beside = _visits(place, path)
        if beside is None or (beside.version and known.visits_version == beside.version):
            remember(text, known.sha256, info.version, known.visits, known.visits_version)
            return path
    with ExitStack() as files:
        table = files.enter_context(fetched(place, info.bytes, info.version, None))
        visits, visits_sha256 = None, NO_VISITS
        visits_place, beside = _visits(place, table)
        if beside is not None:
            visits = files.enter_context(fetched(visits_place, beside.bytes, beside.version, None))
            visits_sha256 = file_sha256(visits)
        sha256 = file_sha256(table)
        path = keep_table(place, sha256, table, visits, visits_sha256=visits_sha256)
    visits_version = None if beside is None else beside.version
    remember(text, sha256, info.version, visits_sha256, visits_version)
    return path


def _visits(place: Place, table: Path) -> tuple[Place, Info | None]:
    """Where the visits of a fetched table are, and what that place says of them; None if the table has
    none, or they were not put beside it."""
    visits = place.beside(visits_path_of(Path(place.name)).name)
    if open_table(table).metadata["visits_hash"] is None:
        return visits, None
    return visits, visits.info()
