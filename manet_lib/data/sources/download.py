"""Fetching archives: resumed where they broke off, checked against a lock file, unpacked safely.

No publisher of these archives states a checksum. The first complete download of each is written to ``lock.json``
(URL, bytes, SHA-256, date); later downloads must match it.
"""

import errno
import hashlib
import http.client
import json
import lzma
import shutil
import stat
import urllib.error
import urllib.request
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from manet_lib.data.sources.base import Archive
from manet_lib.params import UserError
from manet_lib.workflow.digests import sha256_of
from manet_lib.workflow.progress import bar
from manet_lib.workflow.records import claimed, write_json

_CHUNK = 1 << 20
_ATTEMPTS = 4
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)


def fetch(archive: Archive, folder: Path, *, mirror: str = "", timeout: float = 60.0) -> Path:
    """Download an archive, going on where an earlier attempt broke off.

    The bytes go to a partial file, which takes the archive's name only when its size and hash are right; so a file
    under that name is whole. Each address has a partial file of its own. A second process waits for the first.

    Args:
        archive: what to fetch.
        folder: where to put it; ``lock.json`` is kept beside it.
        mirror: base address to fetch from instead, as ``<mirror>/<name>``; the size that the publisher states is
            not checked there, because a mirror may pack the archive differently.
        timeout: seconds without a byte after which the server counts as stalled.

    Returns:
        The file.

    Raises:
        UserError: one line with the address and the cause: not found, stalled, wrong size, another hash than
            the lock file's, or a lock file that is not JSON.
    """
    target = folder / archive.name
    if not target.is_file():
        with claimed(target, wait=True):
            if not target.is_file():  # another process may have fetched it meanwhile
                _fetch(archive, target, mirror, timeout)
    return target


def _fetch(archive: Archive, target: Path, mirror: str, timeout: float) -> None:
    _locked(target.parent)  # a lock file that cannot be read is named before the download
    url = f"{mirror.rstrip('/')}/{archive.name}" if mirror else archive.url
    part = target.with_name(f"{archive.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")
    reason = ""
    for _ in range(_ATTEMPTS):
        try:
            total = _continue(url, part, archive.name, timeout)
        except urllib.error.HTTPError as error:
            raise UserError(
                f"{archive.name}: {url}: the server answers {error.code} {error.reason}; "
                "set mirror, or fetch it by hand"
            ) from None
        except (OSError, ValueError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
            reason = str(getattr(error, "reason", error)) or type(error).__name__
            continue
        if total and part.stat().st_size < total:
            reason = f"the connection broke off after {part.stat().st_size:,} of {total:,} bytes"
            continue
        _check(archive, url, part, total if mirror else archive.bytes or total)
        part.replace(target)
        for other in target.parent.glob(f"{archive.name}.*.part"):  # of other addresses
            other.unlink()
        return
    raise UserError(f"{archive.name}: {url}: {reason}; call again to go on from there")


def _continue(url: str, part: Path, name: str, timeout: float) -> int:
    """Append what is missing to the partial file; returns the whole size that the server states, or 0."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response: Any = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to send
            return int(error.headers.get("Content-Range", "*/0").rpartition("/")[2] or 0)
        raise
    with response:
        resumed = response.status == 206
        length = int(response.headers.get("Content-Length") or 0)
        total = length + (have if resumed else 0) if length else 0
        with part.open("ab" if resumed else "wb") as file:
            chunks = iter(lambda: response.read(_CHUNK), b"")
            for chunk in bar(chunks, max(1, length // _CHUNK), name):
                file.write(chunk)
    return total


def _locked(folder: Path) -> dict[str, Any]:
    """The contents of a folder's lock file, or nothing where there is none."""
    path = folder / "lock.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (ValueError, TypeError) as error:
        raise UserError(f"lock.json: is not a JSON object: {error}; correct or remove it") from None


def _check(archive: Archive, url: str, part: Path, expected: int) -> None:
    size = part.stat().st_size
    if expected and size != expected:
        part.unlink()
        raise UserError(f"{archive.name}: {url}: {size:,} bytes, expected {expected:,}; not kept; call again")
    digest = sha256_of(part)
    lock = _locked(part.parent)
    known = lock.get(archive.name)
    if known is None:
        today = datetime.now(UTC).date().isoformat()
        lock[archive.name] = {"url": url, "bytes": size, "sha256": digest, "date": today}
        write_json(part.with_name("lock.json"), lock)
    elif known["sha256"] != digest:
        part.unlink()
        raise UserError(
            f"{archive.name}: {url}: SHA-256 is {digest[:12]}..., lock.json of {known['date']} says "
            f"{known['sha256'][:12]}...; not kept. If the publisher changed it, remove its entry from lock.json"
        )


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a zip archive into a folder of its own, all or nothing.

    Args:
        archive: the file.
        folder: receives the members; written under a temporary name first.

    Returns:
        The folder.

    Raises:
        UserError: the archive is damaged, or holds an absolute path, a path with ``..`` or a link.
    """
    if folder.is_dir():
        return folder
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            for member in members:
                _refuse_unsafe(archive, member)
            for member in bar(members, len(members), f"unpacking {archive.name}"):
                target = temporary / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, _CHUNK)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, UserError):
            raise
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise UserError(
                f"{archive.name}: cannot be unpacked: {error.strerror or error}; check space and permissions"
            ) from None
        raise UserError(f"{archive.name}: damaged or truncated ({error}); remove it and fetch it again") from None
    temporary.replace(folder)
    return folder


def _refuse_unsafe(archive: Path, member: zipfile.ZipInfo) -> None:
    name = PurePosixPath(member.filename.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or ":" in "".join(name.parts[:1]):
        raise UserError(
            f"{archive.name}: holds {member.filename!r}, which would leave its folder; not unpacked; "
            "fetch the archive again"
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise UserError(
            f"{archive.name}: holds the link {member.filename!r}; not unpacked; fetch the archive again"
        )
