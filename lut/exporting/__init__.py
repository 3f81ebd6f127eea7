"""Tables written in the forms that other tools and published search code read."""

from hwprof.lut.exporting.export import FORMATS, Exported, export

__all__ = ["FORMATS", "Exported", "export"]
