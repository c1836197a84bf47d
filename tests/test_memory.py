"""How much memory can still be had, as the files of a machine with and without control groups tell it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from ProcessedPiRecorder import memory
from ProcessedPiRecorder.memory import available_memory

GB = 1 << 30
V1, V2 = '/sys/fs/cgroup/memory', '/sys/fs/cgroup'
V1_NAMES = ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file', 'total_active_file')
V2_NAMES = ('memory.max', 'memory.current', 'inactive_file', 'active_file')


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Dict[str, str]], None]:
    """Makes these the files of a machine that has 64 GB available."""
    monkeypatch.setattr(memory, 'Path', lambda first, *parts: Path(f'{tmp_path}{first}', *parts))
    monkeypatch.setattr('sys.maxsize', 2**63 - 1)

    def make(files: Dict[str, str]) -> None:
        for name, text in {'/proc/meminfo': f'MemTotal: 9 kB\nMemAvailable: {64 << 20} kB\n', **files}.items():
            path = Path(f'{tmp_path}{name}')
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return make


def group(folder: str, names: Any, limit: Any, usage: int, stat: str = '') -> Dict[str, str]:
    """The files of a control group; the names of what is in ``stat`` are put in."""
    told = {f'{folder}/{names[0]}': f'{limit}\n', f'{folder}/{names[1]}': f'{usage}\n'}
    return {**told, f'{folder}/memory.stat': stat.format(*names)} if stat else told


@pytest.mark.parametrize(('root', 'names', 'own'), [(V1, V1_NAMES, '4:cpu,memory:/pod/a\n'),
                                                    (V2, V2_NAMES, '0::/pod/a\n')])
def test_file_cache_in_a_control_group_can_still_be_had(root: str, names: Any, own: str, machine: Any) -> None:
    stat = f'anon {GB}\n{{2}} {3 * GB}\n{{3}} {2 * GB}\nshmem {GB}\n'
    machine({'/proc/self/cgroup': own, **group(f'{root}/pod/a', names, 8 * GB, 7 * GB, stat)})
    assert available_memory() == 6 * GB
    # A level further up may be tighter, and has a cache of its own.
    machine(group(f'{root}/pod', names, 8 * GB, 8 * GB, f'{{2}} {4 * GB}\n{{3}} 4096\n'))
    assert available_memory() == 4 * GB + 4096
    # Counted at another moment than the usage: there is never more to be had than the limit.
    machine(group(f'{root}/pod/a', names, 2 * GB, GB, stat))
    assert available_memory() == 2 * GB
    # More is used than a limit that was set afterwards allows.
    machine(group(f'{root}/pod/a', names, 2 * GB, 4 * GB, f'{{2}} {GB}\n{{3}} 0\n'))
    assert available_memory() == 0


@pytest.mark.parametrize('stat', ['', 'nonsense\n', '{2} 12\n', '{2} many\n{3} 0\n', '{2} 1 2\n{3} 1\n',
                                  '{2} -9\n{3} 1\n'])
def test_what_is_not_told_of_the_cache_adds_nothing(stat: str, machine: Any) -> None:
    machine({'/proc/self/cgroup': '0::/\n', **group(V2, V2_NAMES, 8 * GB, 7 * GB, stat)})
    assert available_memory() == GB


def test_without_a_limit_it_is_what_the_machine_has(machine: Any) -> None:
    machine({})
    assert available_memory() == 64 * GB
    machine({'/proc/self/cgroup': '0::/a\n', **group(f'{V2}/a', V2_NAMES, 'max', 7 * GB)})
    assert available_memory() == 64 * GB
