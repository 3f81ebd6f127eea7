"""Tables merged: shards of one build, many devices, many teams."""

from hwprof.lut.merging.conflicts import RULES, Conflict
from hwprof.lut.merging.merge import Merged, Source, merge

__all__ = ["RULES", "Conflict", "Merged", "Source", "merge"]
