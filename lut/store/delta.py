"""One Delta table of a store: appended to by many processes, each batch once."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from hwprof.errors import LutError
from hwprof.lut.places.place import INSTALL, shown_url
from hwprof.lut.store.batches import read_within
from hwprof.lut.store.checks import FORMAT, FORMAT_KEY, check_columns, check_format, check_inside

if TYPE_CHECKING:
    from deltalake import DeltaTable

T = TypeVar("T")

ANSI = re.compile(r"\x1b\[[0-9;]*m")
# Each append loads the list of live files: with 800 of 20 KB it took 100 ms, with 1 it took 11.
COMPACT_EVERY = 128
SMALL_BYTES = 4 << 20
LARGE_BYTES = 128 << 20
COMMIT_TRIES = 20
FIRST_PAUSE_S = 0.01
LONGEST_PAUSE_S = 2.0
# Commits that fail although nobody else has committed: then it is no conflict.
FRUITLESS_TRIES = 5
# A folder that others write to meanwhile may be listed with a commit but without the one before it:
# Delta takes that for a damaged log. Of 8 processes with 1,000 appends each two were told so.
GAP = "found gap"
GAP_TRIES = 8

_first_used_in: int | None = None


@dataclass(frozen=True)
class Commit:
    """What became of an append: whether it is new (else it was there before), the table's version, and
    how often it lost a race and was tried again."""

    new: bool
    version: int
    retries: int


class Delta:
    """One Delta table. Opened when first used; not to be carried into a forked process."""

    def __init__(
        self, uri: str, schema: pa.Schema, keyed: Sequence[str], options: dict[str, str]
    ) -> None:
        """A table that may not exist yet.

        Args:
            uri: folder, as a local path or the URL of an object store.
            schema: its columns.
            keyed: columns whose smallest and largest value are noted for each file.
            options: for the object store, beside what it finds in the environment.
        """
        self.uri = uri
        self.shown = shown_url(uri)
        self.schema = schema
        self._keyed = ",".join(keyed)
        self._options = options
        self._open: DeltaTable | None = None

    def append(self, data: pa.Table, writer: str, sequence: int) -> Commit:
        """Append rows as one batch, all or none, unless this writer's batch of that number is there.

        The batch's number is committed with its rows (Delta's `txn` action), so a batch whose writer was
        killed before it heard of its success is not appended twice. Commits that lose a race are tried
        again until they succeed.

        Args:
            sequence: number of the batch; the batches of one writer are numbered upwards.

        Raises:
            LutError: the table cannot be written: no rights, space or network, or it is no store's.
        """
        from deltalake import CommitProperties, Transaction, write_deltalake
        from deltalake.exceptions import CommitFailedError, DeltaError

        data = data.select(self.schema.names).cast(self.schema)
        mine = CommitProperties(
            app_transactions=[Transaction(writer, sequence)], max_commit_retries=COMMIT_TRIES
        )
        retries = fruitless = 0
        table = self.table(create=True)
        while True:
            before = table.version()
            last = table.transaction_version(writer)
            if last is not None and last >= sequence:
                return Commit(retries > 0, before, retries)  # a try may fail behind its commit
            try:
                with self._worded("be written", but=DeltaError):
                    write_deltalake(table, data, mode="append", commit_properties=mine)
                break
            except DeltaError as error:
                if not isinstance(error, CommitFailedError) and GAP not in str(error):
                    raise self._failure("be written", error) from error
                retries += 1
                _pause(retries)
                self.refresh()
                fruitless = fruitless + 1 if table.version() == before else 0
                if fruitless == FRUITLESS_TRIES:
                    raise self._failure("be written", error) from error
        version = table.version()
        if version % COMPACT_EVERY == 0:
            self._compact_by_the_way()
        return Commit(True, version, retries)

    def last_sequence(self, writer: str) -> int | None:
        """Number of a writer's last batch; None if it has none, or there is no table."""
        if self._open is None and not self.exists():
            return None
        return self.refresh().transaction_version(writer)

    def has(self, writer: str, sequence: int) -> bool:
        """Whether a writer's batch of that number, or a later one, is there."""
        last = self.last_sequence(writer)
        return last is not None and last >= sequence

    def query(self, sql: str, at: DeltaTable | None = None) -> pa.Table:
        """Result of a SELECT over `delta`, which is this table as it is now, or as it was.

        Raises:
            LutError: the table is not there, damaged or no store's, lacks a column or has one of
                another type, or the result takes more memory than it may (see `read_within`).
        """
        from deltalake import QueryBuilder

        table = at or self.refresh()
        with self._worded("be read"):
            check_columns(pa.schema(table.schema().to_arrow()), self.schema, self.shown)
            files = _files(table)
            check_inside(files.column("path").to_pylist(), self.shown)
            sizes, counts = files.column("size_bytes"), files.column("num_records")
            found = QueryBuilder().register("delta", table).execute(sql)
            return read_within(
                pa.RecordBatchReader.from_stream(found),
                pc.sum(sizes, min_count=0).as_py(),
                pc.sum(counts, min_count=0).as_py(),
                self.shown,
            )

    def contents(self, at: DeltaTable) -> list[str]:
        """What tells the table as it was from all others, those that stood at its place before and
        copies that have grown apart among them: its id and its files, whose names are random."""
        with self._worded("be read"):
            return [at.metadata().id, *sorted(_files(at).column("path").to_pylist())]

    def history(self, at: DeltaTable, versions: int) -> list[dict[str, Any]]:
        """What the log says of the last versions, newest first. Nothing of it is checked.

        Raises:
            LutError: the log cannot be read.
        """
        with self._worded("be read"):
            return at.history(versions)

    def at(self, version: int | None, as_of: datetime | None) -> DeltaTable:
        """The table as it was at a version or time; as it is now if neither is given.

        Raises:
            LutError: there is no such version, or the table is not there or no store's.
        """
        now = self.refresh()
        wanted = as_of if version is None else version
        if wanted is None:
            return now
        if version is not None and not 0 <= version <= now.version():
            raise LutError(f"{self.shown} has no version {version}; it has 0 to {now.version()}")
        with self._worded("be read"):
            table = self._loaded()
            _listed(lambda: table.load_as_version(wanted))
        return table

    def compact(self, forget_days: int | None) -> dict[str, int]:
        """Rewrite small files into large ones, and remove what no version of the last days needs.

        Args:
            forget_days: versions older than that can no longer be read; at least 7, so that nothing that
                is being written now is taken for left-overs. None: forget nothing.

        Returns:
            Files merged, files made and files removed.

        Raises:
            LutError: the table is not there, names files elsewhere, or cannot be written.
        """
        from deltalake.exceptions import CommitFailedError

        for _ in range(COMMIT_TRIES):
            self.refresh()
            try:
                done = self._compact(LARGE_BYTES)
                break
            except CommitFailedError as error:
                lost = error
        else:
            raise self._failure("be compacted", lost)
        removed: list[str] = []
        if forget_days is not None:
            with self._worded("be cleaned"):
                removed = self.table().vacuum(24 * forget_days, dry_run=False, full=True)
        with self._worded("be written"):
            self.table().create_checkpoint()
        return {
            "files_merged": int(done["numFilesRemoved"]),
            "files_made": int(done["numFilesAdded"]),
            "files_removed": len(removed),
        }

    def table(self, create: bool = False) -> DeltaTable:
        """The open table, as it was when last refreshed.

        Raises:
            LutError: it is not there, or no store's.
        """
        _refuse_forks()
        if self._open is None:
            self._open = self._opened(create)
        return self._open

    def refresh(self) -> DeltaTable:
        """The open table as it is now.

        Raises:
            LutError: it is not there, or no store's.
        """
        table = self.table()
        with self._worded("be read"):
            _listed(table.update_incremental)
        return table

    def exists(self) -> bool:
        """Whether there is a Delta table."""
        from deltalake import DeltaTable

        _refuse_forks()
        with self._worded("be reached"):
            return DeltaTable.is_deltatable(self.uri, self._options)

    def _loaded(self) -> DeltaTable:
        from deltalake import DeltaTable

        return _listed(lambda: DeltaTable(self.uri, storage_options=self._options))

    def _opened(self, create: bool) -> DeltaTable:
        if not self.exists():
            if not create:
                raise LutError(
                    f"{self.shown} holds no store; hwprof lut push TABLE delta+PLACE makes one"
                )
            self._create()
        with self._worded("be read"):
            table = self._loaded()
            check_format(table.metadata().configuration, self.shown)
        return table

    def _create(self) -> None:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        settings = {
            FORMAT_KEY: str(FORMAT),
            "delta.appendOnly": "true",
            "delta.dataSkippingStatsColumns": self._keyed,
            # Cleaned logs would end the time travel after 30 days, unasked.
            "delta.enableExpiredLogCleanup": "false",
        }
        with self._worded("be written"):
            try:
                DeltaTable.create(
                    self.uri,
                    self.schema,
                    configuration=settings,
                    storage_options=self._options,
                    raise_if_key_not_exists=False,  # of the settings: one is hwprof's own
                )
            except DeltaError:
                if not self.exists():  # else another process was as fast
                    raise

    def _compact_by_the_way(self) -> None:
        """Merge small files. What was appended is there, whatever becomes of this; the next one that is
        due does it all."""
        from deltalake.exceptions import CommitFailedError

        try:
            self._compact(SMALL_BYTES)
        except (CommitFailedError, LutError) as error:
            logging.getLogger(__name__).info("small files were not merged: %s", shown_url(str(error)))

    def _compact(self, target_bytes: int) -> dict[str, Any]:
        from deltalake.exceptions import CommitFailedError

        with self._worded("be compacted", but=CommitFailedError):
            table = self.table()
            check_inside(_files(table).column("path").to_pylist(), self.shown)
            done: dict[str, Any] = _listed(lambda: table.optimize.compact(target_size=target_bytes))
            return done

    @contextlib.contextmanager
    def _worded(self, what: str, but: type[Exception] = LutError) -> Iterator[None]:
        """Turn deltalake's errors into one line, except those that the caller wants."""
        try:
            yield
        except (LutError, but):
            raise
        except Exception as error:
            raise self._failure(what, error) from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of Rust, at a log that makes no sense
                raise
            raise self._failure(what, error) from error

    def _failure(self, what: str, error: BaseException) -> LutError:
        line = shown_url(" ".join(ANSI.sub("", str(error)).partition("<?xml")[0].split()))
        return LutError(
            f"store {self.shown} cannot {what}: {line[:300]}; check the name, space and rights"
        )


def _files(table: DeltaTable) -> pa.Table:
    """Path, size and number of rows of each file."""
    return pa.table(table.get_add_actions(flatten=True)).select(["path", "size_bytes", "num_records"])


def _listed(action: Callable[[], T]) -> T:
    """What an action gives that lists the log, done again where the list had a gap."""
    from deltalake.exceptions import DeltaError

    for tries in range(1, GAP_TRIES):
        try:
            return action()
        except DeltaError as error:
            if GAP not in str(error):
                raise
            _pause(tries)
    return action()


def _pause(tries: int) -> None:
    time.sleep(random.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries, 20))))


def import_deltalake() -> None:
    """Import deltalake.

    Raises:
        LutError: it is not installed; the message says what installs it.
    """
    try:
        import deltalake  # noqa: F401
    except ImportError:
        raise LutError(f"a store needs deltalake; {INSTALL}") from None


def _refuse_forks() -> None:
    """deltalake's threads do not survive a fork: it panics instead of raising."""
    global _first_used_in
    if _first_used_in is None:
        _first_used_in = os.getpid()
    if _first_used_in != os.getpid():
        raise LutError(
            "this process was forked after its parent had used a store; start it by spawning "
            '(multiprocessing.get_context("spawn"))'
        )
