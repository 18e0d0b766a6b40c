from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from forethought.router.errors import StoreError
from forethought.router.log import LogReader, LogWriter, Store
from forethought.router.log.tables import VERSION_TABLE
from tests.router.log.factories import TENANT, make_context, make_decision


def test_a_new_store_is_private_and_durable(store: Store, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with store.engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    full = 2
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": full,
        "foreign_keys": 1,
        "busy_timeout": 5_000,
    }


@pytest.mark.parametrize(
    "prefix", [pytest.param("", id="path"), pytest.param("sqlite:///", id="URL")]
)
def test_a_store_is_found_again(tmp_path: Path, prefix: str) -> None:
    url = f"{prefix}{tmp_path}/new folder/100%.db"
    with Store.open(url) as store, LogWriter(store) as writer:
        writer.write_sync(make_context())
    with Store.open(url) as store:
        assert LogReader(store).context("ctx_0", TENANT) == make_context()


def test_a_store_that_is_up_to_date_opens_without_alembic(store: Store, path: Path) -> None:
    code = (
        "import sys; from forethought.router.log import Store;"
        "Store.open(sys.argv[1]).close(); assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def _write_text(path: Path) -> None:
    path.write_text("These are not the bytes you are looking for.")


def _make_folder(path: Path) -> None:
    path.mkdir()


def _make_foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()


def _fill(path: Path) -> None:
    with Store.open(str(path)) as store, LogWriter(store) as writer:
        writer.write_sync(*(make_decision(n) for n in range(200)))


def _truncate(path: Path) -> None:
    _fill(path)
    os.truncate(path, path.stat().st_size // 2)


def _overwrite_a_page(path: Path) -> None:
    _fill(path)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096)


def _make_newer(path: Path) -> None:
    _fill(path)
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    connection.close()


def _drop_a_table(path: Path) -> None:
    _fill(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE feedback")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(_write_text, "is not an SQLite database.*Restore", id="text file"),
        pytest.param(_make_folder, "cannot be opened: Is a directory.*Check", id="folder"),
        pytest.param(_make_foreign, "another program.*Name a file", id="another program's"),
        pytest.param(_truncate, "malformed|damaged", id="truncated"),
        pytest.param(_overwrite_a_page, "malformed|damaged", id="damaged page"),
        pytest.param(_make_newer, "newer Forethought.*Upgrade", id="newer schema"),
        pytest.param(_drop_a_table, "lacks the tables feedback.*Restore", id="table missing"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_left_alone(
    path: Path, spoil: object, message: str
) -> None:
    assert callable(spoil)
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=message) as caught:
        Store.open(str(path))
    assert caught.value.param == str(path)
    assert before == (path.read_bytes() if path.is_file() else None)


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs a folder nobody may write")
def test_a_folder_that_cannot_be_written_is_named() -> None:
    with pytest.raises(StoreError, match=r"/proc/nowhere/log\.db cannot be opened"):
        Store.open("/proc/nowhere/log.db")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("mysql://host/log", id="another database"),
        pytest.param("postgresql://host:port/log", id="malformed"),
        pytest.param(":memory:", id="in memory"),
        pytest.param("sqlite://", id="in memory, as a URL"),
        pytest.param("", id="empty"),
    ],
)
def test_a_url_that_cannot_be_used_is_a_store_error(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        Store.open(url)
    assert caught.value.param == "database_url"
    assert caught.value.remedy


def test_an_unreachable_server_is_named_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        Store.open(f"postgresql://user:hunter2@/log?host={tmp_path}")
    assert "user:***@" in str(caught.value)
    assert "hunter2" not in str(caught.value) + repr(caught.value.param)


@pytest.mark.parametrize("step", ["_create", "_upgrade"])
def test_what_fails_in_the_making_leaves_nothing_half_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(connection: object) -> None:
        make(connection)
        raise StoreError("power cut")

    from forethought.router.log import store as module

    make = getattr(module, step)
    monkeypatch.setattr(module, "_create", fail)
    with pytest.raises(StoreError, match="power cut"):
        Store.open(str(path))
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    connection.close()


def test_processes_may_open_a_new_store_at_once(path: Path) -> None:
    code = "import sys; from forethought.router.log import Store; Store.open(sys.argv[1]).close()"
    command = [sys.executable, "-c", code, str(path)]
    started = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=30) for process in started] == [0, 0, 0]
