"""An environment of its own for each client, made once and kept: nothing of ours is in it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path


class NotInstalled(RuntimeError):
    """A client could not be installed: no network, or a version that is gone."""


def kept_under(name: str, *what: str) -> Path:
    """The folder that is kept for ``name`` with exactly ``what`` in it."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    mark = hashlib.sha256("\n".join([sys.version, *what]).encode()).hexdigest()[:12]
    return home / "forethought" / "clients" / f"{name}-{mark}"


def python_with(name: str, *packages: str) -> Path:
    """A Python that has ``packages`` and nothing else."""
    folder = kept_under(name, *packages)
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        done([sys.executable, "-m", "uv", "venv", "-q", "--python", sys.executable, str(folder)])
        done(
            [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", str(python), *packages]
        )
        (folder / "ready").touch()
    return python


def source_of(name: str, package: str, version: str) -> Path:
    """The source distribution of a package, unpacked: its own tests are in it."""
    folder = kept_under(name, package, version)
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        pip = python_with("pip", "pip")
        _installed([
            str(pip), "-m", "pip", "download", "-q", "--no-deps", "--no-binary", package,
            "--dest", str(folder), f"{package}=={version}",
        ])  # fmt: skip
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        (folder / "ready").touch()
    return next(path for path in folder.iterdir() if path.is_dir())


def node_with(name: str, *packages: str) -> Path:
    """A folder in which Node finds ``packages``."""
    folder = kept_under(name, *packages)
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        done(
            [
                "npm",
                "install",
                "--silent",
                "--no-audit",
                "--no-fund",
                "--prefix",
                str(folder),
                *packages,
            ]
        )
        (folder / "ready").touch()
    return folder


def _installed(command: Sequence[str]) -> None:
    try:
        done(command)
    except (RuntimeError, FileNotFoundError) as error:
        raise NotInstalled(str(error)) from error


def done(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """What a command printed. Raises RuntimeError with its last lines where it fails."""
    ran = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if ran.returncode != 0:
        said = "\n".join((ran.stdout + ran.stderr).splitlines()[-40:])
        raise RuntimeError(f"{' '.join(command[:4])} ... ended with {ran.returncode}:\n{said}")
    return ran.stdout
