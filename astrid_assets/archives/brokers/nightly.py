"""ZTF's public alert archive: one tar of all packets of a night, from 10 MB to more than 10 GB.

The tar is fetched, compared with its checksum, read as a stream and never unpacked to disk.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from astrid_assets.archives.alerts import packet_files, read_packets
from astrid_assets.archives.brokers.encoding import pack
from astrid_assets.archives.brokers.night import Night, shown, within
from astrid_assets.archives.transport.request import Request
from astrid_assets.errors import ArchiveUnavailableError, BadAnswerError, NoCoverageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from astrid_assets.archives.protocol import Cone
    from astrid_assets.archives.transport import Transport

__all__ = ["checksum_of", "checksums_request", "fetch", "packets_within", "parse_checksums", "tar_request"]

_SERVICE = "ztf_alerts"
_FOLDER = "/alerts/public"


def checksums_request(night: Night) -> Request:
    """Return the question which nights there are, with the MD5 of each file."""
    return Request(_SERVICE, f"{_FOLDER}/MD5SUMS", kind="alerts", expects="table", headers=night.headers)


def parse_checksums(content: bytes) -> dict[str, str]:
    """Return the MD5 of each file of the archive by its name.

    Raises
    ------
    BadAnswerError
        The answer lists no file.
    """
    lines = content.decode("utf-8", "replace").splitlines()
    found = [
        re.fullmatch(r"([0-9a-f]{32})\s+\*?(?:\S*/)?(ztf_public_\d{8}\.tar\.gz)", line.strip())
        for line in lines
    ]
    sums = {match[2]: match[1] for match in found if match}
    if not sums:
        raise BadAnswerError(f"ZTF alert archive: no list of checksums: {shown(content)}")
    return sums


def tar_request(night: Night) -> Request:
    """Return the question for all packets of a night."""
    path = f"{_FOLDER}/ztf_public_{night.date}.tar.gz"
    return Request(_SERVICE, path, kind="file", expects="tar", nothing=frozenset({404}))


def checksum_of(night: Night, sums: Mapping[str, str]) -> str:
    """Return the MD5 of the file of a night.

    Raises
    ------
    NoCoverageError
        The archive has later nights, but not this one: there were no alerts.

    ArchiveUnavailableError
        The archive has not come to this night yet.
    """
    name = Path(tar_request(night).path).name
    if name in sums:
        return sums[name]
    if max(sums) > name:
        raise NoCoverageError(f"the public alert archive has no {name}: no alerts in this night")
    raise ArchiveUnavailableError(f"the public alert archive has no {name} yet; its last is {max(sums)}")


def packets_within(path: Path, cone: Cone) -> list[tuple[str, bytes]]:
    """Return name and content of the packets of a tar that lie in a circle, as they are.

    Packets that cannot be read come with them, at the end: nobody knows where they lie, and the reader
    of the packets reports them.

    Raises
    ------
    NoCoverageError
        None lies there; the message counts those that cannot be read.

    BadAnswerError
        The tar is broken.
    """
    found: list[tuple[str, bytes]] = []
    unreadable: list[tuple[str, bytes]] = []
    read = 0
    with path.open("rb") as stream:
        for name, content in packet_files(stream, path.name):
            read += 1
            try:
                packet = next(read_packets(content))
            except (BadAnswerError, StopIteration):
                unreadable.append((Path(name).name, content))
                continue
            if within(cone, packet.ra, packet.dec):
                found.append((Path(name).name, content))
    if not found:
        broken = f"; {len(unreadable)} cannot be read ({unreadable[0][0]}, ...)" if unreadable else ""
        raise NoCoverageError(f"{path.name}: none of {read} alerts in the circle{broken}")
    return found + unreadable


def fetch(transport: Transport, night: Night, cone: Cone) -> bytes:
    """Return the packets of a night in a circle, as a tar.

    Raises
    ------
    ArchiveUnavailableError, NoCoverageError, BadAnswerError
        As of the network; BadAnswerError also where the file differs from its checksum.
    """
    sums = parse_checksums(transport.ask(checksums_request(night)).content)
    md5 = checksum_of(night, sums)
    store = transport.settings.store  # where downloads arrive: the tar does not move between disks
    with tempfile.TemporaryDirectory(prefix="night-", dir=store) as folder:
        request = tar_request(night)
        path = Path(folder) / Path(request.path).name
        transport.download(request, path)
        if (arrived := _md5(path)) != md5:
            raise BadAnswerError(f"{path.name}: MD5 is {arrived}, the archive says {md5}")
        return pack(packets_within(path, cone))


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
