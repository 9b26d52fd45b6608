"""A copy of the checkout for the tests of every module."""

import pytest

from checkout import Checkout, copy_checkout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A fresh clone, shared by the tests of a module."""
    return copy_checkout(tmp_path_factory.mktemp("checkout"))
