"""The API key, from a mounted file. It is in no log, error or repr."""

from __future__ import annotations

from pathlib import Path

_BYTES_MAX = 4096
"""A key has some 40 characters; a file that is larger is the wrong file."""


class ApiKeyError(Exception):
    """There is no usable key in the file. The message names the file and says what to do."""


class ApiKeyFile:
    """The key as the file had it when it was last read; `changed` reads it again.

    Raises:
        ApiKeyError: at construction, when the file holds no usable key.
    """

    __slots__ = ("_key", "path", "problem")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._key = _read(path)
        self.problem: str | None = None
        """Why the last `changed` could not read a key; None when it could."""

    def current(self) -> str:
        return self._key

    def changed(self) -> bool:
        """Read the file again; True when it holds another key than before, which is used from now on.

        A file that is missing or half written keeps the key in use: secrets are replaced under a
        running process. Then `problem` says what is wrong.
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
        with path.open("rb") as file:
            content = file.read(_BYTES_MAX + 1)
    except OSError as error:
        raise ApiKeyError(
            f"{path}: the API key cannot be read ({error.strerror}); mount the secret there, readable for "
            "this user, or name another file"
        ) from None
    key = content.strip()
    if not key:
        raise ApiKeyError(f"{path}: the file is empty; put the API key into it, and nothing else")
    if len(content) > _BYTES_MAX or not all(0x21 <= byte <= 0x7E for byte in key):
        raise ApiKeyError(
            f"{path}: this is not an API key (one line of visible ASCII characters without spaces); "
            "put the key into the file, and nothing else"
        )
    return key.decode("ascii")
