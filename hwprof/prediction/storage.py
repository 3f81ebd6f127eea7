"""Storage: a predictor as a folder of `predictor.json` and `weights.safetensors`. No pickle.

A predictor may come from others: what is read is checked for its size, types, shapes and numbers before
anything is made of it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hwprof import __version__
from hwprof.errors import BackendUnavailable
from hwprof.prediction.additive import Additive
from hwprof.prediction.boosted import Boosted
from hwprof.prediction.encoding import Encoding
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.pairwise import Pairwise
from hwprof.prediction.predictor import Interval, Member, Origin, Predictor, Tried
from hwprof.prediction.regressor import Regressor
from hwprof.prediction.scores import Scores
from hwprof.prediction.transferred import Transferred

VERSION = 1
FILES = ("predictor.json", "weights.safetensors")
MAX_JSON, MAX_WEIGHTS = 16 << 20, 512 << 20
MAX_COLUMNS = 1 << 20
T = TypeVar("T")

_LOADERS: dict[str, Callable[[Encoding, dict[str, Any], dict[str, NDArray[Any]]], Member]] = {
    "composition": lambda e, f, a: Additive.load(e, f, a, "composition"),
    "additive": lambda e, f, a: Additive.load(e, f, a, "additive"),
    "pairwise": Pairwise.load,
    "priced": lambda e, f, a: Regressor.load(e, f, a, "priced"),
    "regressor": lambda e, f, a: Regressor.load(e, f, a, "regressor"),
    "boosted": Boosted.load,
    "transfer": Transferred.load,
}


def check_folder(folder: Path) -> None:
    """Raises PredictionError where a predictor cannot be saved there: something else stands there."""
    if os.path.isdir(folder):
        others = sorted(path.name for path in folder.iterdir() if path.name not in FILES)
        if others:
            raise PredictionError(
                f"{folder} holds other files ({others[0]}); give --out a new folder or a predictor's"
            )
    elif os.path.lexists(folder):
        raise PredictionError(f"{folder} is no folder; give --out a new one")


def save_predictor(predictor: Predictor, folder: Path) -> None:
    """Write the whole folder or nothing; a predictor that is there is replaced.

    Raises:
        PredictionError: the folder holds other files, or cannot be written.
        BackendUnavailable: safetensors is not installed.
    """
    write = _safetensors().save
    check_folder(folder)
    member = predictor.member
    arrays = {name: np.ascontiguousarray(array) for name, array in member.arrays().items()}
    text = json.dumps(
        {
            "version": VERSION,
            "hwprof_version": __version__,
            "encoding": predictor.encoding.to_dict(),
            "member": {"name": member.name, **member.facts()},
            "interval": asdict(predictor.interval),
            "origin": asdict(predictor.origin),
            "tried": [asdict(one) for one in predictor.tried],
            "test": None if predictor.test is None else asdict(predictor.test),
        },
        indent=1,
        allow_nan=False,
    )
    content = {"predictor.json": (text + "\n").encode(), "weights.safetensors": write(arrays)}
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        beside.mkdir(parents=True)
        for name, data in content.items():
            with (beside / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if os.path.isdir(folder):
            os.replace(folder, old)
        os.replace(beside, folder)
    except OSError as error:
        if os.path.isdir(old) and not os.path.exists(folder):
            os.replace(old, folder)
        raise PredictionError(f"{folder} could not be written: {error.strerror}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def load_predictor(folder: str | Path) -> Predictor:
    """
    Raises:
        PredictionError: files are missing, too large, damaged, of another version, or their numbers do
            not fit together.
        BackendUnavailable: safetensors is not installed.
    """
    folder = Path(folder)
    read = _safetensors().load
    text, weights = (
        _content(folder / name, most) for name, most in zip(FILES, (MAX_JSON, MAX_WEIGHTS), strict=True)
    )
    try:
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError):
        raise PredictionError(f"{folder / FILES[0]} is no JSON object; fit the predictor anew") from None
    if data.get("version") != VERSION:
        raise PredictionError(
            f"{folder} is a predictor of version {str(data.get('version'))[:20]}, this hwprof reads "
            f"{VERSION}; fit it anew: hwprof fit-predictor TABLE --out {folder}"
        )
    try:
        arrays = dict(read(weights))
        for array in arrays.values():
            if array.dtype.kind not in "fi" or not np.isfinite(array).all():
                raise ValueError("weights that are no finite numbers")
        encoding = _encoding(data["encoding"])
        facts = dict(data["member"])
        name = facts.pop("name")
        if name not in _LOADERS:
            raise ValueError(f"member {str(name)[:40]!r} is unknown")
        tried = tuple(
            Tried(**{**one, "scores": _optional(Scores, one["scores"])}) for one in data["tried"]
        )
        return Predictor(
            encoding=encoding,
            member=_LOADERS[name](encoding, facts, arrays),
            interval=_interval(data["interval"]),
            origin=_made(Origin, data["origin"]),
            tried=tried,
            test=_optional(Scores, data["test"]),
        )
    # safetensors raises its own error, a plain Exception, for bytes that are not its format.
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, _safetensor_error()) as error:
        told = " ".join(str(error).split())[:120]
        raise PredictionError(
            f"{folder} is no predictor, or damaged ({type(error).__name__}: {told}); fit it anew: "
            f"hwprof fit-predictor TABLE --out {folder}"
        ) from None


def _encoding(data: Mapping[str, Any]) -> Encoding:
    made = Encoding.from_dict(data)
    texts = [made.space, made.space_hash, *made.positions, *(c for row in made.choices for c in row)]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("names that are no text")
    if len(made.positions) != len(made.choices) or not all(made.widths):
        raise ValueError("positions without choices")
    if not 0 < made.columns <= MAX_COLUMNS:
        raise ValueError(f"{made.columns} columns")
    return made


def _interval(data: Mapping[str, Any]) -> Interval:
    made = _made(Interval, data)
    values = (made.level, made.factor, made.coverage)
    if not all(isinstance(v, int | float) and isfinite(v) for v in values) or made.factor < 1.0:
        raise ValueError("the interval")
    return made


def _made(kind: type[T], data: Mapping[str, Any]) -> T:
    """A dataclass of exactly these fields."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if set(data) != names:
        raise ValueError(f"fields of {kind.__name__}")
    return kind(**data)


def _optional(kind: type[T], data: Mapping[str, Any] | None) -> T | None:
    return None if data is None else _made(kind, data)


def _content(path: Path, most: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > most:
            raise PredictionError(f"{path} has {size} bytes, more than a predictor's {most}")
        return path.read_bytes()
    except OSError as error:
        raise PredictionError(
            f"{path} cannot be read ({error.strerror}); make a predictor: hwprof fit-predictor TABLE "
            f"--out {path.parent}"
        ) from None


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ModuleNotFoundError:
        raise BackendUnavailable(
            "predictors are kept as safetensors, which is not installed: pip install 'hwprof[search]'"
        ) from None
    return safetensors.numpy


def _safetensor_error() -> type[Exception]:
    import safetensors

    return safetensors.SafetensorError
