"""Policies, and a decider by one of them."""

from __future__ import annotations

import pytest

from forethought.models.bundle import PolicyBundle
from forethought.router.decision import Decider
from forethought.router.pricing import PriceTable
from tests.models.synthetic import fit_policy
from tests.router.deciding import PRICES, make_decider


@pytest.fixture(scope="module")
def bundle() -> PolicyBundle:
    return fit_policy(24, seed=1)


@pytest.fixture(scope="module")
def other_bundle() -> PolicyBundle:
    return fit_policy(24, seed=2)


@pytest.fixture(scope="module")
def prices() -> PriceTable:
    return PriceTable({"m": PRICES})


@pytest.fixture
def decider(bundle: PolicyBundle, prices: PriceTable) -> Decider:
    return make_decider(bundle, prices)
