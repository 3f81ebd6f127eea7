"""How to cite a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hwprof.environment import Environment
from hwprof.lut.reading import open_table
from hwprof.lut.trust.facts import facts_of
from hwprof.text import visible

NAMED = 3
HASH_DIGITS = 12
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#",
    "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


@dataclass(frozen=True)
class Citation:
    """What a table is cited by. `devices` are what the rows are numbers of; `licence` is None where the
    table does not say."""

    title: str
    authors: tuple[str, ...]
    year: int
    devices: tuple[str, ...]
    rows: int
    content_hash: str
    licence: str | None
    hwprof_version: str

    def text(self) -> str:
        """One line."""
        who = f"{', '.join(self.authors)} ({self.year}). {self.title}" if self.authors else (
            f"{self.title} ({self.year})"
        )  # fmt: skip
        return visible(f"{who} [Data set]. {self._about()}. Content hash {self.content_hash}.")

    def bibtex(self) -> str:
        """A BibTeX entry; what LaTeX would take as commands is escaped."""
        fields = {
            "title": f"{{{_latex(self.title)}}}",
            "author": " and ".join(f"{{{_latex(name)}}}" for name in self.authors),
            "year": str(self.year),
            "howpublished": "hwprof latency table",
            "note": _latex(f"{self._about()}. Content hash {self.content_hash}"),
        }
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@misc{{hwprof-{self.content_hash[:HASH_DIGITS]},", *lines, "}"])

    def summary(self) -> dict[str, Any]:
        """JSON-able, with both spellings."""
        return {**asdict(self), "text": self.text(), "bibtex": self.bibtex()}

    def _about(self) -> str:
        count = f"{self.rows} row{'s' * (self.rows != 1)}"
        licence = self.licence or "no licence given"
        return f"{count} on {_listed(self.devices)}; hwprof {self.hwprof_version}; {licence}"


def cite(path: str | os.PathLike[str]) -> Citation:
    """The citation of a table. Without a title it is named after its spaces.

    Raises:
        LutError: the table cannot be read.
    """
    stored = open_table(Path(path))
    facts, told = facts_of(stored), stored.metadata
    found = [Environment.from_dict(each).identity for each in told["environments"].values()]
    devices = dict.fromkeys(str(identity.get("device") or "an unknown device") for identity in found)
    spaces = _listed(told["spaces"]) if told["spaces"] else "neural network ops"
    return Citation(
        title=facts["title"] or f"Latency table of {spaces}",
        authors=tuple(facts["authors"] or ()),
        year=datetime.fromisoformat(told["created_at"]).year,
        devices=tuple(devices),
        rows=stored.num_rows,
        content_hash=told["content_hash"],
        licence=told["licence"],
        hwprof_version=told["hwprof_version"],
    )


def _listed(names: Sequence[str]) -> str:
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    words = [*names[:NAMED], *more]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words) or "no device"


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in visible(text))
