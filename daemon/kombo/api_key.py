"""The API key, read from a mounted file. It never appears in a log, an error or a repr."""

from __future__ import annotations

from pathlib import Path

from daemon.config.secret_file import SecretError, read_secret


class ApiKeyError(Exception):
    """The file contains no usable key. The message names the file and the remedy."""


class ApiKeyFile:
    """The key as of the last time the file was read; `changed` reads the file again.

    Raises:
        ApiKeyError: at construction, if the file contains no usable key.
    """

    __slots__ = ("_key", "path", "problem")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._key = _read(path)
        self.problem: str | None = None
        """Why the last `changed` could not read a key; None if it could."""

    def current(self) -> str:
        return self._key

    def changed(self) -> bool:
        """Read the file again. Returns True if it contains a different key, which is used from now on.

        If the file is missing or incomplete, the current key stays in use, because secrets are replaced while the
        process runs. `problem` then describes the error.
        """
        try:
            key = _read(self.path)
        except ApiKeyError as error:
            self.problem = str(error)
            return False
        self.problem = None
        if key == self._key:
            return False
        self._key = key
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"


def _read(path: Path) -> str:
    try:
        key = read_secret(path)
    except SecretError as error:
        raise ApiKeyError(f"kombo.api_key_file: {error}") from None
    if not all(0x21 <= ord(character) <= 0x7E for character in key):
        raise ApiKeyError(
            f"kombo.api_key_file: the file {str(path)!r} contains no API key (one line of visible ASCII characters without "
            "spaces); write the key into the file, and nothing else"
        )
    return key
