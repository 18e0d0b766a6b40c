"""Where the data to learn from comes from: the log, its export, or recorded outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from forethought.models.embedding import WordLlamaEmbedder
from forethought.models.errors import ForethoughtError
from forethought.router.errors import ConfigError
from forethought.router.log import LogReader, Store
from forethought.training.dataset import Dataset, Split, from_signed
from forethought.training.recorded import read_recorded
from forethought.training.signals import WITHIN_S, Embed, Signed, Weights, with_signs

LOG_FILE = "forethought.sqlite"
STORE = Path("store")
"""As an origin: the log itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What to read, and how its labels and its sides are made.

    ``store``: the log's URL (None: the file in ``data_dir``). ``origin``: None or ``STORE`` for
    the log, a folder or ``.parquet`` file of ``forethought export``, else a JSONL file of recorded
    outcomes.
    """

    data_dir: Path
    store: str | None = None
    origin: Path | None = None
    weights: Weights = field(default_factory=Weights)
    split: Split = "context"


def read(source: Source) -> Dataset:
    """The dataset of a source."""
    origin = source.origin
    if origin is None or origin == STORE:
        with opened_log(source.data_dir, source.store) as reader:
            pairs = with_signs(reader.logged_decisions(), embed=embedder())
            return from_signed(pairs, source="log", weights=source.weights, split=source.split)
    if is_export(origin):
        from forethought.training.parquet import read_parquet  # noqa: PLC0415 - only where asked

        return from_signed(
            # The name alone: a bundle's notes travel, and folders are nobody else's business.
            read_parquet(origin), source=origin.name, weights=source.weights, split=source.split
        )  # fmt: skip
    return read_recorded(origin)


def is_export(origin: Path) -> bool:
    """Whether a path names an export, not recorded outcomes."""
    return origin.is_dir() or origin.suffix == ".parquet"


def log_of_days(
    reader: LogReader,
    *,
    since: date | None = None,
    until: date | None = None,
    seen: Callable[[int], None] | None = None,
) -> Iterator[Signed]:
    """The decisions of whole days (UTC) with their signs, ``until`` the last day that counts.

    Reads a little into the next day, for what followed the last decisions. ``seen`` is told how
    many were read.
    """
    ends = None if until is None else _midnight(until + timedelta(days=1))
    decisions = reader.logged_decisions(
        since=None if since is None else _midnight(since),
        until=None if ends is None else ends + WITHIN_S,
    )
    for n, pair in enumerate(with_signs(decisions, embed=embedder()), start=1):
        if ends is not None and pair[0].decision.created_at >= ends:
            return
        if seen is not None and n % 1000 == 0:
            seen(n)
        yield pair


@contextmanager
def opened_log(data_dir: Path, store: str | None) -> Iterator[LogReader]:
    """The log, which has to be there: opening another would create it."""
    url = store or str(data_dir / LOG_FILE)
    missing = _missing_file(url)
    if missing is not None:
        raise ConfigError(
            f"There is no log at {missing}.",
            param="store",
            remedy="Serve some traffic first, or name another by --data-dir or --store.",
        )
    with Store.open(url) as opened:
        yield LogReader(opened)


def embedder() -> Embed | None:
    """Word vectors to find rephrasings by; None where they cannot be read."""
    try:
        return WordLlamaEmbedder().load().embed
    except ForethoughtError:
        return None


def _midnight(day: date) -> float:
    return datetime.combine(day, time(), tzinfo=UTC).timestamp()


def _missing_file(url: str) -> Path | None:
    """The SQLite file that ``url`` names, if it does not exist."""
    path = Path(url)
    if "://" in url:
        try:
            parsed = make_url(url)
        except ArgumentError:
            return None  # the store says what is wrong with it
        if parsed.get_backend_name() != "sqlite":
            return None
        path = Path(parsed.database or "")
    path = path.expanduser()
    return None if path.exists() else path
