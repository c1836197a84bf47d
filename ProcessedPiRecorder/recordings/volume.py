"""What a folder lies on: kind of file system, where it is mounted, how much room there is."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from ..errors import RecordingFileError

__all__ = ['Volume', 'volume_of']

MOUNTS = Path('/proc/self/mountinfo')
DESCRIPTORS = Path('/proc/self/fdinfo')
UNKNOWN = 'unknown'

FAT = frozenset({'vfat', 'msdos', 'fat'})
MEMORY = frozenset({'tmpfs', 'ramfs'})
NO_JOURNAL = frozenset({'exfat', 'ntfs', 'ntfs3', 'fuseblk'})
NETWORK = frozenset({'nfs', 'nfs4', 'cifs', 'smb3', 'smbfs', '9p', 'ceph', 'afs', 'glusterfs', 'lustre', 'davfs'})
NETWORK_IN_USER_SPACE = frozenset({'fuse.sshfs', 'fuse.rclone', 'fuse.s3fs', 'fuse.gcsfuse', 'fuse.davfs2',
                                   'fuse.curlftpfs', 'fuse.glusterfs', 'fuse.ceph', 'fuse.smbnetfs',
                                   'fuse.gvfsd-fuse'})


class Volume(NamedTuple):
    """What a path lies on. Bytes: ``free`` as this user may fill them, ``total`` of the whole file system.

    ``kind`` is the kernel's name ('ext4', 'vfat', 'nfs4', 'fuse.sshfs', …), 'unknown' where the kernel does not tell.
    ``mount`` is None then. ``upper`` is, for an overlay, what its upper layer lies on, where that can be seen.
    """

    kind: str
    mount: Optional[Path]
    free: int
    total: int
    upper: str = ''

    @property
    def is_fat(self) -> bool:
        """No file can be larger than 4 GB."""
        return self.kind in FAT

    @property
    def is_memory(self) -> bool:
        """What is written takes memory, and is gone at the next boot."""
        return self.kind in MEMORY or self.upper in MEMORY

    @property
    def is_network(self) -> bool:
        """What is written crosses a network."""
        return self.kind in NETWORK or self.kind in NETWORK_IN_USER_SPACE

    @property
    def risk(self) -> str:
        """What there is to be said against recording onto it, without its name; '' if nothing is known."""
        if self.is_fat:
            return 'FAT ends a file at 4 GB, and a power cut can take the whole file along; record to ext4'
        if self.is_memory:
            return 'it lives in memory and is gone at the next boot'
        if self.is_network:
            return 'a network can pause for longer than the ring of frames bridges'
        if self.kind in NO_JOURNAL:
            return 'it keeps no journal, so that a power cut can take a file along'
        if self.kind == 'overlay':
            return ('its upper layer may be gone with the container, or (raspi-config\'s overlay file system) at the '
                    'next boot')
        if self.kind.partition('.')[0] == 'fuse':
            return 'a program serves it, and how that keeps what is written cannot be told from here'
        return ''


def volume_of(path: Path) -> Volume:
    """What a file or folder lies on; for a path that does not exist yet, its folder.

    Asks the kernel for the mount of the opened path, so that bind mounts, mounts over mounts, and subvolumes with
    device numbers of their own are told right. Blocks for as long as the file system does (a network that is gone).
    Raises RecordingFileError where there is no such folder, or it may not be entered.
    """
    try:
        fd = _open(path)
        try:
            room = os.statvfs(fd)
            mount = _mount_of(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise RecordingFileError(f'what {path} lies on cannot be found out: {error.strerror or error}; choose a folder '
                                 'that exists and that you may enter') from error
    free, total = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    if mount is None:
        return Volume(UNKNOWN, None, free, total)
    return Volume(mount.kind, mount.point, free, total, _upper_kind(mount))


class _Mount(NamedTuple):
    """A line of mountinfo."""

    number: int
    point: Path
    kind: str
    options: Dict[str, str]      # of the file system; flags have the value ''


def _open(path: Path) -> int:
    # As a folder first, which has the kernel mount what is mounted on demand.
    for candidate, flags in ((path, os.O_DIRECTORY), (path, 0), (path.parent, os.O_DIRECTORY)):
        try:
            return os.open(candidate, os.O_PATH | os.O_CLOEXEC | flags)
        except (NotADirectoryError, FileNotFoundError) as error:
            missing = error
    raise missing


def _mount_of(fd: int) -> Optional[_Mount]:
    number = _mount_number(fd)
    return next((mount for mount in _mounts() if mount.number == number), None)


def _mount_number(fd: int) -> Optional[int]:
    found = re.search(r'^mnt_id:\s*([0-9]+)$', _text(DESCRIPTORS / str(fd)), re.MULTILINE)
    return int(found.group(1)) if found else None


def _mounts() -> List[_Mount]:
    mounts = []
    for line in _text(MOUNTS).splitlines():
        # number parent device root point options [optional fields] - kind source options
        fields = line.split(' ')
        if len(fields) >= 9 and '-' in fields[6:] and fields[0].isdigit():
            kind, options = fields[fields.index('-', 6) + 1], fields[-1].split(',')
            mounts.append(_Mount(int(fields[0]), Path(_unescaped(fields[4])), kind,
                                 {key: _unescaped(value) for key, _, value in (item.partition('=')
                                                                               for item in options)}))
    return mounts


def _upper_kind(mount: _Mount) -> str:
    """What an overlay's upper layer lies on; '' where that cannot be seen from here, as in a container."""
    layer = mount.options.get('upperdir', '')
    if mount.kind != 'overlay' or not layer.startswith('/') or not os.path.isdir(layer):
        return ''
    fd = _open(Path(layer))
    try:
        below = _mount_of(fd)
    finally:
        os.close(fd)
    return below.kind if below is not None else ''


def _unescaped(field: str) -> str:
    return re.sub(r'\\([0-7]{3})', lambda found: chr(int(found.group(1), 8)), field)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8', errors='surrogateescape')
    except OSError:
        return ''
