"""From the measurements to an answer: ok, tight or no, why, and what to change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, NamedTuple, Optional

from .limits import (
    CALLBACK,
    CAMERA,
    COMPRESSION,
    DISK,
    PROCESSOR,
    Rates,
    camera_is_slow,
    limiting_stage,
    lost_on_the_way,
    rates,
    stage_rates,
)
from .run import Measurements
from .trial import Trial

__all__ = ['NO', 'NOTE', 'OK', 'TIGHT', 'Finding', 'Judgement', 'judge', 'seconds_left']

OK, TIGHT, NO = 'ok', 'tight', 'no'
NOTE = 'note'                     # of a finding: worth knowing, and nothing against the recording
_WEIGHT = {NOTE: 0, OK: 0, TIGHT: 1, NO: 2}

#: With less headroom a warm processor, a fuller disk or another program can cost frames.
ENOUGH_HEADROOM = 1.25
#: What is recommended keeps so much of what held.
RECOMMENDED_SHARE = 0.8
#: A pause of the disk that takes more of the ring than this leaves too little for the rest.
RING_SHARE = 0.5


class Finding(NamedTuple):
    """level: NOTE, TIGHT or NO: what it makes of the answer."""

    level: str
    text: str


@dataclass
class Judgement:
    """The answer.

    Attributes:
        verdict: OK, TIGHT or NO. limit: what sets the limit ('camera', 'callback', 'compression', 'disk', 'processor',
            'folder'), None: nothing, at any rate that was tried.
        headroom: sustained rate / asked rate; None where no rate held. at_least: higher rates were not tried.
    """

    verdict: str
    rates: Rates
    headroom: Optional[float]
    limit: Optional[str]
    findings: List[Finding] = field(default_factory=list)
    recommendations: List[str] = field(default_factory=list)


def judge(measured: Measurements) -> Judgement:
    """The answer to these measurements; asks nothing of the machine any more."""
    found = rates(measured)
    headroom = found.sustained / measured.asked_hz if found.sustained and measured.asked_hz else None
    findings = [*_on_the_folder(measured), *_on_the_camera_run(measured), *_on_the_rate(measured, found, headroom),
                *_on_the_disk(measured)]
    worst = max((_WEIGHT[finding.level] for finding in findings), default=0)
    verdict = (OK, TIGHT, NO)[worst]
    judgement = Judgement(verdict, found, headroom, limiting_stage(measured), findings)
    judgement.recommendations = _recommend(measured, judgement)
    return judgement


def seconds_left(measured: Measurements) -> Optional[float]:
    """How long a recording at the asked rate lasts until it has filled the disk but for the reserve."""
    camera_run, place = measured.camera_run, measured.place
    if camera_run is None or place.usable is None or not camera_run.bytes_a_frame or not measured.asked_hz:
        return None
    return place.usable / (camera_run.bytes_a_frame * measured.asked_hz)


# ---------------------------------------------------------------- findings

def _on_the_folder(measured: Measurements) -> List[Finding]:
    place, found = measured.place, []
    if place.refusal:
        found.append(Finding(NO, f'ppr record would not start: {place.refusal}'))
    if place.volume is None:
        return found
    if place.volume.risk:
        # What may happen to the file afterwards says nothing against the rate; a network's pauses do.
        level = NO if place.volume.is_fat else TIGHT if place.volume.is_network else NOTE
        found.append(Finding(level, f'{place.folder} lies on {place.volume.kind}: {place.volume.risk}'))
    if not place.takes_recordings and not place.volume.is_fat:
        found.append(Finding(NO, f'only {place.volume.free / 1e6:,.0f} MB are free in {place.folder}, of which '
                                 f'{place.reserve / 1e6:,.0f} MB are to stay free (--disk-reserve-mb): too few to '
                                 'record for long, and to try it; a trial fills no more than a tenth of the rest'))
    if place.usable is None:
        found.append(Finding(NOTE, f'{place.volume.kind} does not tell how much room there is'))
    left, wanted = seconds_left(measured), float(measured.arguments['rec_length'])
    if left is not None and wanted and left < wanted:
        found.append(Finding(NO, f'the disk is full after {left / 60:.1f} of {wanted / 60:.1f} minutes'))
    return found


def _on_the_camera_run(measured: Measurements) -> List[Finding]:
    trial = measured.camera_run
    if trial is None:
        return []
    report, found = trial.report, []
    if camera_is_slow(measured):
        found.append(Finding(NO, f'the camera gives {trial.camera_hz:.4g} Hz, not the {measured.asked_hz:.4g} Hz that '
                                 'are wanted'))
    if report.lost:
        reasons = ', '.join(dict.fromkeys(loss.reason for loss in report.losses))
        found.append(Finding(NO, f'{report.lost} of {report.sensor} frames were lost ({reasons}) when the camera was '
                                 'recorded'))
    found += _on_the_callback(measured, trial)
    if report.effort_under_pressure and not measured.starts_slowly:
        found.append(Finding(TIGHT, f'the ring was filling, so that {report.effort_under_pressure} of '
                                    f'{report.captured} pages were compressed with less effort'))
    if trial.granted.loss_detection == 'none':
        found.append(Finding(NOTE, 'this camera gives no means to see losses: whether one lost frames cannot be told, '
                                   'neither here nor of the recording'))
    if trial.granted.waits:
        found.append(Finding(NOTE, 'this source waits for the recorder: nothing of it can be lost at any rate, and '
                                   'the rates say what a camera with such pictures could have'))
    if trial.cut_short:
        found.append(Finding(NOTE, 'the recording of the camera was cut short: it may fill no more than a tenth of '
                                   'the free space'))
    return found + [Finding(NOTE, text) for text in trial.warnings]


def _on_the_callback(measured: Measurements, trial: Trial) -> List[Finding]:
    report, found = trial.report, []
    if trial.callback_error:
        first = report.errors[0] if report.errors else trial.callback_error
        found.append(Finding(NO, f'{max(1, report.callback_errors)} calls of the callback failed in '
                                 f'{report.captured} frames: {first}'))
    if measured.starts_slowly:
        found.append(Finding(NOTE, f"the callback's first call takes {(measured.first_call_ms or 0) / 1000:.1f} s"
                                   + (f', and {report.bypassed} frames by-passed it' if report.bypassed else '')
                                   + '; what is loaded then can be loaded in its __enter__, before the first frame'))
    elif measured.every and report.bypassed:
        found.append(Finding(NO, f'{report.bypassed} of {report.captured} frames by-passed the callback when the '
                                 'camera was recorded'))
    return found


def _on_the_rate(measured: Measurements, found: Rates, headroom: Optional[float]) -> List[Finding]:
    camera_run = measured.camera_run
    if measured.as_asked is None or camera_run is None or camera_run.granted.waits:
        return []
    if headroom is not None and headroom >= ENOUGH_HEADROOM:
        return []
    asked = f'{measured.asked_hz:.4g} Hz'
    if headroom is not None and headroom >= 1:
        return [Finding(TIGHT, f'{asked} held with little to spare: {found.sustained:.4g} Hz is the highest rate that '
                               f'did. A warm processor or another program can cost frames')]
    if found.disk is not None and found.disk < measured.asked_hz:
        return [Finding(NO, f'the disk takes {found.disk:.4g} frames a second for good; at {asked} the system\'s '
                            'memory would hide that for some time only')]
    if (found.lossless or 0.0) < measured.asked_hz:
        return [Finding(NO, f'{asked} did not hold without losing frames')]
    if _bypasses(measured):
        return [Finding(NO, f'at {asked} nothing is lost, but frames by-pass the callback')]
    return [Finding(TIGHT, f'at {asked} nothing is lost, but only because pages are compressed with less effort')]


def _bypasses(measured: Measurements) -> bool:
    """Whether the callback, which is to see every frame, has no time for them at the asked rate."""
    trials = [trial for purpose, trial in measured.trials if purpose == 'as_asked' or not measured.starts_slowly]
    return limiting_stage(measured) == CALLBACK or \
        any('by-passed' in trial.shortfalls(measured.every) for trial in trials)


def _on_the_disk(measured: Measurements) -> List[Finding]:
    if measured.place.volume is None:
        return []
    if measured.disk is None:
        return [Finding(NOTE, 'there is too little room to measure how fast the disk is')]
    ring_s, pause_s = _ring_seconds(measured), max(measured.disk.sync_s)
    if ring_s is not None and pause_s > RING_SHARE * ring_s:
        return [Finding(TIGHT, f'the disk paused for {pause_s:.2f} s once, and the ring bridges {ring_s:.2f} s')]
    return []


def _ring_seconds(measured: Measurements) -> Optional[float]:
    trial = measured.camera_run
    return trial.report.ring_frames / measured.asked_hz if trial is not None and measured.asked_hz else None


# ---------------------------------------------------------------- what to do

def _recommend(measured: Measurements, judgement: Judgement) -> List[str]:
    found: List[str] = []
    place = measured.place
    if place.refusal:
        found.append('choose another name, or --overwrite')
    if place.volume is not None and (place.volume.is_network or not place.takes_recordings):
        found.append('record to a disk of this machine with a journal and room on it, such as ext4')
    left, wanted = seconds_left(measured), float(measured.arguments['rec_length'])
    if left is not None and left < wanted:
        found.append('make room on the disk, or record for a shorter time')
    if any(finding.level == TIGHT and 'paused' in finding.text for finding in judgement.findings):
        pause_s = max(measured.disk.sync_s) if measured.disk is not None else 0.0
        found.append(f'--ring-frames {int(pause_s / RING_SHARE * measured.asked_hz) + 1} bridges such pauses of the '
                     'disk, memory permitting')
    trial = measured.camera_run
    if trial is not None and trial.callback_error:
        found.append('mend the callback; ppr --debug preflight  with the same options shows more of its errors')
    if _lacks_headroom(judgement):
        found += _on_the_limit(measured, judgement)
    if not found and judgement.verdict == OK:
        found.append('nothing; record')
    return found


def _lacks_headroom(judgement: Judgement) -> bool:
    return judgement.limit in (CAMERA, CALLBACK, COMPRESSION, DISK, PROCESSOR) and judgement.verdict != OK and \
        (judgement.headroom is None or judgement.headroom < ENOUGH_HEADROOM or judgement.limit == CAMERA)


def _on_the_limit(measured: Measurements, judgement: Judgement) -> List[str]:
    smaller = '--scale 0.5 has a quarter of the pixels' + \
        ('' if measured.arguments['pixel_format'] == 'gray' else ', --gray a third of the bytes')
    stages = stage_rates(measured)
    found = {
        CAMERA: _on_the_camera(measured),
        CALLBACK: [f'the callback takes {measured.callback_mean_ms or 0:.3g} ms a frame, so that no more than '
                   f'{stages.get(CALLBACK, 0):.4g} Hz can pass: give it a smaller picture, or less to do',
                   '--delivery latest: it sees the newest frame when it has time, and the others are recorded raw'],
        COMPRESSION: [f'--compression 1 lets it spend less; {smaller}'],
        DISK: ['a faster disk (USB 3 SSD rather than SD card), or ' + smaller],
        PROCESSOR: [f'all stages together take more than these cores have; {smaller}']}[str(judgement.limit)]
    if judgement.limit in (CALLBACK, PROCESSOR) and measured.arguments['cb_type'] == '2Proc':
        found.append('--cb-type 3Proc gives the callback a process of its own')
    best = judgement.rates.sustained
    if best is not None and judgement.limit != CAMERA:
        found.append(f'--fps {_rounded_down(RECOMMENDED_SHARE * best)} leaves room')
    return found


def _on_the_camera(measured: Measurements) -> List[str]:
    found = []
    if camera_is_slow(measured):
        trial = measured.camera_run
        found.append('give it more light, if its exposure slows it, or ask for what it gives: '
                     f'--fps {_rounded_down(trial.camera_hz if trial is not None else 0)}')
    if lost_on_the_way(measured):
        found.append('frames were lost before the recorder had them: end other programs, check the camera\'s cable, '
                     'hub and bandwidth, or ask for a lower --fps')
    return found


def _rounded_down(rate: float) -> str:
    return str(int(rate)) if rate >= 10 else f'{int(rate * 10) / 10:g}'
