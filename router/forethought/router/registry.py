"""Policies on disk: one folder a version, and a pointer to the one that serves.

``<data_dir>/policies/<version>/`` holds a bundle, ``<data_dir>/policies/champion.json`` names
the champion, ``challenger.json`` beside it the policy that scores live traffic without serving
it, if there is one. A pointer is replaced by a rename: a reader, in this or another process, sees
the old or the new one, never half of one. Without a champion, the bundle that ships with
Forethought serves.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from forethought.models.bundle import MANIFEST, PolicyBundle
from forethought.models.errors import BundleError
from forethought.router.errors import ConfigError

CHAMPION: Final = "champion.json"
CHALLENGER: Final = "challenger.json"
_KEPT: Final = 50
"""How many champions back ``rollback`` can go."""

_VERSION: Final = re.compile(r"[0-9a-f]{6,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """What ``champion.json`` says. ``earlier``: the champions before ``previous``, latest last."""

    version: str
    promoted_at: float
    previous: str | None = None
    earlier: tuple[str, ...] = ()


class Registry:
    """The policies of one data folder. Holds nothing in memory: several processes may use it."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "policies"
        self.champion_file = self.folder / CHAMPION
        self.challenger_file = self.folder / CHALLENGER

    def save(self, bundle: PolicyBundle) -> str:
        """Write a bundle to its own folder; it does not serve before it is promoted.

        A version that is there and whole is left alone: someone may be reading it.
        """
        path = self._path(bundle.version)
        try:
            whole = PolicyBundle.load(path).version == bundle.version
        except BundleError:
            whole = False
        if not whole:
            bundle.save(path)
        return bundle.version

    def path(self, version: str) -> Path:
        """The folder of a saved version. ConfigError where there is none."""
        path = self._path(version)
        if not (path / MANIFEST).is_file():
            saved = ", ".join(self.versions()) or "none"
            raise ConfigError(
                f"There is no policy {version!r} in {self.folder}.",
                param="version",
                remedy=f"Saved there: {saved}.",
            )
        return path

    def load(self, version: str) -> PolicyBundle:
        """Read and verify a saved bundle.

        Raises:
            ConfigError: There is no such version.
            BundleError: A file of it is missing, changed or of another version.
        """
        path = self.path(version)
        bundle = PolicyBundle.load(path)
        if bundle.version != version:
            raise BundleError(
                f"The policy in {path} is {bundle.version}, not {version}.",
                param=str(path),
                remedy="Remove the folder, or rename it to its version.",
            )
        return bundle

    def versions(self) -> list[str]:
        """All saved versions, the oldest first."""
        try:
            found = [path for path in self.folder.iterdir() if _VERSION.fullmatch(path.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unusable(self.folder, "read", error) from error
        dated = []
        for path in found:
            with suppress(OSError):  # replaced or removed meanwhile
                dated.append(((path / MANIFEST).stat().st_mtime_ns, path.name))
        return [name for _, name in sorted(dated)]

    def champion(self) -> str | None:
        """The version that serves; None: none was promoted, the one that ships serves."""
        pointer = self.pointer()
        return None if pointer is None else pointer.version

    def pointer(self) -> Pointer | None:
        """All that ``champion.json`` says; None where there is no such file."""
        return _read_pointer(self.champion_file)

    def challenger(self) -> str | None:
        """The version that scores live traffic without serving it; None: there is none."""
        pointer = _read_pointer(self.challenger_file)
        return None if pointer is None else pointer.version

    def challenge(self, version: str) -> None:
        """Let ``version`` score live traffic without serving it, after verifying it."""
        self.load(version)
        pointer = Pointer(version=version, promoted_at=time.time())
        self._write(pointer, self.challenger_file)

    def dismiss(self) -> None:
        """Let no policy challenge the champion."""
        try:
            self.challenger_file.unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(self.challenger_file, "removed", error) from error

    def promote(self, version: str) -> Pointer:
        """Let ``version`` serve, after verifying it. Promoting the champion changes nothing.

        A challenger that is promoted challenges no more.
        """
        self.load(version)
        with suppress(ConfigError):  # a damaged pointer names no challenger
            if self.challenger() == version:
                self.dismiss()
        try:
            current = self.pointer()
        except ConfigError:  # a damaged pointer is replaced: that is its error's remedy
            current = None
        if current is not None and current.version == version:
            return current
        earlier: tuple[str, ...] = ()
        if current is not None and current.previous is not None:
            earlier = (*current.earlier, current.previous)[-_KEPT:]
        pointer = Pointer(
            version=version,
            promoted_at=time.time(),
            previous=None if current is None else current.version,
            earlier=earlier,
        )
        self._write(pointer, self.champion_file)
        return pointer

    def rollback(self) -> str | None:
        """Let the champion before this one serve again; None: the one that ships.

        Raises:
            ConfigError: None was promoted, so there is nothing to take back.
            BundleError: The one before is damaged; nothing was changed.
        """
        current = self.pointer()
        if current is None:
            raise ConfigError(
                f"No policy was promoted in {self.folder}: there is nothing to take back.",
                param=str(self.champion_file),
            )
        if current.previous is None:
            try:
                self.champion_file.unlink()
                _flush_folder(self.folder)
            except OSError as error:
                raise _unusable(self.champion_file, "removed", error) from error
            return None
        self.load(current.previous)
        self._write(
            Pointer(
                version=current.previous,
                promoted_at=time.time(),
                previous=current.earlier[-1] if current.earlier else None,
                earlier=current.earlier[:-1],
            ),
            self.champion_file,
        )
        return current.previous

    def _path(self, version: str) -> Path:
        # A version comes from the command line: it must not name a path elsewhere.
        if not _VERSION.fullmatch(version):
            raise ConfigError(
                f"{version!r} is not the version of a policy: 12 hexadecimal digits.",
                param="version",
                remedy=f"Saved in {self.folder}: {', '.join(self.versions()) or 'none'}.",
            )
        return self.folder / version

    def _write(self, pointer: Pointer, pointer_file: Path) -> None:
        value = {
            "version": pointer.version,
            "promoted_at": pointer.promoted_at,
            "previous": pointer.previous,
            "earlier": list(pointer.earlier),
        }
        staged: str | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, staged = tempfile.mkstemp(prefix=f".{pointer_file.name}-", dir=self.folder)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(value, indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            Path(staged).replace(pointer_file)
            staged = None
            _flush_folder(self.folder)
        except OSError as error:
            raise _unusable(pointer_file, "written", error) from error
        finally:
            if staged is not None:
                Path(staged).unlink(missing_ok=True)


def _read_pointer(path: Path) -> Pointer | None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, "read", error) from error
    try:
        return _pointer(json.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} does not name a policy ({type(error).__name__}: {error}).",
            param=str(path),
            remedy="Set it anew with `forethought promote VERSION`, or remove the file.",
        ) from error


def _pointer(value: Any) -> Pointer:
    versions = (value["version"], value.get("previous"), *value.get("earlier", ()))
    for version in versions:
        if version is not None and not (isinstance(version, str) and _VERSION.fullmatch(version)):
            message = f"{version!r} is no version"
            raise ValueError(message)
    return Pointer(
        version=value["version"],
        promoted_at=float(value["promoted_at"]),
        previous=value.get("previous"),
        earlier=tuple(value.get("earlier", ())),
    )


def _unusable(path: Path, doing: str, error: Exception) -> ConfigError:
    reason = error.strerror if isinstance(error, OSError) else "it is not text"
    return ConfigError(
        f"{path} cannot be {doing} ({reason}).",
        param=str(path),
        remedy="Check its permissions and the disk's space.",
    )


def _flush_folder(folder: Path) -> None:
    # A rename is durable only once its folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
