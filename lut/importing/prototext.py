"""The text form of a protobuf message as a dict: fields, nested messages, text and numbers."""

from __future__ import annotations

import re
from typing import Any

from hwprof.errors import LutError
from hwprof.lut.importing.guarded import shown

MAX_DEPTH = 16
MAX_FIELDS = 1_000_000

_SPACE = re.compile(r"(?:\s|#[^\n]*)*+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,100}")
_VALUE = re.compile(
    r'(?P<text>"(?:[^"\\\n]|\\.)*+")|(?P<number>-?[0-9]{1,18}(?:\.[0-9]{0,20})?(?:[eE][+-]?[0-9]{1,3})?)'
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]{0,100})"
)


def parse_prototext(text: str, where: str) -> dict[str, Any]:
    """The message. A field that stands several times is a list of its values.

    Raises:
        LutError: not of that form, nested deeper than 16, or more than 1,000,000 fields.
    """
    root: dict[str, Any] = {}
    stack = [root]
    place = fields = 0
    while (place := _skip(text, place)) < len(text):
        if text[place] == "}":
            stack.pop()
            if not stack:
                raise _error(text, place, where)
            place += 1
            continue
        name = _NAME.match(text, place)
        if name is None:
            raise _error(text, place, where)
        place = _skip(text, name.end())
        colon = text[place : place + 1] == ":"
        place = _skip(text, place + colon)
        fields += 1
        if fields > MAX_FIELDS:
            raise LutError(f"{where}: more than {MAX_FIELDS} fields; give a part of it")
        if text[place : place + 1] == "{":
            message: dict[str, Any] = {}
            _add(stack[-1], name[0], message)
            stack.append(message)
            place += 1
            if len(stack) > MAX_DEPTH:
                raise LutError(f"{where}: protobuf text nested deeper than {MAX_DEPTH} levels")
            continue
        value = _VALUE.match(text, place) if colon else None
        if value is None:
            raise _error(text, place, where)
        _add(stack[-1], name[0], _plain(value))
        place = value.end()
        if text[place : place + 1] in (",", ";"):
            place += 1
    if len(stack) != 1:
        raise _error(text, place, where)
    return root


def _skip(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _add(message: dict[str, Any], name: str, value: Any) -> None:
    if name not in message:
        message[name] = value
    elif isinstance(message[name], list):
        message[name].append(value)
    else:
        message[name] = [message[name], value]


def _plain(value: re.Match[str]) -> Any:
    if value["text"] is not None:
        return re.sub(r"\\(.)", r"\1", value["text"][1:-1])
    if value["number"] is not None:
        number = value["number"]
        return float(number) if any(mark in number for mark in ".eE") else int(number)
    return {"true": True, "false": False}.get(value["word"], value["word"])


def _error(text: str, place: int, where: str) -> LutError:
    line = text.count("\n", 0, place) + 1
    return LutError(f"{where}:{line}: no protobuf text: {shown(text[place : place + 40] or 'its end')}")
