from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from forethought.models.bundle import PolicyBundle
from forethought.models.demand import DemandModel
from forethought.models.errors import BundleError
from forethought.models.outcome import OutcomeModel
from forethought.models.predictability import PredictabilityModel
from forethought.router.errors import ConfigError
from forethought.router.registry import Registry
from tests.models.synthetic import fit_outcome, make_decisions

Bundles = tuple[PolicyBundle, PolicyBundle, PolicyBundle]


@pytest.fixture(scope="module")
def bundles() -> Bundles:
    data = make_decisions(12, seed=1)
    outcome: OutcomeModel = fit_outcome(data)
    predictability = PredictabilityModel.fit(data.rows, data.quality, data.groups, seed=0)
    first, second, third = (
        PolicyBundle.build(
            predictability=predictability,
            outcome=outcome,
            demand=DemandModel(),
            info={"number": number},
        )
        for number in range(3)
    )
    return first, second, third


@pytest.fixture
def registry(tmp_path: Path, bundles: Bundles) -> Registry:
    registry = Registry(tmp_path / "data")
    for bundle in bundles:
        registry.save(bundle)
    return registry


def test_a_new_registry_is_empty_and_creates_nothing(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "data")
    assert registry.champion() is None
    assert registry.versions() == []
    assert not (tmp_path / "data").exists()


def test_saved_versions_are_listed_oldest_first_and_load(
    registry: Registry, bundles: Bundles
) -> None:
    assert registry.versions() == [bundle.version for bundle in bundles]
    assert registry.load(bundles[1].version).manifest == bundles[1].manifest
    assert registry.champion() is None


def test_rollback_goes_back_champion_by_champion(registry: Registry, bundles: Bundles) -> None:
    first, second, third = (bundle.version for bundle in bundles)
    for version in (first, second, third):
        registry.promote(version)
    assert registry.champion() == third
    assert json.loads(registry.champion_file.read_text())["previous"] == second
    assert registry.rollback() == second
    assert registry.rollback() == first
    assert registry.rollback() is None  # the one that ships
    assert registry.champion() is None
    with pytest.raises(ConfigError, match="nothing to take back"):
        registry.rollback()


def test_promoting_the_champion_again_changes_nothing(registry: Registry, bundles: Bundles) -> None:
    registry.promote(bundles[0].version)
    registry.promote(bundles[1].version)
    registry.promote(bundles[1].version)
    assert registry.rollback() == bundles[0].version


def test_a_tampered_bundle_is_refused_and_the_champion_stays(
    registry: Registry, bundles: Bundles
) -> None:
    good, bad = bundles[0].version, bundles[1].version
    registry.promote(good)
    (registry.path(bad) / "outcome_quality.txt").write_text("tree")
    with pytest.raises(BundleError, match=r"outcome_quality\.txt does not have the sha256"):
        registry.promote(bad)
    assert registry.champion() == good


def test_a_rollback_to_a_tampered_bundle_changes_nothing(
    registry: Registry, bundles: Bundles
) -> None:
    registry.promote(bundles[0].version)
    registry.promote(bundles[1].version)
    (registry.path(bundles[0].version) / "demand.json").unlink()
    with pytest.raises(BundleError, match=r"demand\.json"):
        registry.rollback()
    assert registry.champion() == bundles[1].version


def test_a_bundle_in_another_versions_folder_is_refused(
    registry: Registry, bundles: Bundles
) -> None:
    bundles[0].save(registry.folder / "abcdef123456")
    with pytest.raises(BundleError, match=f"is {bundles[0].version}, not abcdef123456"):
        registry.promote("abcdef123456")


@pytest.mark.parametrize(
    "version",
    [
        pytest.param("000000000000", id="unknown"),
        pytest.param("../../etc", id="a path"),
        pytest.param("", id="empty"),
    ],
)
def test_what_is_no_saved_version_is_refused(registry: Registry, version: str) -> None:
    with pytest.raises(ConfigError, match="Saved"):
        registry.promote(version)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="no object"),
        pytest.param('{"version": "../x", "promoted_at": 1}', id="a path"),
        pytest.param('{"version": "abcdef"}', id="no date"),
    ],
)
def test_a_damaged_pointer_is_named_and_promoting_mends_it(
    registry: Registry, bundles: Bundles, content: str
) -> None:
    registry.champion_file.write_text(content)
    with pytest.raises(ConfigError, match="does not name a policy"):
        registry.champion()
    registry.promote(bundles[0].version)
    assert registry.champion() == bundles[0].version


def test_a_reader_sees_one_champion_or_the_other_never_half(
    registry: Registry, bundles: Bundles
) -> None:
    one, other = bundles[0].version, bundles[1].version
    registry.promote(one)
    seen: set[str | None] = set()
    done = threading.Event()

    def poll() -> None:
        while not done.is_set():
            seen.add(registry.champion())

    reader = threading.Thread(target=poll)
    reader.start()
    try:
        for _ in range(10):
            registry.promote(other)
            registry.promote(one)
    finally:
        done.set()
        reader.join()
    assert seen <= {one, other}
    assert [p.name for p in registry.folder.iterdir() if p.name.startswith(".")] == []
