"""Tables that others have published or measured, read into ours."""

from hwprof.lut.importing.formats import FORMATS, import_table
from hwprof.lut.importing.request import Request
from hwprof.lut.importing.s3nas import PUBLISHED, Imported, Origin, import_s3nas
from hwprof.lut.importing.writing import Outcome

__all__ = [
    "FORMATS", "PUBLISHED", "Imported", "Origin", "Outcome", "Request", "import_s3nas", "import_table",
]  # fmt: skip
