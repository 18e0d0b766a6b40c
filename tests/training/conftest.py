from __future__ import annotations

import pytest

from forethought.models.bundle import PolicyBundle
from forethought.training.dataset import Dataset, from_log
from forethought.training.fit import fit_bundle
from tests.training.synthetic import make_log


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return from_log(make_log(90, seed=1))


@pytest.fixture(scope="session")
def bundle(dataset: Dataset) -> PolicyBundle:
    return fit_bundle(dataset, seed=0, init=None)
