"""Reading strangers' files: bounded in bytes, depth, values and line length, one line when refused.

What comes out is plain: dicts, lists, text, numbers. No tag or alias makes anything else.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import yaml

from hwprof.errors import LutError

MAX_BYTES = 64 << 20
MAX_STREAM_BYTES = 1 << 30
MAX_LINE_BYTES = 16 << 20
MAX_DEPTH = 64
MAX_JSON_VALUES = 4_000_000
# Of a signed number of 64 bits.
MAX_DIGITS = 20
# PyYAML reads about 50,000 events a second without libyaml.
MAX_YAML_BYTES = 4 << 20
MAX_YAML_VALUES = 200_000
MAX_CSV_COLUMNS = 1000
MAX_CSV_LINE_BYTES = 1 << 20
SHOWN_CHARACTERS = 160

# A string runs to its quote or, cut off, to the end: possessive, so that no start is tried twice.
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{\]},]', re.DOTALL)
_YAML_NUMBER = re.compile(
    r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?"
)
_YAML_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}


def shown(text: object) -> str:
    """Text of a stranger's file as it stands in a message or a cell: quoted, one line, not long."""
    words = str(text)
    return repr(words if len(words) <= SHOWN_CHARACTERS else f"{words[:SHOWN_CHARACTERS]}...")


def plain(name: str) -> str:
    """A name as it is where it is short and printable, else as `shown`."""
    fine = name.isprintable() and name == name.strip() and 0 < len(name) <= SHOWN_CHARACTERS
    return name if fine else shown(name)


def read_bytes(path: Path, most: int = MAX_BYTES) -> bytes:
    """A regular file's content.

    Raises:
        LutError: missing, not a regular file, unreadable, or more than `most` bytes.
    """
    with _opened(path) as file:
        try:
            data = file.read(most + 1)
        except OSError as error:
            raise LutError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > most:
        raise LutError(f"{path} is larger than {most} bytes; give a part of it")
    return data


def read_text(path: Path, most: int = MAX_BYTES) -> str:
    """A regular file's content as UTF-8.

    Raises:
        LutError: as `read_bytes`, or not UTF-8.
    """
    return _decoded(read_bytes(path, most), str(path))


def text_lines(path: Path, longest: int = MAX_LINE_BYTES, most: int = MAX_STREAM_BYTES) -> Iterator[str]:
    """The lines of a regular UTF-8 file with their ends, one in memory at a time.

    Raises:
        LutError: as `read_text`, or a line of more than `longest` bytes.
    """
    read = 0
    with _opened(path) as file:
        for number in itertools.count(1):
            try:
                line = file.readline(longest + 1)
            except OSError as error:
                raise LutError(f"{path} cannot be read: {error.strerror or error}") from None
            if not line:
                return
            read += len(line)
            if len(line) > longest:
                raise LutError(f"{path}:{number}: a line of more than {longest} bytes")
            if read > most:
                raise LutError(f"{path} is larger than {most} bytes; give a part of it")
            yield _decoded(line, f"{path}:{number}")


def parse_json(text: str, where: str) -> Any:
    """The value of a JSON text. Nesting and number of values are counted before anything is built.
    Whole numbers beyond 64 bits are doubles, and numbers beyond a double are infinite.

    Raises:
        LutError: no JSON, nested deeper than 64, more than 4,000,000 values, NaN or Infinity, or a name
            twice in one object.
    """
    depth = 0
    for count, token in enumerate(_JSON_TOKEN.finditer(text), start=1):
        first = text[token.start()]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise LutError(f"{where}: JSON nested deeper than {MAX_DEPTH} levels")
        elif first in "]}":
            depth -= 1
        if count > MAX_JSON_VALUES:
            raise LutError(f"{where}: more than {MAX_JSON_VALUES} JSON values; give a part of it")
    try:
        return json.loads(text, parse_constant=_no_constant, parse_int=_whole, object_pairs_hook=_object)
    except LutError as error:
        raise LutError(f"{where}: {error}") from None
    except ValueError as error:
        raise LutError(f"{where}: no JSON: {str(error).splitlines()[0]}") from None


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, value) of each line that is not blank, one in memory at a time.

    Raises:
        LutError: as `text_lines` and `parse_json`.
    """
    for number, line in enumerate(text_lines(path), start=1):
        if line.strip():
            yield number, parse_json(line, f"{path}:{number}")


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text: mappings, lists, numbers, true, false, null and text.

    Raises:
        LutError: no YAML, an anchor, alias or tag, nested deeper than 64, more than 200,000 values,
            more than one document, a key twice, or a key that is no scalar.
    """
    builder = _YamlBuilder(where)
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise LutError(f"{where}{line}: no YAML: {_one_line(error.problem or str(error))}") from None
    # PyYAML lets a ValueError or OverflowError through for escapes and versions out of range.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise LutError(f"{where}: no YAML: {_one_line(str(error))}") from None
    return builder.root


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each line of a CSV file that is not blank.

    Raises:
        LutError: as `text_lines`; more than 1,000 columns, a line of more than 1 MiB, a cell of more
            than 128 KiB, or a quote that its line does not close.
    """
    lines = text_lines(path, longest=MAX_CSV_LINE_BYTES, most=MAX_BYTES)
    for number, line in enumerate(lines, start=1):
        # Counted before the line is split, so that no absurd width is built.
        if line.count(",") >= MAX_CSV_COLUMNS:
            raise LutError(f"{path}:{number}: more than {MAX_CSV_COLUMNS} columns")
        try:
            cells = next(csv.reader([line], strict=True), [])
        except csv.Error as error:
            raise LutError(f"{path}:{number}: no CSV: {error}") from None
        if cells:
            yield number, cells


class _YamlBuilder:
    """Builds the value from parser events; nothing of PyYAML's constructors is used."""

    def __init__(self, where: str) -> None:
        self.root: Any = None
        self._where = where
        self._open: list[tuple[Any, list[str]]] = []  # a collection and, of a mapping, its pending key
        self._count = 0
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._error(line, "more than one document")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise self._error(line, "anchors and aliases (& and *) are not taken")
        if getattr(event, "tag", None) is not None:
            raise self._error(line, f"tags (!) are not taken, got {shown(getattr(event, 'tag', ''))}")
        if isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
        elif isinstance(event, yaml.ScalarEvent):
            self._add(line, _yaml_scalar(event), str(event.value))
        elif isinstance(event, yaml.CollectionStartEvent):
            made: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._add(line, made, None)
            self._open.append((made, []))
            if len(self._open) > MAX_DEPTH:
                raise self._error(line, f"nested deeper than {MAX_DEPTH} levels")

    def _add(self, line: int, value: Any, text: str | None) -> None:
        """`text` is what a scalar says, None of a collection."""
        self._count += 1
        if self._count > MAX_YAML_VALUES:
            raise self._error(line, f"more than {MAX_YAML_VALUES} values; give a part of it")
        if not self._open:
            self.root = value
            return
        into, pending = self._open[-1]
        if isinstance(into, list):
            into.append(value)
        elif pending:
            into[pending.pop()] = value
        elif text is None:
            raise self._error(line, "a key must be a single word or number")
        elif text in into:
            raise self._error(line, f"{shown(text)} stands twice")
        else:
            pending.append(text)

    def _error(self, line: int, message: str) -> LutError:
        return LutError(f"{self._where}:{line}: YAML: {message}")


def _yaml_scalar(event: yaml.ScalarEvent) -> Any:
    text = str(event.value)
    if not event.implicit[0]:
        return text
    if text.lower() in _YAML_WORDS:
        return _YAML_WORDS[text.lower()]
    if _YAML_NUMBER.fullmatch(text):
        return float(text) if any(mark in text for mark in ".eE") else int(text)
    return text


def _opened(path: Path) -> IO[bytes]:
    try:
        if path.is_dir():
            raise LutError(f"{path} is a folder; give a file")
        if path.exists() and not path.is_file():
            raise LutError(f"{path} is not a regular file")
        return path.open("rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LutError(f"{path} cannot be read: {reason}") from None


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LutError(f"{where}: not UTF-8 text (byte {error.start})") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise LutError(f"JSON: the name {shown(name)} stands twice in one object")
        made[name] = value
    return made


def _whole(digits: str) -> int | float:
    """A double cannot overflow in what is computed with it, as an int of hundreds of digits does."""
    number = int(digits) if len(digits) <= MAX_DIGITS else None
    return number if number is not None and -(2**63) <= number < 2**63 else float(digits)


def _no_constant(name: str) -> Any:
    raise LutError(f"JSON: {name} is no number")


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= SHOWN_CHARACTERS else f"{words[:SHOWN_CHARACTERS]}..."
