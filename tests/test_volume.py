"""What a folder lies on, asked of the kernel: real mounts where this user may make them, else invented lines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict

import pytest

from ProcessedPiRecorder.errors import RecordingFileError
from ProcessedPiRecorder.recordings import volume
from ProcessedPiRecorder.recordings.volume import Volume, volume_of

REPO = Path(__file__).resolve().parent.parent


def may_mount() -> bool:
    """Whether mounts can be made in a namespace of their own, which leaves none behind."""
    return shutil.which('unshare') is not None and subprocess.run(
        ['unshare', '--mount', 'mount', '-t', 'tmpfs', 'none', '/mnt'], capture_output=True).returncode == 0


needs_mounts = pytest.mark.skipif(not may_mount(), reason='only root may mount')


def kinds(setup: str, folder: Path, *names: str) -> Dict[str, str]:
    """{name: 'kind mount'} of these paths below the folder, after this shell script has mounted things there."""
    ask = ('import sys; from pathlib import Path; from ProcessedPiRecorder.recordings.volume import volume_of\n'
           'for name in sys.argv[1:]: print(name, *volume_of(Path(name))[:2])')
    script = f'set -e\ncd "$0"\n{setup}\nexec "$@"'
    done = subprocess.run(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, str(folder),
                           sys.executable, '-c', ask, *names], text=True, capture_output=True,
                          env={**os.environ, 'PYTHONPATH': str(REPO)})
    assert done.returncode == 0, done.stderr
    return dict(line.split(' ', 1) for line in done.stdout.splitlines())


def invented(monkeypatch: pytest.MonkeyPatch, folder: Path, *lines: str, number: int = 24) -> None:
    """The kernel's list of mounts, and that every path lies on the one of this number."""
    (folder / 'mounts').write_text('\n'.join(lines))
    monkeypatch.setattr(volume, 'MOUNTS', folder / 'mounts')
    monkeypatch.setattr(volume, '_mount_number', lambda fd: number)


def test_it_tells_the_room_and_a_mount_above_the_folder(tmp_path: Path) -> None:
    place = volume_of(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    assert place.total == usage.total and abs(place.free - usage.free) < 10**9
    above = {str(folder) for folder in [tmp_path.resolve(), *tmp_path.resolve().parents]}
    if not any(line.split()[4] in above for line in volume.MOUNTS.read_text().splitlines()):
        assert (place.kind, place.mount) == ('unknown', None)
        pytest.skip('the root of this machine is a folder of another one (chroot), whose mounts cannot be seen')
    assert place.kind != 'unknown' and place.mount is not None
    assert place.mount == tmp_path or place.mount in tmp_path.resolve().parents
    assert os.path.ismount(place.mount)


def test_a_file_and_a_file_to_be_lie_where_their_folder_lies(tmp_path: Path) -> None:
    (tmp_path / 'there').touch()
    wanted = volume_of(tmp_path)[:2]
    assert volume_of(tmp_path / 'there')[:2] == volume_of(tmp_path / 'not yet')[:2] == wanted


def test_what_cannot_be_asked_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecordingFileError, match='absent.*choose a folder that exists'):
        volume_of(tmp_path / 'absent' / 'folder')


def test_it_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = os.listdir('/proc/self/fd')
    volume_of(tmp_path)
    assert len(os.listdir('/proc/self/fd')) == len(before)


@needs_mounts
def test_the_last_mount_on_a_point_hides_the_others(tmp_path: Path) -> None:
    told = kinds('mkdir "a b" inner; mount -t tmpfs none "a b"; mkdir "a b/c"; mount -t ramfs none "a b"; '
                 'mkdir "a b/c"; ln -s "a b/c" link', tmp_path, 'a b', 'link', 'inner')
    assert told.pop('a') == f'b ramfs {tmp_path}/a b'                  # the name has a space
    assert told['link'] == f'ramfs {tmp_path}/a b' and 'ramfs' not in told['inner']


@needs_mounts
def test_bind_mounts_are_told_by_their_own_point_though_they_share_a_device_number(tmp_path: Path) -> None:
    told = kinds('mkdir one two three; mount -t tmpfs none one; mkdir one/deep; mount --bind one/deep two; '
                 'mount --bind . three', tmp_path, 'one', 'two', 'three')
    assert told['one'] == f'tmpfs {tmp_path}/one' and told['two'] == f'tmpfs {tmp_path}/two'
    assert told['three'].endswith(f' {tmp_path}/three') and not told['three'].startswith('tmpfs')


@needs_mounts
def test_an_overlay_on_memory_is_memory(tmp_path: Path) -> None:
    ask = ('from pathlib import Path; from ProcessedPiRecorder.recordings.volume import volume_of; '
           'place = volume_of(Path("merged")); print(place.kind, place.upper, place.is_memory, place.risk)')
    script = ('set -e; cd "$0"; mkdir ram lower merged; mount -t tmpfs none ram; mkdir ram/upper ram/work; '
              'mount -t overlay -o "lowerdir=$0/lower,upperdir=$0/ram/upper,workdir=$0/ram/work" none merged; '
              'exec "$@"')
    done = subprocess.run(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, str(tmp_path),
                           sys.executable, '-c', ask], text=True, capture_output=True,
                          env={**os.environ, 'PYTHONPATH': str(REPO)})
    if 'unknown filesystem' in done.stderr:
        pytest.skip('this kernel has no overlay')
    assert done.stdout.strip() == 'overlay tmpfs True it lives in memory and is gone at the next boot', done.stderr


def test_a_subvolume_is_found_though_its_device_number_is_in_no_list(tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    invented(monkeypatch, tmp_path, '22 1 8:1 / / rw shared:1 - ext4 /dev/root rw', 'nonsense', '',
             '24 22 0:31 /@home /home\\040of\\134us rw,noatime shared:7 master:2 - btrfs /dev/sda2 rw,subvol=/@home',
             '25 22 8:3 / /home rw - vfat /dev/sdb1 rw')
    assert volume_of(tmp_path)[:2] == ('btrfs', Path('/home of\\us'))


def test_a_mount_that_no_list_has_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    invented(monkeypatch, tmp_path, '22 1 8:1 / / rw - ext4 /dev/root rw')
    place = volume_of(tmp_path)
    assert place[:2] == ('unknown', None) and place.free > 0 and place.risk == ''


def test_a_kernel_that_tells_nothing_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume, 'MOUNTS', tmp_path / 'nothing')
    monkeypatch.setattr(volume, 'DESCRIPTORS', tmp_path / 'nothing')
    assert volume_of(tmp_path)[:2] == ('unknown', None)


@pytest.mark.parametrize(('kind', 'is_fat', 'is_memory', 'is_network', 'words'), [
    ('ext4', False, False, False, ''), ('vfat', True, False, False, '4 GB'), ('tmpfs', False, True, False, 'memory'),
    ('nfs4', False, False, True, 'network'), ('fuse.sshfs', False, False, True, 'network'),
    ('exfat', False, False, False, 'journal'), ('fuseblk', False, False, False, 'journal'),
    ('overlay', False, False, False, 'upper layer'), ('fuse.mergerfs', False, False, False, 'a program serves it')])
def test_what_is_to_be_said_against_a_kind(kind: str, is_fat: bool, is_memory: bool, is_network: bool,
                                           words: str) -> None:
    place = Volume(kind, Path('/'), 1, 2)
    assert (place.is_fat, place.is_memory, place.is_network) == (is_fat, is_memory, is_network)
    assert words in place.risk and bool(place.risk) == bool(words)
