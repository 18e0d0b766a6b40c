"""A fitted LightGBM model, for prediction only: the library without its Python package.

The package imports pandas, scikit-learn and pyarrow wherever they are installed: seconds of
start-up and some 150 MB that a server never uses. The functions here are those of LightGBM's
documented C interface (``c_api.h``), in the same shared library.
"""

from __future__ import annotations

import ctypes
import logging
import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

_FLOAT64: Final = 1
_ROW_MAJOR: Final = 1
_NORMAL: Final = 0
_RAW: Final = 1
_CONTRIBUTIONS: Final = 3
_SPLITS: Final = 0
_SAVE: Final = "LGBM_BoosterSaveModelToString"
_PARAMETERS: Final = b"num_threads=1"
_OBJECTIVE: Final = re.compile(r"^objective=(.*)$", re.MULTILINE)
_NAMES: Final = re.compile(r"^feature_names=(.*)$", re.MULTILINE)

_FEW_ROWS: Final = 16
"""Up to so many rows are predicted one by one, by a call that was set up when the model was read.
A call for many rows sets up LightGBM's whole configuration first, which takes 16 µs: the time of
some twenty single rows."""


class Booster:
    """A model out of its text form. Safe to share between threads.

    Raises:
        ValueError: The text is no LightGBM model.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._handle = ctypes.c_void_p()
        self._single: dict[int, ctypes.c_void_p] = {}
        names = _NAMES.search(text)
        if names is None:
            message = "not a LightGBM model: it names no features"
            raise ValueError(message)
        self.feature_names: Final = names[1].split(" ")
        objective = _OBJECTIVE.search(text)
        self.objective: Final = None if objective is None else objective[1]
        rounds = ctypes.c_int()
        _called(
            "LGBM_BoosterLoadModelFromString",
            ctypes.c_char_p(text.encode()), ctypes.byref(rounds), ctypes.byref(self._handle),
        )  # fmt: skip
        self.n_iterations: Final = rounds.value
        self._single = {kind: self._single_row(kind) for kind in (_NORMAL, _RAW)}

    @property
    def text(self) -> str:
        """The model in LightGBM's text form, as it was given."""
        return self._text

    def predict(self, X: Floats, *, n_iterations: int = -1, raw: bool = False) -> Floats:
        """Predict for rows of shape (n, n_features), by the first trees only if so asked.

        ``raw``: the sum of the trees, without the objective's own function on top.
        """
        kind = _RAW if raw else _NORMAL
        if n_iterations < 0 and len(X) <= _FEW_ROWS:
            return self._row_by_row(X, self._single[kind])
        return self._predicted(X, kind, n_iterations, per_row=1)

    def followed_by(self, other: Booster) -> Booster:
        """One model whose raw score is the sum of both: the trees of this one, then the other's."""
        merged = Booster(other.text)
        _called("LGBM_BoosterMerge", merged._handle, self._handle)
        size = ctypes.c_int64()
        arguments = (merged._handle, ctypes.c_int(0), ctypes.c_int(-1), ctypes.c_int(_SPLITS))
        empty = ctypes.create_string_buffer(1)
        _called(_SAVE, *arguments, ctypes.c_int64(1), ctypes.byref(size), empty)
        text = ctypes.create_string_buffer(size.value)
        _called(_SAVE, *arguments, size, ctypes.byref(size), text)
        return Booster(text.value.decode())

    def contributions(self, X: Floats) -> Floats:
        """TreeSHAP values (Lundberg 2018), shape (n, n_features + 1), the last the mean."""
        width = len(self.feature_names) + 1
        return self._predicted(X, _CONTRIBUTIONS, -1, per_row=width).reshape(len(X), width)

    def _rows(self, X: Floats) -> Floats:
        rows = np.ascontiguousarray(X, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.feature_names):
            message = f"X has shape {rows.shape}, not (n, {len(self.feature_names)})"
            raise ValueError(message)
        return rows

    def _single_row(self, kind: int) -> ctypes.c_void_p:
        """A configuration for rows one by one, freed with the model."""
        made = ctypes.c_void_p()
        _called(
            "LGBM_BoosterPredictForMatSingleRowFastInit",
            self._handle, ctypes.c_int(kind), ctypes.c_int(0), ctypes.c_int(-1),
            ctypes.c_int(_FLOAT64), ctypes.c_int32(len(self.feature_names)),
            ctypes.c_char_p(_PARAMETERS), ctypes.byref(made),
        )  # fmt: skip
        return made

    def _row_by_row(self, X: Floats, configuration: ctypes.c_void_p) -> Floats:
        rows = self._rows(X)
        out = np.empty(len(rows))
        written = ctypes.c_int64()
        predict = _predict_single_row()
        row, place = _address(rows), _address(out)
        for _ in range(len(rows)):
            if predict(configuration, row, written, place) != 0:
                raise ValueError(_last_error())
            row += rows.strides[0]
            place += out.itemsize
        return out

    def _predicted(self, X: Floats, kind: int, n_iterations: int, *, per_row: int) -> Floats:
        rows = self._rows(X)
        out = np.empty(len(rows) * per_row)
        written = ctypes.c_int64()
        _called(
            "LGBM_BoosterPredictForMat",
            self._handle, ctypes.c_void_p(_address(rows)), ctypes.c_int(_FLOAT64),
            ctypes.c_int32(rows.shape[0]), ctypes.c_int32(rows.shape[1]), ctypes.c_int(_ROW_MAJOR),
            ctypes.c_int(kind), ctypes.c_int(0), ctypes.c_int(n_iterations),
            ctypes.c_char_p(_PARAMETERS), ctypes.byref(written),
            ctypes.c_void_p(_address(out)),
        )  # fmt: skip
        if written.value != len(out):
            message = f"LightGBM wrote {written.value} values, not {len(out)}"
            raise RuntimeError(message)
        return out

    def __del__(self) -> None:
        for configuration in self._single.values():
            _library().LGBM_FastConfigFree(configuration)
        if self._handle.value:
            _library().LGBM_BoosterFree(self._handle)

    def __reduce__(self) -> tuple[type[Booster], tuple[str]]:
        return Booster, (self._text,)


def _address(array: Floats) -> int:
    # A tenth of the time of array.ctypes, which a decision would pay eight times.
    return int(array.__array_interface__["data"][0])


def _called(function: str, *arguments: Any) -> None:
    if getattr(_library(), function)(*arguments) != 0:
        raise ValueError(_last_error())


def _last_error() -> str:
    return f"not a LightGBM model: {_library().LGBM_GetLastError().decode()}"


@cache
def _predict_single_row() -> Any:
    """The C function that predicts one row, of 1 to 4 µs.

    It keeps Python's lock: given up for so short a call, another thread would take it, and may
    keep it for milliseconds.
    """
    function = ctypes.PyDLL(str(_library_file())).LGBM_BoosterPredictForMatSingleRowFast
    function.argtypes = [
        ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int64), ctypes.c_void_p,
    ]  # fmt: skip
    return function


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(_library_file()))
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    if "lightgbm" not in sys.modules:  # the package has its own way to report
        library.LGBM_RegisterLogCallback(_LOGGED)
    return library


def _library_file() -> Path:
    """The shared library that the lightgbm package brings, without the package."""
    spec = find_spec("lightgbm")
    if spec is None or not spec.submodule_search_locations:
        message = "No module named 'lightgbm'"
        raise ModuleNotFoundError(message, name="lightgbm")
    suffix = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
    folder = Path(next(iter(spec.submodule_search_locations)))
    places = [folder.parent, folder / "bin", folder / "lib"]
    found = next((p for p in (f / f"lib_lightgbm.{suffix}" for f in places) if p.is_file()), None)
    if found is None:
        message = f"lightgbm is installed without its library: none in {folder}"
        raise ModuleNotFoundError(message, name="lightgbm")
    return found


def _log_line(line: bytes) -> None:
    log.debug("%s", line.decode(errors="replace").rstrip())


# LightGBM would print its warnings. A constant: the library keeps its address.
_LOGGED: Final = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(_log_line)
