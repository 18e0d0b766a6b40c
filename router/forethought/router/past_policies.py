"""The policy that made a decision, found again when somebody asks why."""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forethought.models.bundle import MANIFEST, PolicyBundle, pretrained_dir
from forethought.models.errors import BundleError
from forethought.router.errors import ConfigError
from forethought.router.registry import Registry

log = logging.getLogger(__name__)

_KEPT: Final = 2
"""Policies kept at hand beside the one that serves: some 3 MB each, and read in 20 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPolicy:
    """The policy of one version; without it, ``missing`` says why in plain words."""

    version: str
    bundle: PolicyBundle | None = None
    missing: str | None = None


class PastPolicies:
    """Finds policies by version: in the registry, or the one that ships. Safe between threads.

    Args:
        registry: Where trained policies are kept.
        shipped: The folder of the bundle that a new install starts with.
    """

    def __init__(self, registry: Registry, shipped: Path | None = None) -> None:
        self._registry = registry
        self._shipped = shipped or pretrained_dir()
        self._kept: OrderedDict[str, PolicyBundle] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, version: str, serving: PolicyBundle | None = None) -> FoundPolicy:
        """Return the policy of ``version``; ``serving`` is the one that is at hand already."""
        if version == "none":
            return FoundPolicy(version=version, missing="no policy was loaded")
        if serving is not None and serving.version == version:
            return FoundPolicy(version=version, bundle=serving)
        with self._lock:
            bundle = self._kept.get(version)
            if bundle is None:
                try:
                    bundle = self._load(version)
                except ConfigError:
                    why = f"the policy {version} that decided is not kept here any more"
                    return FoundPolicy(version=version, missing=why)
                except BundleError as error:
                    # The error names files of the server, which its clients need not know.
                    log.warning("a decision cannot be explained: %s", error)
                    why = f"the policy {version} that decided cannot be read by this version"
                    return FoundPolicy(version=version, missing=why)
            self._kept[version] = bundle
            self._kept.move_to_end(version)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return FoundPolicy(version=version, bundle=bundle)

    def _load(self, version: str) -> PolicyBundle:
        if self._shipped_version() == version:
            return PolicyBundle.load(self._shipped)
        return self._registry.load(version)

    def _shipped_version(self) -> str | None:
        try:
            manifest = json.loads((self._shipped / MANIFEST).read_text(encoding="utf-8"))
            return str(manifest["version"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
