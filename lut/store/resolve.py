"""From the rows of a store to a table: each key once, by a stated rule."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from hwprof.errors import LutError
from hwprof.lut.schema import COLUMNS, KEY, VISIT_COLUMNS

if TYPE_CHECKING:
    import duckdb

RULES = ("newest", "refuse")
# NULLS LAST: imported rows do not know when they were measured.
ONE_OF_EACH = """
    SELECT {columns}, arg_min(batch_id, pushed_at) AS batch_id,
        arg_min(source_id, pushed_at) AS source_id, min(pushed_at) AS pushed_at
    FROM stored GROUP BY {columns}
"""
RANKED = """
    SELECT *, row_number() OVER (
        PARTITION BY {key} ORDER BY started_at DESC NULLS LAST, pushed_at DESC, batch_id DESC
    ) AS rank FROM different
"""
VISITS_OF = """
    SELECT DISTINCT {columns} FROM visited SEMI JOIN kept USING ({key}, batch_id)
"""


@dataclass(frozen=True)
class Resolved:
    """One row a key.

    Attributes:
        rows: columns of a table and `batch_id`, `source_id`, `pushed_at`.
        repeated: rows that were there more than once, the same in every column; one of each is kept.
        replaced: rows that another one of their key was taken for.
    """

    rows: pa.Table
    repeated: int
    replaced: int


def resolve(stored: pa.Table, rule: str) -> Resolved:
    """One row of each key.

    Args:
        rule: where the rows of a key differ, `newest` takes the one measured last (then the one pushed
            last); `refuse` refuses.

    Raises:
        LutError: the rule is unknown, or it is `refuse` and rows of one key differ.
    """
    if rule not in RULES:
        raise LutError(f"--on-conflict {rule!r} is unknown; choose of {', '.join(RULES)}")
    columns = ", ".join(f'"{column.name}"' for column in COLUMNS)
    with _database(stored=stored) as database:
        database.execute(f"CREATE TABLE different AS {ONE_OF_EACH.format(columns=columns)}")
        database.execute(f"CREATE TABLE ranked AS {RANKED.format(key=', '.join(KEY))}")
        different = database.sql("SELECT count(*) FROM different").fetchall()[0][0]
        kept = database.sql("SELECT * EXCLUDE (rank) FROM ranked WHERE rank = 1").to_arrow_table()
        if rule == "refuse" and different > kept.num_rows:
            _refuse(database.sql("SELECT * FROM ranked WHERE rank = 2 LIMIT 1").to_arrow_table())
    return Resolved(kept, stored.num_rows - different, different - kept.num_rows)


def visits_of(kept: pa.Table, visited: pa.Table) -> pa.Table:
    """The visits of the rows that were kept: those of their key and batch.

    Raises:
        LutError: they do not have the columns of visits.
    """
    columns = ", ".join(f'"{column.name}"' for column in VISIT_COLUMNS)
    with _database(visited=visited, kept=kept) as database:
        return database.sql(VISITS_OF.format(columns=columns, key=", ".join(KEY))).to_arrow_table()


@contextlib.contextmanager
def _database(**tables: pa.Table) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that sees these tables; what it cannot do with them is one line."""
    import duckdb

    with duckdb.connect(":memory:") as database:
        database.execute("SET TimeZone = 'UTC'")
        for name, table in tables.items():
            database.register(name, table)
        try:
            yield database
        except duckdb.Error as error:
            line = " ".join(str(error).split())[:300]
            raise LutError(f"the store's rows cannot be made a table: {line}") from None


def _refuse(other: pa.Table) -> None:
    row = other.to_pylist()[0]
    key = ", ".join(f"{name} {row[name]}" for name in KEY)
    raise LutError(
        f"rows of the key {key} ({row['label']}) differ, one is of batch {row['batch_id']}; "
        "take the newest with --on-conflict newest"
    )
