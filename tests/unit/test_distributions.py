"""What is published holds the daemon and nothing that tries it."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]


def build(project: Path, to: Path, target: str) -> Path:
    """The real build, with the hatchling that is installed: nothing is fetched."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(to)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = to.iterdir()
    return built


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def package() -> set[str]:
    """The modules, and the templates and files of the console's pages."""
    files = [path for path in (ROOT / "daemon").rglob("*") if path.is_file()]
    return {path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".pyc"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    built = build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")
    folder = tmp_path_factory.mktemp("source")
    with tarfile.open(built) as archive:
        archive.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


def test_the_wheel_is_the_package_and_its_metadata(wheel: Path) -> None:
    names = names_in(wheel)
    ours = {name for name in names if not PurePosixPath(name).parts[0].endswith(".dist-info")}
    assert len(ours) > 80
    assert ours == package()
    words = ("sandbox", "simulator", "checker", "generator", "embedded", "kafka-pom", "chaos", "soak", "demo")
    assert not [name for name in names if any(word in name for word in words)]


def test_the_source_distribution_has_what_the_wheel_is_built_from(source: Path) -> None:
    files = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    folders = {path.parts[0] for path in files if len(path.parts) > 1}
    assert folders == {"daemon", "schemas"}
    top = {path.name for path in files if len(path.parts) == 1}
    assert top == {"PKG-INFO", ".gitignore", "CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"}


def test_the_wheel_of_the_source_distribution_is_the_same(wheel: Path, source: Path, tmp_path: Path) -> None:
    assert names_in(build(source, tmp_path, "wheel")) == names_in(wheel)
