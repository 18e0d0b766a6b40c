"""A policy bundle: the folder with everything that predicts, verified on every load.

LightGBM text and JSON files, and ``manifest.json`` with the sha256 of each. No pickle: loading
a bundle runs no code from it. A bundle is written to a temporary sibling folder, flushed to
disk, then renamed: a reader finds a whole bundle or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from forethought.models.demand import DemandModel
from forethought.models.errors import BundleError
from forethought.models.features import FEATURE_NAMES, FEATURE_VERSION
from forethought.models.foresight import Foresight, foresee
from forethought.models.outcome import OutcomeModel
from forethought.models.predictability import PredictabilityModel

SCHEMA: Final = 2
"""Changes whenever the files of a bundle change in number or form."""

MANIFEST: Final = "manifest.json"
FILES: Final = frozenset(
    {
        "predictability.json",
        "predictability.txt",
        "outcome.json",
        "outcome_quality.txt",
        "outcome_tokens.txt",
        "outcome_latency_ms.txt",
        "demand.json",
    }
)

_RETRAIN = "Fit a new one with `forethought train`, or use the one that ships with Forethought."


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBundle:
    """The predictors of one policy. Make one with ``build`` or ``load``.

    ``version`` is a short hash of all contents, so equal versions predict equally.
    ``manifest["info"]`` is what the maker noted: data, figures, dates.
    """

    version: str
    feature_version: str
    predictability: PredictabilityModel
    outcome: OutcomeModel
    demand: DemandModel
    manifest: Mapping[str, Any]

    @classmethod
    def build(
        cls,
        *,
        predictability: PredictabilityModel,
        outcome: OutcomeModel,
        demand: DemandModel,
        info: Mapping[str, Any] | None = None,
    ) -> PolicyBundle:
        """Bundle fitted models; ``info`` is any JSON-able note about their making."""
        texts = _texts(predictability, outcome, demand)
        manifest = {
            "schema": SCHEMA,
            "feature_version": FEATURE_VERSION,
            "feature_names": list(FEATURE_NAMES),
            "files": {name: _sha256(text.encode()) for name, text in sorted(texts.items())},
            "info": json.loads(json.dumps(dict(info or {}))),
        }
        manifest["version"] = _version(manifest)
        return cls(
            version=manifest["version"],
            feature_version=FEATURE_VERSION,
            predictability=predictability,
            outcome=outcome,
            demand=demand,
            manifest=manifest,
        )

    def foresee(self, row: Mapping[str, float]) -> Foresight:
        """What the policy foresees of one decision, whose features by name are ``row``."""
        return foresee(self.outcome, self.predictability, row)

    def save(self, folder: Path) -> Path:
        """Write the bundle to ``folder``, replacing what is there only when all is written."""
        folder = folder.absolute()
        contents = _texts(self.predictability, self.outcome, self.demand)
        contents[MANIFEST] = json.dumps(self.manifest, indent=2, sort_keys=True) + "\n"
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        except OSError as error:
            raise _unwritable(folder, error) from error
        try:
            written = staging / "new"
            written.mkdir()
            for name, text in contents.items():
                _write_durably(written / name, text)
            _flush_folder(written)
            _swap(written, folder, previous=staging / "previous")
        except OSError as error:
            raise _unwritable(folder, error) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return folder

    @classmethod
    def load(cls, folder: Path) -> PolicyBundle:
        """Read and verify a bundle.

        Raises:
            BundleError: A file is missing, changed or of another version; it names the file.
        """
        manifest = _read_manifest(folder / MANIFEST)
        texts = {
            name: _read_verified(folder / name, expected)
            for name, expected in manifest["files"].items()
        }
        try:
            predictability = PredictabilityModel.from_texts(texts)
            outcome = OutcomeModel.from_texts(texts)
            demand = DemandModel.from_texts(texts)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"The policy bundle {folder} cannot be read: {error}.",
                param=str(folder),
                remedy=_RETRAIN,
            ) from error
        return cls(
            version=manifest["version"],
            feature_version=manifest["feature_version"],
            predictability=predictability,
            outcome=outcome,
            demand=demand,
            manifest=manifest,
        )


def pretrained_dir() -> Path:
    """The folder of the bundle that a new install starts with."""
    return Path(__file__).parent / "pretrained" / "default"


def _texts(
    predictability: PredictabilityModel, outcome: OutcomeModel, demand: DemandModel
) -> dict[str, str]:
    return {**predictability.to_texts(), **outcome.to_texts(), **demand.to_texts()}


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(_read(path))
        files, version = manifest["files"], manifest["version"]
        schema, feature_version = manifest["schema"], manifest["feature_version"]
        feature_names = manifest["feature_names"]
        whole = isinstance(files, dict) and version == _version(manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(
            path, f"is not a bundle's manifest ({type(error).__name__}: {error})"
        ) from error
    if schema != SCHEMA:
        raise _broken(path, f"has schema {schema!r}, but this version reads {SCHEMA}")
    if not whole or set(files) != FILES:
        raise _broken(path, "was changed after it was written")
    if feature_version != FEATURE_VERSION or feature_names != list(FEATURE_NAMES):
        raise _broken(
            path,
            f"was fitted on features of version {feature_version!r}, "
            f"but this version computes {FEATURE_VERSION!r}",
        )
    return dict(manifest)


def _read_verified(path: Path, expected_sha256: str) -> str:
    content = _read(path)
    if _sha256(content) != expected_sha256:
        raise _broken(path, "does not have the sha256 that the manifest gives")
    return content.decode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _broken(path, f"cannot be read ({error.strerror})") from error


def _broken(path: Path, what: str) -> BundleError:
    return BundleError(f"The policy bundle's {path} {what}.", param=str(path), remedy=_RETRAIN)


def _unwritable(folder: Path, error: OSError) -> BundleError:
    return BundleError(
        f"The policy bundle {folder} cannot be written ({error.strerror}).",
        param=str(folder),
        remedy="Check that its parent folder is writable and its disk has space.",
    )


def _swap(written: Path, folder: Path, *, previous: Path) -> None:
    """Put ``written`` in the place of ``folder``; leave ``folder`` as it was if that fails."""
    replaces = folder.exists()
    if replaces:
        folder.rename(previous)
    try:
        written.rename(folder)
    except OSError:
        if replaces:
            previous.rename(folder)
        raise
    _flush_folder(folder.parent)


def _version(manifest: Mapping[str, Any]) -> str:
    signed = {name: value for name, value in manifest.items() if name != "version"}
    return _sha256(json.dumps(signed, sort_keys=True).encode())[:12]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_durably(path: Path, text: str) -> None:
    with path.open("wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    # A rename is durable only once its folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
