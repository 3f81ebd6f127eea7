"""SQL over a table, through DuckDB."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa

from hwprof.errors import LutError
from hwprof.lut.table import Lut

if TYPE_CHECKING:
    import duckdb

SEALED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",  # no file, no network, no extension, no Python variable
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


def query(lut: Lut, sql: str) -> pa.Table:
    """Result of one SELECT over `lut` (the table) and `visits` (its visits).

    The connection is in memory and sealed: SQL cannot reach files, the network or the table's file.

    Raises:
        LutError: wrong SQL, more than one statement, no SELECT, or visits that cannot be read.
    """
    import duckdb

    connection = duckdb.connect(":memory:", config=SEALED)
    no_visits: LutError | None = None
    try:
        _check_statement(connection, sql)
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("lut", lut.table)
        if re.search(r"\bvisits\b", sql, re.IGNORECASE):
            try:
                connection.register("visits", lut.visits)
            except LutError as error:
                no_visits = error  # `visits` may also be meant as the column of that name
        connection.execute("SET lock_configuration = true")
        return _with_distinct_names(connection.sql(sql).to_arrow_table())
    except duckdb.CatalogException as error:
        raise no_visits or _in_one_line(error) from None
    except duckdb.Error as error:
        raise _in_one_line(error) from None
    finally:
        connection.close()


def _check_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    import duckdb

    kinds = [statement.type for statement in connection.extract_statements(sql)]
    if kinds != [duckdb.StatementType.SELECT]:
        found = ", ".join(kind.name for kind in kinds) or "none"
        raise LutError(f"SQL must be one SELECT statement, found {found}")


def _with_distinct_names(result: pa.Table) -> pa.Table:
    names = result.column_names
    if twice := [name for name in names if names.count(name) > 1]:
        raise LutError(f"SQL: two columns of the result are named {twice[0]}; rename one with AS")
    return result


def _in_one_line(error: Exception) -> LutError:
    """DuckDB's message without the line that points at a place above it."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip(" ^"))
    return LutError(f"SQL: {text}; tables are lut and visits, their columns are in docs/table.md")
