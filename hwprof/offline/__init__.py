"""Measuring on devices that cannot run hwprof: jobs go out as a folder, results come back as a file."""

from hwprof.offline.export import ExportReport, export_jobs
from hwprof.offline.options import ExportOptions
from hwprof.offline.results import ImportReport, import_results

__all__ = ["ExportOptions", "ExportReport", "ImportReport", "export_jobs", "import_results"]
