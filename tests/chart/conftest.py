"""Helm, and what the Dockerfile makes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .helm_binary import NoHelmError, find_helm
from .image_steps import ImageSteps, enterable_folder, reason_against
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
def image() -> Iterator[ImageSteps]:
    """Built by the Dockerfile's own lines; a loud skip where that is not allowed."""
    with enterable_folder() as folder:
        if against := reason_against(folder):
            pytest.skip(f"NO NAMESPACES: {against}")
        steps = ImageSteps(folder)
        steps.build()
        yield steps
