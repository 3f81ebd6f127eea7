"""Measures the models of plan.json on a device that has no hwprof: `python3 run.py` beside them.

The modules of this package are the parts of that file. They are plain Python 3.8, standard library and
numpy only, and import nothing of hwprof but each other: the export joins them in the order of `PARTS`,
so names are unique over all of them.
"""

PARTS = ("lines", "facts", "session", "worker", "main")
