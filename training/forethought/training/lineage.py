"""Which policy serves, and which one to start fitting from."""

from __future__ import annotations

from forethought.models.bundle import MANIFEST, PolicyBundle, pretrained_dir
from forethought.models.errors import BundleError
from forethought.router.errors import ConfigError
from forethought.router.registry import Registry
from forethought.training.dataset import Dataset


def serving(registry: Registry, notes: list[str]) -> PolicyBundle | None:
    """The policy that serves: the champion, else the one that ships; None: there is neither."""
    try:
        version = registry.champion()
        if version is not None:
            return registry.load(version)
    except (BundleError, ConfigError) as error:
        notes.append(f"The champion cannot be used, the policy that ships stands in: {error}")
    return pretrained()


def pretrained() -> PolicyBundle | None:
    """The bundle that ships with Forethought, if this build has one."""
    folder = pretrained_dir()
    return PolicyBundle.load(folder) if (folder / MANIFEST).is_file() else None


def serving_name(champion: PolicyBundle | None) -> str:
    """The version that serves; without any, every request is ``direct``."""
    return "direct" if champion is None else champion.version


def starting_point(
    registry: Registry, champion: PolicyBundle | None, dataset: Dataset, notes: list[str]
) -> PolicyBundle | None:
    """The latest of the champion and its ancestors that has not seen the dataset's rows.

    Starting from a model that has, its out-of-fold predictions would be too good, and so would
    its calibration.
    """
    shipped = pretrained()
    current = champion
    since = float(dataset.created_at.min())
    while current is not None:
        info = current.manifest.get("info", {})
        data = info.get("data", {})
        if data.get("recorded", True) or data.get("until", 0.0) < since:
            return current
        initial = info.get("initial")
        if initial is None:
            return None
        if shipped is not None and initial == shipped.version:
            return shipped
        try:
            current = registry.load(initial)
        except (BundleError, ConfigError) as error:
            notes.append(f"Started from the policy that ships: {error}")
            return shipped
    return shipped


def starting_version(registry: Registry, version: str | None) -> PolicyBundle | None:
    """The policy that a fit started from, by its version; None for none.

    Raises:
        ConfigError: It is neither saved nor the one that ships.
        BundleError: It is damaged.
    """
    if version is None:
        return None
    shipped = pretrained()
    return shipped if shipped is not None and shipped.version == version else registry.load(version)
