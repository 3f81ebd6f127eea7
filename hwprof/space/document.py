"""Reads a YAML file into `Field`s: values that know the file, line and field they stand in.

Only a plain subset of YAML is taken: mappings, lists and scalars. Anchors, aliases and tags are
refused, since they hide where a value comes from and let a small file grow without bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import yaml

from hwprof.errors import SpaceError

MAX_BYTES = 1 << 20
MAX_DEPTH = 16
MAX_VALUES = 50_000
MAX_INTEGER = 65536

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true/false",
    "null": "nothing",
    "str": "text",
    "timestamp": "a date",
}
_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,11})")


@dataclass(frozen=True)
class Field:
    """One value of the file. Its methods return it checked, or raise a `SpaceError` of one line with
    file, line, field, value and what is allowed."""

    file: str
    path: str
    node: yaml.Node

    @property
    def line(self) -> int:
        return int(self.node.start_mark.line) + 1

    def error(self, message: str) -> SpaceError:
        where = f"{self.path}: " if self.path else ""
        return SpaceError(f"{self.file}:{self.line}: {where}{message}")

    def integer(self, least: int = 1, most: int = MAX_INTEGER) -> int:
        wanted = f"a whole number from {least} to {most}"
        text = self._scalar(("int",), wanted)
        if not _INTEGER.fullmatch(text) or not least <= int(text) <= most:
            raise self.error(f"{shown(text)} is not {wanted}")
        return int(text)

    def number(self, least: float, most: float) -> float:
        wanted = f"a number from {least:g} to {most:g}"
        text = self._scalar(("int", "float"), wanted)
        try:
            value = float(text)
        except ValueError:
            raise self.error(f"{shown(text)} is not {wanted}") from None
        if not least <= value <= most:
            raise self.error(f"{shown(text)} is not {wanted}")
        return value

    def flag(self) -> bool:
        text = self._scalar(("bool",), "true or false")
        if text.lower() not in ("true", "false"):
            raise self.error(f"{shown(text)} is not true or false")
        return text.lower() == "true"

    def text(self, allowed: Sequence[str] = ()) -> str:
        wanted = f"one of {', '.join(allowed)}" if allowed else "text"
        text = self._scalar(("str",), wanted)
        if allowed and text not in allowed:
            raise self.error(f"{shown(text)} is unknown; {nearest(text, allowed)}choose {wanted}")
        return text

    def line_of_text(self, longest: int) -> str:
        """Text of one line, 1 to `longest` characters."""
        text = self.text()
        if not 1 <= len(text) <= longest or not text.isprintable() or text != text.strip():
            raise self.error(f"{shown(text)} is not a single line of 1 to {longest} characters")
        return text

    def items(self, most: int = 4096) -> list[Field]:
        """The elements of a list; a single value counts as a list of one."""
        if not isinstance(self.node, yaml.SequenceNode):
            return [self]
        if not 1 <= len(self.node.value) <= most:
            raise self.error(f"the list has {len(self.node.value)} elements; give 1 to {most}")
        return [
            Field(self.file, f"{self.path}[{number}]", node)
            for number, node in enumerate(self.node.value)
        ]

    def entries(self) -> list[tuple[Field, Field]]:
        """(key, value) of a mapping, in order; no key twice."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error(f"{self._found()}, wanted a mapping (`name: value` pairs)")
        seen: dict[str, int] = {}
        result = []
        for key_node, node in self.node.value:
            key = Field(self.file, self.path, key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise key.error("a key must be a single word or number")
            name = key_node.value
            if name in seen:
                raise key.error(f"{shown(name)} stands twice, first on line {seen[name]}")
            seen[name] = key.line
            if ":" in name and key_node.end_mark.index == node.start_mark.index:
                raise key.error(f"{shown(name)} needs a space after its colon")
            label = name if name.isprintable() else repr(name)
            path = f"{self.path}.{label}" if self.path else label
            result.append((Field(self.file, short(path), key_node), Field(self.file, short(path), node)))
        return result

    def section(self, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Field]:
        """The values of a mapping by name; unknown and missing names are errors."""
        known = (*required, *optional)
        found: dict[str, Field] = {}
        for key, value in self.entries():
            name = str(key.node.value)
            if name not in known:
                raise key.error(
                    f"unknown field; {nearest(name, known)}fields here are {', '.join(known)}"
                )
            found[name] = value
        for name in required:
            if name not in found:
                raise self.error(f"field {name!r} is missing; required are {', '.join(required)}")
        return found

    def _scalar(self, types: Sequence[str], wanted: str) -> str:
        node = self.node
        if not isinstance(node, yaml.ScalarNode) or node.tag.rpartition(":")[2] not in types:
            raise self.error(f"{self._found()}, wanted {wanted}")
        return str(node.value)

    def _found(self) -> str:
        if isinstance(self.node, yaml.MappingNode):
            return "got a mapping"
        if isinstance(self.node, yaml.SequenceNode):
            return "got a list"
        kind = _TYPES.get(self.node.tag.rpartition(":")[2], "something else")
        return f"got {shown(self.node.value)}, which is {kind}"


def distinct(values: Iterable[tuple[Field, object]]) -> None:
    """Refuse a value that is listed twice.

    Raises:
        SpaceError: names the second one.
    """
    seen = set()
    for field, value in values:
        if value in seen:
            raise field.error(f"{shown(value)} is listed twice")
        seen.add(value)


def read_document(path: Path) -> Field:
    """The top of a YAML file.

    Raises:
        SpaceError: the file cannot be read, is larger than 1 MiB, is not UTF-8 or not YAML, is
            nested deeper than 16 levels, has more than 50,000 values, or uses anchors, aliases or tags.
    """
    text = _read_text(path)
    try:
        _check_plain(path, text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise SpaceError(f"{path}{line}: not YAML: {short(error.problem or str(error))}") from None
    # PyYAML lets a ValueError or OverflowError through for escapes and versions out of range.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise SpaceError(f"{path}: not YAML: {short(' '.join(str(error).split()))}") from None
    if node is None:
        raise SpaceError(f"{path}:1: the file is empty; see docs/spaces.md for what belongs in it")
    return Field(str(path), "", node)


def shown(value: object) -> str:
    """A value as it is quoted in a message: one line, not too long."""
    return short(repr(value))


def short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def nearest(value: str, allowed: Sequence[str]) -> str:
    """ "did you mean 'relu'? ", or nothing where nothing is near."""
    near = get_close_matches(value, allowed, 1)
    return f"did you mean {near[0]!r}? " if near else ""


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise SpaceError(f"{path} is a folder; give a YAML file")
        if path.exists() and not path.is_file():
            raise SpaceError(f"{path} is not a regular file; give a YAML file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SpaceError(f"{path} cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise SpaceError(f"{path} is larger than {MAX_BYTES} bytes, too large for a search space")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SpaceError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None


def _check_plain(path: Path, text: str) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        assert event.start_mark is not None  # every event of a text has one
        where = f"{path}:{event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise SpaceError(
                f"{where}: anchors and aliases (& and *) are not taken; write the value out"
            )
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise SpaceError(f"{where}: tags (!) are not taken; leave {shown(tag)} out")
        if count > MAX_VALUES:
            raise SpaceError(f"{where}: more than {MAX_VALUES} values, too many for a search space")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise SpaceError(f"{where}: nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
