"""Storage: a predictor as a folder of `predictor.json` and `weights.safetensors`. No pickle.

A predictor may come from others: what is read is checked for its size, types, shapes and numbers before
anything is made of it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprof import __version__
from hwprof.errors import BackendUnavailable
from hwprof.prediction.additive import Additive
from hwprof.prediction.boosted import Boosted
from hwprof.prediction.encoding import Encoding
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.fields import interval_of, made_of, scores_or_none, tried_of
from hwprof.prediction.pairwise import Pairwise
from hwprof.prediction.predictor import Member, Origin, Predictor
from hwprof.prediction.regressor import Regressor
from hwprof.prediction.transferred import Transferred

VERSION = 1
FILES = ("predictor.json", "weights.safetensors")
MAX_JSON, MAX_WEIGHTS = 16 << 20, 512 << 20
MAX_COLUMNS = 1 << 20

_LOADERS: dict[str, Callable[[Encoding, dict[str, Any], dict[str, NDArray[Any]]], Member]] = {
    "composition": lambda e, f, a: Additive.load(e, f, a, "composition"),
    "additive": lambda e, f, a: Additive.load(e, f, a, "additive"),
    "pairwise": Pairwise.load,
    "priced": lambda e, f, a: Regressor.load(e, f, a, "priced"),
    "regressor": lambda e, f, a: Regressor.load(e, f, a, "regressor"),
    "boosted": Boosted.load,
    "transfer": Transferred.load,
}


def check_folder(folder: Path) -> Path:
    """Where a predictor of this folder is written: links are followed.

    Raises:
        PredictionError: it cannot be saved there: something else stands there, or it is the current
            folder, which would be removed under the shell that stands in it.
    """
    try:
        if not os.path.isdir(folder):
            if os.path.lexists(folder):
                raise PredictionError(f"{folder} is no folder; give --out a new one")
            return folder.resolve()
        place = folder.resolve()
        found = sorted(place.iterdir())
        current = Path.cwd()
    except (OSError, RuntimeError) as error:
        told = error.strerror if isinstance(error, OSError) else error
        raise PredictionError(f"{folder} cannot be read ({told}); give --out a new folder") from None
    others = [path.name for path in found if path.name not in FILES or not path.is_file()]
    if others:
        raise PredictionError(
            f"{folder} holds other files ({others[0]}); give --out a new folder or a predictor's"
        )
    if found and not _holds_predictor(place):
        raise PredictionError(
            f"{folder} holds no predictor, and its {found[0].name} would be lost; give --out a new "
            "folder or a predictor's"
        )
    if place == current:
        raise PredictionError(
            f"{folder} is the current folder, which cannot be replaced; give --out a folder in it"
        )
    return place


def _holds_predictor(folder: Path) -> bool:
    """Whether its `predictor.json` is one, of whatever version."""
    try:
        data = _json_object(_content(folder / FILES[0], MAX_JSON))
    except PredictionError:
        return False
    return data is not None and "version" in data


def _json_object(text: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def save_predictor(predictor: Predictor, folder: Path) -> None:
    """Write the whole folder or nothing; a predictor that is there is replaced, links are followed.

    Raises:
        PredictionError: as `check_folder`, or the folder cannot be written.
        BackendUnavailable: safetensors is not installed.
    """
    write = _safetensors().save
    folder = check_folder(folder)
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
    data = _json_object(text)
    if data is None:
        raise PredictionError(
            f"{folder / FILES[0]} is no JSON object; fit the predictor anew, into a new folder"
        )
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
        return Predictor(
            encoding=encoding,
            member=_LOADERS[name](encoding, facts, arrays),
            interval=interval_of(data["interval"]),
            origin=made_of(Origin, data["origin"]),
            tried=tuple(tried_of(one) for one in data["tried"]),
            test=scores_or_none(data["test"]),
        )
    # safetensors raises its own error, a plain Exception, for bytes that are not its format; a whole
    # number of JSON may be too large for a float.
    except (
        KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, _safetensor_error()
    ) as error:  # fmt: skip
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
