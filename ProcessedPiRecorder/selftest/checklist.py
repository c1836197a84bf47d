"""What is checked, and why; and what only a person can check, and how."""

from __future__ import annotations

from typing import Callable, NamedTuple, Tuple

from . import checks, pause, pictures
from .context import Context, Finding

__all__ = ['BY_PERSON', 'CHECKS', 'ByPerson', 'Check']


class Check(NamedTuple):
    """Something that the machine checks by itself (and, with --questions, with someone's help)."""

    name: str
    why: str
    run: Callable[[Context], Finding]
    needs_camera: bool = True


class ByPerson(NamedTuple):
    """Something that takes hands."""

    name: str
    why: str
    how: Tuple[str, ...]     # prose, and commands, which begin with '$ '
    good: str                # what is to be seen then


CHECKS: Tuple[Check, ...] = (
    Check('machine', 'what this was run on; without it a report of a problem says little', checks.machine_facts, False),
    Check('disk', 'a disk that is too slow or too full costs frames, and FAT costs files', checks.disk, False),
    Check('camera', 'the camera opens, and says what it grants', checks.camera),
    Check('recording', 'every frame is in the file, in time, and can be read back', checks.recording),
    Check('callback', 'every frame goes through your code and comes back', checks.callback),
    Check('clock', "the camera's times can be trusted: they run as fast as the computer's", checks.clock),
    Check('losses', "lost frames are told: the camera's process is paused, and the gaps must agree with the report",
          pause.losses),
    Check('again', 'the camera is given back after a recording', checks.again),
    Check('busy', 'a camera in use is refused to others, and the recording in progress is not harmed', checks.busy),
    Check('exposure', 'exposure_us acts: a shorter one makes the picture darker', pictures.exposure),
    Check('mirror', 'hflip acts: it mirrors the picture', pictures.mirror),
    Check('eyes', 'with stereo: the two halves are two pictures', pictures.eyes),
    Check('lenses', 'with stereo: left is left', pictures.lenses),
    Check('power', 'under-voltage and heat, after the load of the recordings', checks.power, False),
)

BY_PERSON: Tuple[ByPerson, ...] = (
    ByPerson('unplug', 'a camera that goes away must be told, and what it gave must be safe',
             ('Pull the cable after 20 s. Ribbon cables are not made to be pulled under power: do this with a USB '
              'camera, or with a camera module that you can spare.',
              '$ ppr record pull.tif --no-display --seconds 60; echo exit code $?',
              '$ ppr verify pull.tif'),
             'within 10 s an error about the camera, exit code 3; 20 s of frames, VERIFIED'),
    ByPerson('power cut', 'a recording must survive it up to the last second or so',
             ('Pull the plug after a minute, boot, and look at the file.',
              '$ ppr record cut.tif --no-display --seconds 600',
              '$ ppr verify cut.tif'),
             'UNFINISHED, about a minute of frames, and no other disagreement'),
    ByPerson('full disk', 'a full disk must be told, and what is on it must be good',
             ('Fill the disk up to the last 100 MB (df -m . tells what is free), record, and remove the filler.',
              '$ fallocate -l $(($(df -m --output=avail . | tail -n 1) - 100))M filler',
              '$ ppr record full.tif --no-display --compression 0; echo exit code $?',
              '$ rm filler; ppr verify full.tif'),
             'an error about the disk, exit code 3; the frames up to then, VERIFIED'),
    ByPerson('cover a lens', 'the right picture must be on the right side',
             ('At the camera, with stereo:',
              '$ ppr selftest --stereo --questions',
              'With one camera: cover the lens for some seconds, and look at the pictures and their times.',
              '$ ppr record cover.tif --no-display --timestamp --seconds 20; ppr sheet cover.tif'),
             'the covered half, or the covered time, is dark'),
    ByPerson('stopwatch', 'no check by the computer sees a clock that goes wrong together with its own',
             ('Film a running stopwatch.',
              '$ ppr record watch.tif --no-display --timestamp --seconds 60; ppr sheet watch.tif'),
             'from the first frame to the last, the stopwatch and the burnt-in time went on by the same'),
    ByPerson('a long run', 'heat, memory cards and power supplies show themselves late',
             ('With the size and rate of your experiments, as long as one of them:',
              '$ ppr record long.tif --no-display --seconds 3600; vcgencmd get_throttled',
              '$ ppr verify long.tif'),
             'complete, throttled=0x0, VERIFIED'),
)
