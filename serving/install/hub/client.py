"""A hub's HTTP interface: which files a model has at a revision, and their bytes."""

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.errors import LaunchError
from serving.process.environ import HUB_TOKENS

HUB = "https://huggingface.co"
TIMEOUT_S = 30.0
# Tries of a request; the wait doubles with each.
ATTEMPTS, LISTING_ATTEMPTS, WAIT_S = 5, 3, 1.0
LARGEST_BYTES = 64 << 20  # of a listing
NAMED = 8  # revisions that an error names
COMMIT = re.compile(r"[0-9a-f]{40}")
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


class FetchError(LaunchError):
    """A model could not be fetched; the evidence says why, and what would be right."""


class Unreachable(FetchError):
    """The hub does not answer, or not well."""


class _Outside(BaseModel):
    model_config = ConfigDict(frozen=True)


class Large(_Outside):
    """Of a file that is stored apart: its SHA-256."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ModelFile(_Outside):
    """One file. Its content has the SHA-256 of `lfs`, else it is the git blob of `blob_id`."""

    name: str = Field(alias="rfilename", min_length=1)
    size: int = Field(ge=0)
    blob_id: str = Field(alias="blobId", pattern=r"^[0-9a-f]{40}$")
    lfs: Large | None = None

    @property
    def etag(self) -> str:
        """Under which the cache keeps it."""
        return self.blob_id if self.lfs is None else self.lfs.sha256


class Listing(_Outside):
    """A model at a commit."""

    sha: str = Field(pattern=r"^[0-9a-f]{40}$")
    siblings: tuple[ModelFile, ...]


@dataclass(frozen=True, slots=True)
class Hub:
    """`environ`: where its address and token are; the token goes into no argument, file or message."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    @property
    def endpoint(self) -> str:
        """HF_ENDPOINT, else the public hub."""
        return (self.environ.get("HF_ENDPOINT") or HUB).rstrip("/")

    @property
    def token(self) -> str:
        """Of HF_TOKEN; empty: none is set."""
        return next(
            (found for name in HUB_TOKENS if (found := self.environ.get(name, "").strip())), ""
        )

    def listing(self, model: str, revision: str | None) -> Listing:
        """Commit and files of a revision; None: the default branch. Raises FetchError."""
        at = f"/revision/{urllib.parse.quote(revision, safe='')}" if revision else ""
        data = self._json(f"/api/models/{model}{at}?blobs=true", model, revision)
        try:
            found = Listing.model_validate(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise Unreachable(
                f"{self.endpoint}: not a hub's answer about {model}: {where}: {first['msg']}"
            ) from error
        for each in found.siblings:
            path = PurePosixPath(each.name)
            if path.is_absolute() or ".." in path.parts or "\0" in each.name:
                raise FetchError(
                    f"{model}: a file is named {each.name!r}, outside of the model's folder"
                )
        return found

    @contextmanager
    def opened(
        self, model: str, commit: str, name: str, start: int
    ) -> Iterator[tuple[IO[bytes], int]]:
        """The bytes of a file from `start` on, and where they start: 0 without ranges. Raises FetchError."""
        path = f"/{model}/resolve/{commit}/{urllib.parse.quote(name)}"
        with self._open(
            path, model, commit, {"Range": f"bytes={start}-"} if start else {}
        ) as answer:
            yield answer, start if answer.status == 206 else 0

    def _json(self, path: str, model: str, revision: str | None) -> Any:
        for attempt in range(LISTING_ATTEMPTS):
            try:
                with self._open(path, model, revision, {}) as answer:
                    return json.loads(answer.read(LARGEST_BYTES))
            except Unreachable:
                if attempt + 1 == LISTING_ATTEMPTS:
                    raise
                time.sleep(WAIT_S * 2**attempt)
            except (ValueError, OSError, http.client.HTTPException) as error:
                raise Unreachable(
                    f"{self.endpoint}: not a hub's answer about {model}: {error}"
                ) from error
        raise AssertionError("unreachable")

    @contextmanager
    def _open(
        self, path: str, model: str, revision: str | None, headers: Mapping[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        request = urllib.request.Request(self.endpoint + path, headers={**headers})
        request.add_header("User-Agent", "wattfront")
        request.add_header("Accept-Encoding", "identity")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            answer = _OPENER.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error, model, revision) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise Unreachable(
                f"{model}: {self.endpoint} can't be reached: {reason}: check the network, HTTPS_PROXY and "
                "HF_ENDPOINT; without a network name a path in model.source, or fill the cache "
                "(HF_HOME) and set HF_HUB_OFFLINE=1"
            ) from error
        with answer:
            yield answer

    def _refused(
        self, error: urllib.error.HTTPError, model: str, revision: str | None
    ) -> FetchError:
        code, page = error.headers.get("X-Error-Code", ""), f"{self.endpoint}/{model}"
        if code == "GatedRepo":
            todo = (
                f"the account of HF_TOKEN has no access: ask for it at {page}"
                if self.token
                else f"ask for access at {page}, and set HF_TOKEN"
            )
            return FetchError(f"{model} is gated: {todo}")
        if code == "RevisionNotFound":
            return FetchError(f"{model} has no revision {revision}{self._revisions(model)}")
        if code == "EntryNotFound":
            return FetchError(f"{model}: a file is gone from {error.url}: fetch it again")
        if error.code == 401 and self.token and code != "RepoNotFound":
            return FetchError(
                f"{model}: {self.endpoint} refuses HF_TOKEN: it is wrong, or has expired"
            )
        if error.code in (401, 404):
            private = "" if self.token else ", or it is private and HF_TOKEN is not set"
            return FetchError(
                f"there is no model {model} at {self.endpoint}: check model.source{private}"
            )
        kind = Unreachable if error.code in _TRANSIENT else FetchError
        text = error.headers.get("X-Error-Message") or error.reason
        return kind(f"{model}: {self.endpoint} answers {error.code}: {text}")

    def _revisions(self, model: str) -> str:
        """As a hint: those that it has; empty where the hub does not say."""
        try:
            with self._open(f"/api/models/{model}/refs", model, None, {}) as answer:
                refs = json.loads(answer.read(LARGEST_BYTES))
            names = [
                str(each["name"]) for kind in ("branches", "tags") for each in refs.get(kind, ())
            ]
        except (FetchError, ValueError, OSError, LookupError, AttributeError, TypeError):
            return " (model.revision)"
        more = ", …" if len(names) > NAMED else ""
        return f"; model.revision is one of {', '.join(names[:NAMED])}{more}, or a commit"


class _Redirect(urllib.request.HTTPRedirectHandler):
    """A token is for the hub alone, not for the host that stores its files."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if (
            made is not None
            and urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(req.full_url).netloc
        ):
            made.remove_header("Authorization")
        return made


_OPENER = urllib.request.build_opener(_Redirect)
