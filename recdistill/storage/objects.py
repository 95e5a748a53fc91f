"""Objects of a store under the few methods of a path that a run needs.

    list      iterdir, exists, is_dir        by name, one level at a time
    get       read_bytes, read_text, stat
    put       write_bytes, upload            whole or not at all: a reader sees the old object or the new one
    put once  create, swap                   one of several writers does: where there is none, or it is as read
    delete    unlink, remove

Options and secrets come from the environment, under the names that the store's own tools have (AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID ...); nothing here writes them down.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

from recdistill.errors import UserError, printable

if TYPE_CHECKING:
    from obstore.store import RetryConfig

__all__ = ["ENVIRONMENT", "RETRIES", "RETRY_S", "SCHEMES", "ObjectPath", "Stat"]

SCHEMES = ("s3", "gs", "az")
ENVIRONMENT = ("AWS_", "GOOGLE_", "AZURE_")  # prefixes of the variables that say how a store is reached
RETRIES, RETRY_S = 10, 30  # of one request, while the network or the store fails: less than a lease lasts
REQUEST_S = 30.0  # until a request, with all that it sends, is given up, and tried again
URL = re.compile(rf"({'|'.join(SCHEMES)})://([a-z0-9][a-z0-9.\-]+)/([\w.\-=/@+]+)", re.ASCII)
HOSTS = {  # variables that say which of the stores of a scheme is meant
    "s3": ("AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
NOWHERE = ("NoSuchBucket", "The specified container does not exist")  # a bucket that is missing, in S3, Google; Azure
REASONS = {  # of the store's codes, or what a library says where it has no answer: what is wrong, and what to do
    **dict.fromkeys(NOWHERE, "there is no such bucket; make it, or name another"),
    "RequestTimeTooSkewed": "the store refuses this machine's time; set its clock",
    "InvalidAccessKeyId": "the store does not know the access key; see AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the store does not accept the secret key; see AWS_SECRET_ACCESS_KEY",
    "AccessDenied": "access denied; its credentials may not do that there",
    "Account must be specified": "no account; set AZURE_STORAGE_ACCOUNT_NAME",
    "Invalid Access Key": "the key of the account is not whole; see AZURE_STORAGE_ACCOUNT_KEY",
    "Missing component in SAS": "the token is not whole; see AZURE_STORAGE_SAS_TOKEN",
    "Server failed to authenticate": (
        "the store does not accept the key or token; see AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN"
    ),
    "AuthorizationPermissionMismatch": "access denied; it takes the role Storage Blob Data Contributor",
    "AuthorizationFailure": "access denied; the account's network rules may keep this machine out",
    "169.254.169.254/metadata/identity": (
        "no credentials; set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or AZURE_USE_AZURE_CLI=true"
    ),
    "169.254.169.254": "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "metadata.google.internal": "no credentials; set GOOGLE_SERVICE_ACCOUNT",
    "lacked the necessary privileges": "access denied; see its key or token, and what they may do there",
    "lacked valid authentication": "no access; see its key or token",
    "BadScheme": "its address is http; where that is meant, set AWS_ALLOW_HTTP (AZURE_, GOOGLE_) to true",
    "dns error": "there is no such host; see the account's name (az://) or the address of the store",
}


class Stat(NamedTuple):
    """st_size: bytes; st_mtime: when it was written, epoch seconds by the store's clock; tag: of this content."""

    st_size: int
    st_mtime: float
    tag: str


@dataclass(frozen=True)
class ObjectPath:
    """An object, or a prefix of objects as if it were a folder. Every method raises UserError where the store fails."""

    bucket: str  # with its scheme: s3://bucket
    key: str
    request_s: float = 0.0  # what a request may take, tried twice at most; 0: REQUEST_S, tried for RETRY_S

    @classmethod
    def parse(cls, url: str) -> ObjectPath:
        """Return the place that an address names; UserError for one that is none."""
        found = URL.fullmatch(url.rstrip("/"))
        parts = found[3].split("/") if found else []
        if found is None or not all(parts) or {".", ".."} & set(parts):
            raise UserError(
                f"{url}: no address of a run; it looks like s3://BUCKET/PREFIX (or gs://, az://), with letters, digits "
                "and -_.=@+ alone"
            )
        return cls(f"{found[1]}://{found[2]}", found[3])

    def __str__(self) -> str:
        """Return the address."""
        return f"{self.bucket}/{self.key}"

    def __truediv__(self, name: str | Path) -> ObjectPath:
        """Return a place below this one."""
        return ObjectPath(self.bucket, f"{self.key}/{name}")

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> ObjectPath:
        """The place that this one lies in."""
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    @property
    def local(self) -> Path:
        """Where this machine keeps what it derives from this place, or works on; may be deleted while nobody does."""
        root = os.environ.get("RECDISTILL_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "recdistill"
        host = " ".join(filter(None, map(os.environ.get, HOSTS[self.bucket.partition(":")[0]])))
        return (
            Path(root).expanduser().resolve()
            / hashlib.sha256(host.encode()).hexdigest()[:8]
            / self.bucket.replace("://", "/")
            / self.key
        )

    def resolve(self) -> ObjectPath:
        """Return itself, which is absolute."""
        return self

    def exists(self) -> bool:
        """Return whether there is an object here, or any below."""
        return self._head() is not None or self.is_dir()

    def is_file(self) -> bool:
        """Return whether there is an object here."""
        return self._head() is not None

    def is_dir(self) -> bool:
        """Return whether there are objects below."""
        with self._failures():
            return bool(next(iter(_obstore().list(self._store, f"{self.key}/", chunk_size=1)), []))

    def iterdir(self) -> Iterator[ObjectPath]:
        """Yield what lies directly below, objects and prefixes, by name; nothing where there is none."""
        with self._failures():
            found = _obstore().list_with_delimiter(self._store, self.key)
        keys = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
        yield from (ObjectPath(self.bucket, key.rstrip("/")) for key in sorted(keys))

    def read_bytes(self) -> bytes:
        """Return the content; FileNotFoundError where there is no object."""
        with self._failures():
            return bytes(_obstore().get(self._store, self.key).bytes())

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the content as text; FileNotFoundError where there is no object."""
        return self.read_bytes().decode(encoding)

    def read_as_of(self) -> tuple[bytes, Stat]:
        """Return the content and what `stat` says of this very content; FileNotFoundError where there is no object."""
        with self._failures():
            found = _obstore().get(self._store, self.key)
            meta, data = found.meta, bytes(found.bytes())
        return data, Stat(meta["size"], meta["last_modified"].timestamp(), meta[self._tagged] or "")

    def stat(self) -> Stat:
        """Return its size and time; FileNotFoundError where there is no object."""
        found = self._head()
        if found is None:
            raise FileNotFoundError(2, "no such object", str(self))
        return found

    def write_bytes(self, data: bytes) -> str:
        """Put an object, whether there is one or not; return its tag."""
        return self._put(data, "overwrite") or ""

    def upload(self, file: BinaryIO) -> None:
        """Put the content of a file that is open, from its start, piece by piece where it is large."""
        file.seek(0)
        with self._failures():
            _obstore().put(self._store, self.key, file)

    def download(self, file: Path) -> None:
        """Write the content to a file, piece by piece; FileNotFoundError where there is no object."""
        with self._failures(), file.open("wb") as out:
            for piece in _obstore().get(self._store, self.key):
                out.write(piece)

    def create(self, data: bytes) -> str | None:
        """Put an object where there is none, and return its tag; None, and nothing changed, where there is one.

        Where the store's answer was lost and its library asked again, what it finds may be this very object: so data
        that others may not write too has to hold something of its own.
        """
        tag = self._put(data, "create")
        if tag is not None:
            return tag
        with self._failures():
            found = _obstore().get(self._store, self.key)
            return str(found.meta[self._tagged]) if bytes(found.bytes()) == data else None

    def swap(self, data: bytes, tag: str) -> str | None:
        """Put an object in the place of the one with this tag, and return the new tag; None where there is another."""
        return self._put(data, {self._tagged: tag})

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object; a store does not say whether there was one."""
        with self._failures(), _absent():
            _obstore().delete(self._store, self.key)

    def remove(self) -> None:
        """Delete the object here, and all below."""
        with self._failures(), _absent():
            for entries in _obstore().list(self._store, f"{self.key}/"):
                _obstore().delete(self._store, [entry["path"] for entry in entries])
            _obstore().delete(self._store, self.key)

    def _put(self, data: bytes, mode: Any) -> str | None:
        errors = _obstore().exceptions
        with self._failures():
            try:
                return str(_obstore().put(self._store, self.key, data, mode=mode)[self._tagged])
            except (errors.AlreadyExistsError, errors.PreconditionError):
                return None

    def _head(self) -> Stat | None:
        with self._failures():
            try:
                found = _obstore().head(self._store, self.key)
            except FileNotFoundError:
                return None
        return Stat(found["size"], found["last_modified"].timestamp(), found[self._tagged] or "")

    @property
    def _tagged(self) -> Literal["e_tag", "version"]:
        """What a store compares an object by: Google's by its generation."""
        return "version" if self.bucket.startswith("gs://") else "e_tag"

    @property
    def _store(self) -> Any:
        known = frozenset(pair for pair in os.environ.items() if pair[0].startswith(ENVIRONMENT))
        return _opened(self.bucket, known, self.request_s)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        errors = _obstore().exceptions
        try:
            yield
        except FileNotFoundError as error:
            if _nowhere(error):
                raise UserError(f"{self.bucket}: {_reason(str(error))}") from None
            raise FileNotFoundError(2, "no such object", str(self)) from None
        except errors.BaseError as error:
            raise UserError(f"{self}: {_reason(str(error))}") from None


@contextmanager
def _absent() -> Iterator[None]:
    """Let what is deleted be gone already."""
    try:
        yield
    except FileNotFoundError as error:
        if _nowhere(error):
            raise


def _nowhere(error: Exception) -> bool:
    """Return whether it is the bucket that is missing, and not an object in it."""
    return any(mark in str(error) for mark in NOWHERE)


def _obstore() -> Any:
    """Return the module obstore, with what is in it; UserError where it is not installed."""
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError:
        raise UserError(
            "a run on an object store needs a package that is not installed: pip install 'recdistill[objects]'"
        ) from None
    return obstore


@cache
def _opened(bucket: str, _environment: frozenset[tuple[str, str]], request_s: float) -> Any:
    """Return the store of a bucket, anew once the environment says something else."""
    library = _obstore()
    scheme, _, name = bucket.partition("://")
    retries = 1 if request_s else RETRIES
    retry: RetryConfig = {"max_retries": retries, "retry_timeout": timedelta(seconds=RETRY_S)}
    limit = {"timeout": f"{1000 * (request_s or REQUEST_S):.0f}ms"}
    make: Any = {"s3": library.store.S3Store, "gs": library.store.GCSStore, "az": library.store.AzureStore}[scheme]
    try:
        return make(name, config=limit, retry_config=retry)
    except library.exceptions.BaseError as error:
        raise UserError(f"{bucket}: {_reason(str(error))}") from None


def _reason(text: str) -> str:
    """Return a library's error in words: those of a known reason, else what its first line gives as the reason."""
    known = next((words for mark, words in REASONS.items() if mark in text), None)
    if known:
        return known
    line = text.splitlines()[0] if text else "without a word"
    again = "; run the same command again once it answers" if " retries" in line else ""
    return f"the store fails: {printable(line.rpartition(' - ')[2].strip(' :'))[:200]}{again}"
