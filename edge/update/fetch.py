"""Files of a repository, from a folder, a stick or a web server; a download that broke off goes on later."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient import FetcherInterface

from edge.update.release import RefusedError

__all__ = ["FolderFetcher", "WebFetcher", "secured"]

_CHUNK = 64 << 10
_SILENCE_S = 30.0  # without a byte for so long the download breaks off
_SPARE = 64 << 20  # bytes of the disk that a download leaves free


class FolderFetcher(FetcherInterface):
    """Reads regular files below a folder; a stick may come and go."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            descriptor = os.open(url, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError as error:
            if not Path(url).parent.is_dir():
                raise DownloadError(f"{Path(url).parent}: not there") from error
            raise DownloadHTTPError(f"{url}: not there", 404) from error
        file = os.fdopen(descriptor, "rb")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            file.close()
            raise DownloadError(f"{url}: no file")
        return _chunks(file, lambda _: None)


class WebFetcher(FetcherInterface):
    """Reads by http or https; does not follow redirections.

    Files whose name begins with their hash are kept in ``partial`` while they come, and go on from there.
    ``charge`` is told of bytes before they are taken, and may refuse by an error.
    """

    def __init__(self, partial: Path, context: ssl.SSLContext | None, charge: Callable[[int], None]) -> None:
        self._partial, self._charge = partial, charge
        handlers: list[HTTPSHandler] = [HTTPSHandler(context=context)] if context else []
        self._opener: OpenerDirector = build_opener(_NoRedirect, *handlers)

    def _fetch(self, url: str) -> Iterator[bytes]:
        return _chunks(self._open(url, 0)[0], self._charge)

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """See :meth:`FetcherInterface.download_file`; what had come of a target is taken up again."""
        name = url.rpartition("/")[2]
        if not _begins_with_hash(name):
            with super().download_file(url, max_length) as whole:
                yield whole
            return
        self._partial.mkdir(parents=True, exist_ok=True)
        path = self._partial / name
        for other in self._partial.iterdir():
            if other != path:
                other.unlink()
        with path.open("ab") as file:
            had = file.tell()
            if had > max_length:
                file.truncate(had := 0)
            if had < max_length:
                if shutil.disk_usage(path.parent).free < max_length - had + _SPARE:
                    raise RefusedError("no_room", f"{name[65:]}: no room on the disk for {max_length} bytes")
                answer, from_ = self._open(url, had)
                file.truncate(from_)
                for chunk in _chunks(answer, self._charge):
                    from_ += len(chunk)
                    if from_ > max_length:
                        file.truncate(0)
                        raise DownloadLengthMismatchError(f"{url}: more than its {max_length} bytes")
                    file.write(chunk)
                if from_ < max_length:
                    raise DownloadError(f"{url}: broke off after {from_} of {max_length} bytes")
        try:
            with path.open("rb") as file:
                yield file
        finally:  # right or wrong: it is not used again
            path.unlink(missing_ok=True)

    def _open(self, url: str, offset: int) -> tuple[IO[bytes], int]:
        """The answer, and the offset that it begins at: 0 where the server gives no parts."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        request = Request(quote(url, safe=":/?&=%[]@"), headers=headers)
        try:
            answer = self._opener.open(request, timeout=_SILENCE_S)
        except HTTPError as error:
            raise DownloadHTTPError(f"{url}: the server says {error.code}", error.code) from error
        except (URLError, HTTPException, OSError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise DownloadError(f"{url}: cannot be reached ({reason})") from error
        return answer, offset if answer.status == 206 else 0


def secured(ca: Path, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """A context that believes one authority alone, and shows a certificate if there is one.

    Raises:
        OSError: a file cannot be read, or is none (ssl.SSLError).
    """
    context = ssl.create_default_context(cafile=str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate and key:
        context.load_cert_chain(certificate, key)
    return context


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _begins_with_hash(name: str) -> bool:
    head, dot, _ = name.partition(".")
    return bool(dot) and len(head) == 64 and not set(head) - set("0123456789abcdef")


def _chunks(file: IO[bytes], charge: Callable[[int], None]) -> Iterator[bytes]:
    with file:
        while True:
            charge(_CHUNK)
            try:
                chunk = file.read(_CHUNK)
            except (OSError, HTTPException) as error:
                raise DownloadError(f"broke off ({error})") from error
            if not chunk:
                return
            yield chunk
