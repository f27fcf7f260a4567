"""Downloads by HTTPS that go on where they stopped. A file gets its name only after it has been checked."""

from __future__ import annotations

import http.client
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from semantic_stereo_ros.checks import InputFileError
from semantic_stereo_ros.weights import cache
from semantic_stereo_ros.weights.catalogue import Weights

SCHEMES = ("https",)
TIMEOUT_S = 30.0
ATTEMPTS = 5
_BLOCK_BYTES = 1 << 20

Progress = Callable[[int], None]


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follows a server elsewhere only by an allowed scheme."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_scheme(url: str) -> None:
    """Raises InputFileError for an address that is not HTTPS."""
    if urlsplit(url).scheme not in SCHEMES:
        raise InputFileError(f"weights are only downloaded by https, got {url}")


def download(weights: Weights, progress: Progress | None = None) -> Path:
    """The checked file in the cache, downloaded unless it is there. progress(total bytes so far) is called as it grows.

    An interrupted download leaves a .part file, from which the next one goes on. Raises InputFileError: no network, no address, no room,
    or a file that is not what it should be (which is removed).
    """
    path = cache.path_of(weights)
    if path.is_file():
        cache.verify(weights, path)
        return path
    if not weights.url:
        raise InputFileError(f"{weights.name} cannot be downloaded by its address: {cache.where_to_put(weights)}")
    check_scheme(weights.url)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _check_room(weights, part)
    _fetch_all(weights, part, progress)
    return cache.accept(weights, part)


def _check_room(weights: Weights, part: Path) -> None:
    needed = weights.size_bytes - size_of(part)
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise InputFileError(
            f"{weights.name} needs {needed / 1e6:.0f} MB more and {part.parent} has {free / 1e6:.0f} MB free: make room, or set "
            f"{cache.VARIABLE} to a folder on another disk"
        )


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def _fetch_all(weights: Weights, part: Path, progress: Progress | None) -> None:
    """Attempts go on as long as each brings something. Raises InputFileError when the file stays incomplete."""
    reason = ""
    for _ in range(ATTEMPTS):
        before = size_of(part)
        if before > weights.size_bytes:
            part.unlink()
            before = 0
        if before == weights.size_bytes:
            return
        try:
            _fetch(weights, part, before, progress)
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            raise InputFileError(f"{weights.url} answered {error.code} {error.reason}; by hand: {cache.where_to_put(weights)}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        if size_of(part) <= before:
            break
    done = size_of(part)
    if done == weights.size_bytes:
        return
    raise InputFileError(
        f"{weights.url} could not be downloaded ({reason}; {done} of {weights.size_bytes} bytes are here): try again, which goes on from "
        f"there; without a network, {cache.where_to_put(weights)}"
    )


def _fetch(weights: Weights, part: Path, start: int, progress: Progress | None) -> None:
    """Append what the server sends from byte `start` on; a server that cannot do that sends all, and the part begins anew."""
    request = urllib.request.Request(weights.url, headers={"User-Agent": "semantic_stereo_ros"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    with urllib.request.build_opener(_Redirect).open(request, timeout=TIMEOUT_S) as response:
        resumed = response.status == http.client.PARTIAL_CONTENT
        offered = _offered_bytes(response, start if resumed else 0)
        if offered is not None and offered != weights.size_bytes:
            raise InputFileError(f"{weights.url} offers {offered} bytes, expected {weights.size_bytes}: it is another file, and is refused")
        with part.open("ab" if resumed else "wb") as file:
            done = start if resumed else 0
            while done < weights.size_bytes and (block := response.read1(min(_BLOCK_BYTES, weights.size_bytes - done))):
                file.write(block)
                done += len(block)
                if progress is not None:
                    progress(done)


def _offered_bytes(response: http.client.HTTPResponse, start: int) -> int | None:
    """The whole file's size as the server tells it, None when it does not. Raises InputFileError for a range that was not asked for."""
    if response.status == http.client.PARTIAL_CONTENT:
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if told is None or int(told[1]) != start:
            raise InputFileError(f"the server answered with the range {response.headers.get('Content-Range')!r}, expected one from {start}")
        return None if told[2] == "*" else int(told[2])
    length = response.headers.get("Content-Length")
    return int(length) if length is not None else None
