"""Helm, and the image."""

from __future__ import annotations

import os

import pytest

from .container_engine import Engine, NoEngineError, find_engine
from .helm_binary import NoHelmError, find_helm
from .rendering import Helm


@pytest.fixture(scope="session")
def helm() -> Helm:
    """On a developer's machine a loud skip; where CI=true, a run without Helm has tested too little."""
    try:
        return Helm(find_helm())
    except NoHelmError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"NO HELM: {error}", pytrace=False)
        pytest.skip(f"NO HELM: {error}")


@pytest.fixture(scope="session")
def engine() -> Engine:
    """With the images of this checkout. As `helm`."""
    try:
        engine = find_engine()
    except NoEngineError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"NO IMAGE: {error}", pytrace=False)
        pytest.skip(f"NO IMAGE: {error}")
    engine.build()
    return engine
