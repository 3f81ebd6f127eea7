"""Tables of strangers for `fuzz_tables.py` and the tests: taken apart, changed in one place or a few,
and put together so that everything else fits. A change of raw bytes is stopped by a checksum; one of
these gets as far as the decoder it is meant for.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hwprof.lut.guard.thrift import (
    BINARY,
    DOUBLE,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    Field,
    Items,
    Struct,
    read_struct,
    write_struct,
)

MAGIC = b"PAR1"
SCHEMA, NUM_ROWS, ROW_GROUPS, KEY_VALUES = 2, 3, 4, 5
COLUMNS, GROUP_ROWS = 1, 3
META, PATH_OFFSET = 3, 2
NUM_VALUES, UNCOMPRESSED, COMPRESSED, DATA_OFFSET, DICTIONARY_OFFSET = 5, 6, 7, 9, 11
PAGE_TYPE, PAGE_UNCOMPRESSED, PAGE_COMPRESSED, PAGE_CRC = 1, 2, 3, 4
DATA_PAGE, DICTIONARY_PAGE = 0, 2
NUMBERS = (
    0, 1, -1, 2, 3, 7, 8, 127, 128, 255, 4096, 65535, 65536, 1 << 20, (1 << 31) - 1, 1 << 31, -(1 << 31),
    1 << 32, 1 << 40, (1 << 63) - 1, -(1 << 63),
)  # fmt: skip
TEXTS = (
    b"", b"\0", b"\x1b[2J", b"\xff\xfe", b"../../etc/passwd", b"op_id", b"latency_ms", b"x" * 5000,
    "\u202e\u2066".encode(), b"<script>alert(1)</script>", b"%s%n{}", b"hwprof.licence",
)  # fmt: skip
JSONS = (
    b"", b"{", b"null", b"[]", b"{}", b"0", b"-1", b'"x"', b"NaN", b"Infinity", b"1e999", b"9" * 5000,
    b"[" * 100_000, b'{"a":' * 5000, b'"\\ud800"', b'"\\u001b[2J"', b'[{"scope": {}}]', b"true", b"2",
    b'{"x": {"identity": {"device": 3}, "conditions": {}}}', b'"0001-01-01T00:00:00+23:59"',
)  # fmt: skip

BLOCK = '{"kind":"mbconv","out_channels":16,"shape":[1,16,16,16],"mix":[[3,96]]'
STRANGE_TEXTS = {
    "": (
        "", " ", "x" * 5000, "y" * 500, "nan", "-1", "../../etc/passwd", "\u202e", "=cmd|' /C calc'!A0",
        "%s{}",
    ),
    "op_json": (
        "[" * 100_000, '{"a":' * 100_000, "null", "[1,2]", "[null]", "{}", '"x"', "NaN", "9" * 5000,
        f"{BLOCK}}}", f'{BLOCK},"stride":0}}', f'{BLOCK},"stride":-1}}', f'{BLOCK},"groups":1e308}}',
        f'{BLOCK},"se_channels":{"9" * 4000}}}', f'{BLOCK},"mix":[[0,0]]}}',
        f'{BLOCK},"mix":[[3,1e9]]}}', f'{BLOCK},"shape":[1,1000000000000,7,7]}}',
        f'{BLOCK},"shape":[]}}', f'{BLOCK},"shape":"abcd"}}',
        f'{BLOCK},"activation":["relu"]}}', f'{BLOCK},"kind":["mbconv"]}}', f'{BLOCK},"dtype":null}}',
        f"[{BLOCK}}},3]", f"[{BLOCK}}},{'[' * 5000}]", f'{BLOCK},"kind":"head","mix":[]}}',
        '{"kind":"subgraph","content":"../../etc/passwd","out_side":[1,1],"shape":[1,1,1,1],'
        '"out_channels":1}',
    ),
    "op_id": ("0" * 20, "g" * 20, "0" * 19, "A" * 20),
    "kernel_mix": ("3:64,", "a:b", "3", "9" * 400 + ":1", "3:-1", "3:64,3:64", ":", "0:0"),
    "granularity": ("pair", "network", "overhead", "op"), "cache": ("warm", "in_chain", "hot"),
    "state": ("converged", "imported", "failed", "great"), "kind": ("head", "mbconv", "chain", "fc"),
    "dtype": ("int8", "float64", "complex"), "target": ("cuda", "llvm -mcpu=x"), "backend": ("replay",),
}  # fmt: skip


@dataclass(frozen=True)
class Page:
    """A page of a column: its header and its bytes as they are stored."""

    header: Struct
    body: bytes


@dataclass
class Parts:
    """A Parquet file in parts: the footer, and the pages of each column of each row group in order."""

    footer: Struct
    columns: list[list[Page]] = field(default_factory=list)


def take_apart(data: bytes) -> Parts:
    """The parts of a whole file."""
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    footer, _ = read_struct(data[end:-8])
    parts = Parts(footer)
    for group in footer[ROW_GROUPS].value.values:
        for chunk in group[COLUMNS].value.values:
            meta = chunk[META].value
            at = meta.get(DICTIONARY_OFFSET, meta[DATA_OFFSET]).value
            stop, pages = at + meta[COMPRESSED].value, []
            while at < stop:
                header, at = read_struct(data, at)
                pages.append(Page(header, data[at : at + header[PAGE_COMPRESSED].value]))
                at += header[PAGE_COMPRESSED].value
            parts.columns.append(pages)
    return parts


def put_together(parts: Parts) -> bytes:
    """A file of these parts, its places and sizes as they are now; a footer that says too little for
    that is left as it is."""
    out = bytearray(MAGIC)
    columns = iter(parts.columns)
    groups = []
    try:
        for group in parts.footer[ROW_GROUPS].value.values:
            chunks = [_placed(chunk, next(columns, []), out) for chunk in group[COLUMNS].value.values]
            groups.append({**group, COLUMNS: Field(LIST, Items(STRUCT, tuple(chunks)))})
        fields = {**parts.footer, ROW_GROUPS: Field(LIST, Items(STRUCT, tuple(groups)))}
    except (KeyError, AttributeError, TypeError):
        fields = parts.footer
    return bytes(out) + end_of(fields)


def _placed(chunk: Struct, pages: list[Page], out: bytearray) -> Struct:
    """The facts of a column whose pages are written now."""
    meta, start, data_at, dictionary_at = dict(chunk[META].value), len(out), None, None
    for page in pages:
        if page.header.get(PAGE_TYPE, Field(I32, 0)).value == DICTIONARY_PAGE:
            dictionary_at = len(out)
        elif data_at is None:
            data_at = len(out)
        out += write_struct(page.header) + page.body
    places = {DATA_OFFSET: data_at or start, DICTIONARY_OFFSET: dictionary_at}
    for number, place in {**places, COMPRESSED: len(out) - start}.items():
        if number in meta and place is not None:
            meta[number] = Field(I64, place)
    return {**chunk, META: Field(STRUCT, meta)}


def end_of(footer: Struct | bytes) -> bytes:
    """The end of a file with this footer."""
    data = footer if isinstance(footer, bytes) else write_struct(footer)
    return data + len(data).to_bytes(4, "little") + MAGIC


def with_pages(parts: Parts, number: int, pages: list[Page]) -> Parts:
    """The file with other pages in one column."""
    columns = list(parts.columns)
    columns[number] = pages
    return Parts(parts.footer, columns)


def with_metadata(parts: Parts, key: str, value: bytes | None) -> Parts:
    """The file with another value of a `hwprof.` key, or without it."""
    name = f"hwprof.{key}".encode()
    pairs = [pair for pair in parts.footer[KEY_VALUES].value.values if pair[1].value != name]
    if value is not None:
        pairs.append({1: Field(BINARY, name), 2: Field(BINARY, value)})
    fields = {**parts.footer, KEY_VALUES: Field(LIST, Items(STRUCT, tuple(pairs)))}
    return Parts(fields, parts.columns)


def variants(path: Path) -> list[bytes]:
    """A small file in the encodings that other writers use: plain and dictionary, one row group and
    several, version 1 and 2 of data pages, with and without checksums."""
    table, metadata = pq.read_table(path), pq.read_metadata(path).metadata
    told = {key.decode(): value for key, value in metadata.items() if key.startswith(b"hwprof.")}
    options: list[dict[str, Any]] = [
        {"compression": "none", "use_dictionary": False, "column_encoding": "PLAIN"},
        {"compression": "none", "use_dictionary": True},
        {"compression": "none", "data_page_version": "2.0", "use_dictionary": True},
        {"compression": "snappy", "use_dictionary": True, "store_schema": True},
        {"compression": "gzip", "use_dictionary": False, "data_page_version": "2.0"},
        {"compression": "none", "use_byte_stream_split": numbers(table), "use_dictionary": False},
    ]
    made = [path.read_bytes()]
    for number, chosen in enumerate(options):
        file = BytesIO()
        chosen = {"store_schema": False, "write_page_checksum": number % 2 == 0, **chosen}
        with pq.ParquetWriter(file, table.schema, **chosen) as writer:
            writer.write_table(table, row_group_size=max(1, table.num_rows // (1 + number % 3)))
            writer.add_key_value_metadata(told)
        made.append(file.getvalue())
    return made


def numbers(table: pa.Table) -> list[str]:
    """Names of the columns of floating-point numbers."""
    return [item.name for item in table.schema if pa.types.is_floating(item.type)]


def mutate(parts: Parts, random: Random) -> bytes:
    """The file with one to three changes in its structure."""
    tail: Callable[[bytes], bytes] = bytes
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        change = random.choice(CHANGES)
        if change is _tail:
            tail = _tail(random)
        else:
            # An earlier change may have left nothing of the kind.
            with contextlib.suppress(KeyError, AttributeError, TypeError):
                parts = change(parts, random)
    return tail(put_together(parts))


def with_strange_values(data: bytes, random: Random) -> bytes:
    """A file that is sound, with values that no table has."""
    file = pq.ParquetFile(BytesIO(data))
    table, told = file.read(), file.metadata.metadata
    # Python cannot hold all that is put into a column of dates: none is read a second time.
    for place in random.sample(range(table.num_columns), random.choice((1, 1, 2, 5))):
        item = table.schema.field(place)
        values = table.column(place).to_pylist()
        strange = _strange(item, random)
        rows = range(len(values)) if random.random() < 0.2 else [random.randrange(len(values))]
        for row in rows:
            values[row] = strange
        item = item.with_nullable(True)
        table = table.set_column(place, item, pa.array(values, item.type))
    out = BytesIO()
    with pq.ParquetWriter(out, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({key.decode(): value for key, value in told.items()})
    return out.getvalue()


def _strange(item: pa.Field, random: Random) -> Any:
    if random.random() < 0.1:
        return None
    if pa.types.is_string(item.type):
        return random.choice(STRANGE_TEXTS.get(item.name, ()) + STRANGE_TEXTS[""])
    if pa.types.is_floating(item.type):
        return random.choice((0.0, -0.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e-45, 3e38))
    if pa.types.is_integer(item.type):
        return random.choice((0, -1, 1, (1 << 31) - 1, -(1 << 31)))
    if pa.types.is_timestamp(item.type):
        return random.choice((0, -(1 << 40), 1 << 45, 1 << 47, 1 << 60))
    return random.random() < 0.5


def _footer(parts: Parts, random: Random) -> Parts:
    return Parts(_changed(parts.footer, random), parts.columns)


def _metadata(parts: Parts, random: Random) -> Parts:
    pairs = parts.footer.get(KEY_VALUES, Field(LIST, Items(STRUCT, ()))).value.values
    known = [
        pair[1].value for pair in pairs if pair.get(1, Field(BINARY, b"")).value.startswith(b"hwprof.")
    ]
    if not known:
        return parts
    key = random.choice(known).decode(errors="replace").removeprefix("hwprof.")
    old = next((pair[2].value for pair in pairs if pair[1].value == f"hwprof.{key}".encode()), b"null")
    value = random.choice((random.choice(JSONS), _changed_json(old, random), None))
    return with_metadata(parts, key, value)


def _changed_json(data: bytes, random: Random) -> bytes:
    """A JSON value with another value somewhere in it."""
    strange = (None, True, -1, 1e300, "", "\x1b[31m", "x" * 5000, [], {}, [[]], {"a": None}, "9" * 5000)

    def change(value: Any) -> Any:
        if isinstance(value, dict) and value and random.random() < 0.8:
            key = random.choice(sorted(value))
            name = key if random.random() < 0.9 else random.choice(("", "\x1b", "device"))
            return {**{k: v for k, v in value.items() if k != key}, name: change(value[key])}
        if isinstance(value, list) and value and random.random() < 0.8:
            place = random.randrange(len(value))
            return [*value[:place], change(value[place]), *value[place + 1 :]]
        return random.choice(strange)

    try:
        return json.dumps(change(json.loads(data))).encode()
    except (ValueError, RecursionError):
        return random.choice(JSONS)


def _page_header(parts: Parts, random: Random) -> Parts:
    return _with_page(parts, random, lambda page: replace(page, header=_changed(page.header, random)))


def _page_body(parts: Parts, random: Random) -> Parts:
    """Other bytes in a page, its checksum made to fit."""

    def change(page: Page) -> Page:
        body = changed_bytes(page.body, random)
        header = dict(page.header)
        if PAGE_CRC in header:
            header[PAGE_CRC] = Field(I32, signed(zlib.crc32(body)))
        if random.random() < 0.8:
            header[PAGE_COMPRESSED] = Field(I32, len(body))
        if len(body) != len(page.body) and random.random() < 0.8:
            header[PAGE_UNCOMPRESSED] = Field(I32, len(body))
        return Page(header, body)

    return _with_page(parts, random, change)


def _pages(parts: Parts, random: Random) -> Parts:
    """Pages of a column twice, gone, in another order, or those of another column."""
    if not parts.columns:
        return parts
    number = random.randrange(len(parts.columns))
    pages = list(parts.columns[number])
    other = list(random.choice(parts.columns))
    return with_pages(
        parts, number, random.choice((pages + pages, pages[1:], pages[::-1], other, pages + other))
    )


def _tail(random: Random) -> Callable[[bytes], bytes]:
    """Bytes at the end cut off or added, or another length of the footer."""
    cut, length = random.randint(1, 40), random.choice(NUMBERS) & 0xFFFFFFFF
    return random.choice((
        lambda data: data[:-cut], lambda data: data + b"\0" * cut, lambda data: data[cut:],
        lambda data: data[:-8] + length.to_bytes(4, "little") + MAGIC,
    ))  # fmt: skip


def _with_page(parts: Parts, random: Random, change: Callable[[Page], Page]) -> Parts:
    filled = [number for number, pages in enumerate(parts.columns) if pages]
    if not filled:
        return parts
    number = random.choice(filled)
    pages = list(parts.columns[number])
    place = random.randrange(len(pages))
    pages[place] = change(pages[place])
    return with_pages(parts, number, pages)


def _changed(struct: Struct, random: Random) -> Struct:
    """A struct with one field changed, at any depth, or one gone, doubled or of another type."""
    if not struct:
        return struct
    number = random.choice(sorted(struct))
    kind = random.random()
    if kind < 0.05:
        return {key: value for key, value in struct.items() if key != number}
    if kind < 0.08:
        return dict(sorted({**struct, random.randint(1, 20): struct[number]}.items()))
    if kind < 0.1:
        return {**struct, number: Field(random.choice((I16, I32, I64)), random.choice(NUMBERS))}
    return {**struct, number: _changed_field(struct[number], random)}


def _changed_field(old: Field, random: Random) -> Field:
    if old.type == STRUCT:
        return Field(STRUCT, _changed(old.value, random))
    if old.type == LIST:
        return Field(LIST, Items(old.value.type, _changed_items(old.value, random)))
    if old.type == BINARY:
        text = changed_bytes(old.value, random) if random.random() < 0.5 else random.choice(TEXTS)
        return Field(BINARY, text)
    if old.type in (I16, I32, I64):
        near = old.value + random.choice((-8, -1, 1, 8))
        return Field(old.type, random.choice((near, random.choice(NUMBERS))))
    if old.type == DOUBLE:
        return Field(DOUBLE, random.choice((0.0, float("nan"), float("inf"), -1e308)))
    return Field(3 - old.type, old.value)  # a flag: true for false


def _changed_items(items: Items, random: Random) -> tuple[Any, ...]:
    values = list(items.values)
    if not values:
        return ()
    place = random.randrange(len(values))
    kind = random.random()
    if kind < 0.05:
        del values[place]
    elif kind < 0.1:
        values.insert(random.randrange(len(values)), values[place])
    elif kind < 0.12:
        values = values * random.choice((2, 50))
    elif kind < 0.15:
        random.shuffle(values)
    else:
        values[place] = _changed_field(Field(items.type, values[place]), random).value
    return tuple(values)


CHANGES = (_footer, _footer, _metadata, _page_header, _page_header, *[_page_body] * 4, _pages, _tail)


def changed_bytes(data: bytes, random: Random) -> bytes:
    """Some bytes flipped, gone, repeated, or replaced by telling ones."""
    made = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        place = random.randrange(len(made)) if made else 0
        match random.randrange(5):
            case 0 if made:
                made[place] ^= 1 << random.randrange(8)
            case 1 if made:
                made[place] = random.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del made[place : place + random.randint(1, 16)]
            case 3:
                made[place:place] = made[place : place + random.randint(1, 16)]
            case 4:
                made[place : place + 4] = (random.choice(NUMBERS) & 0xFFFFFFFF).to_bytes(4, "little")
    return bytes(made)


def signed(crc: int) -> int:
    """A checksum as the signed number that a page header holds."""
    return crc - (1 << 32) if crc >= 1 << 31 else crc
