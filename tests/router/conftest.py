"""Policies, and a decider by one of them."""

from __future__ import annotations

import pytest

from forethought.models.bundle import PolicyBundle
from forethought.router.decision import Decider
from forethought.router.pricing import PriceTable
from tests.router.deciding import PRICES, fitted, make_decider


@pytest.fixture(scope="module")
def bundle() -> PolicyBundle:
    return fitted(seed=1)


@pytest.fixture(scope="module")
def other_bundle() -> PolicyBundle:
    return fitted(seed=2)


@pytest.fixture(scope="module")
def prices() -> PriceTable:
    return PriceTable({"m": PRICES})


@pytest.fixture
def decider(bundle: PolicyBundle, prices: PriceTable) -> Decider:
    return make_decider(bundle, prices)
