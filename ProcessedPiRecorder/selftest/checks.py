"""Checks of the machine, of the disk, of recordings and their times, and of how the camera is given back."""

from __future__ import annotations

import textwrap
import time
from collections import Counter
from typing import Any, Optional, Tuple

import numpy as np

from ..cameras import registry, stacks
from ..errors import CameraError, RecorderError
from ..recordings.volume import volume_of
from ..report import Report
from . import machine
from .context import Context, Finding, Judge, Skip, caught
from .takes import Take

__all__ = ['again', 'busy', 'callback', 'camera', 'clock', 'disk', 'machine_facts', 'power', 'recording']

RATE_TOLERANCE = 0.02
HOT_C = 80.0
NEEDED_MB = 500
ROOMY_MB = 2000
SLOW_MB_S = 10.0
#: A disk that is asked for more than this share of what it can do has no room for its pauses.
DISK_SHARE = 0.7
#: Two quartz clocks differ by some 50 ppm. Over some seconds less than this cannot be told from late arrivals.
DRIFT_PPM = 1000.0
DRIFT_MS = 5.0
ROUGH_S = 30.0
#: A frame arrives when it has been exposed and read out: one or two periods after it began.
LATEST_PERIODS, LATEST_MS = 10, 1000.0
EARLIEST_MS = -2.0
SHOWN_CHARACTERS = 160


# ---------------------------------------------------------------- the machine

def machine_facts(context: Context) -> Finding:
    facts = machine.facts()
    versions = facts['versions']
    judge = Judge(**facts)
    judge.require(versions['cv2'] is not None and not versions['cv2'].startswith('('),
                  f'OpenCV cannot be used here: {versions["cv2"] or "it is not installed"}; scaling and most callbacks '
                  'need it')
    heat = facts['temperature_c']
    judge.doubt(heat is None or heat < HOT_C, f'the processor is at {heat} °C and slows down soon; give it a cooler')
    judge.doubt(facts['governor'] != 'powersave', "the processor's governor is 'powersave': it stays at its slowest")
    judge.note(f'{facts["model"]}, {facts["system"]}, kernel {facts["kernel"]}, {facts["bits"]} bit')
    here = [f'{name} {version}' for name, version in versions.items() if version is not None]
    judge.note(f'Python {facts["python"]}, {", ".join(here)}')
    judge.note(', '.join(filter(None, [
        f'{facts["cores"]} cores (governor {facts["governor"]})', f'{heat:.0f} °C' if heat is not None else '',
        f'{facts["memory_available_mb"]} of {facts["memory_mb"]} MB memory free' if facts['memory_mb'] else '',
        machine.cma(facts)])))
    return judge.finding()


def disk(context: Context) -> Finding:
    place = volume_of(context.folder)
    free_mb = place.free / 1e6
    judge = Judge(file_system=place.kind, mount=None if place.mount is None else str(place.mount),
                  free_mb=round(free_mb))
    lies = f'this folder lies on {place.kind}: {place.risk}'
    judge.require(not place.is_fat, lies)
    judge.doubt(place.is_fat or not place.risk, lies)
    judge.require(free_mb >= NEEDED_MB, f'only {free_mb:.0f} MB are free, too few to test with; make room')
    judge.doubt(not NEEDED_MB <= free_mb < ROOMY_MB, f'only {free_mb:.0f} MB are free')
    if free_mb >= NEEDED_MB:
        speed = context.disk_mb_s = judge.figures['write_mb_s'] = round(machine.write_speed(context.folder), 1)
        judge.doubt(speed >= SLOW_MB_S, f'it writes {speed:.0f} MB/s, which suits low rates and small pictures only')
        where = '' if place.mount is None else f' on {place.mount}'
        judge.note(f'{place.kind}{where}, {free_mb / 1000:.1f} GB free, {speed:.0f} MB/s written')
    return judge.finding()


def power(context: Context) -> Finding:
    """Late in the list, when the machine has been under load."""
    told, why_not = machine.power()
    if told is None:
        raise Skip(why_not)
    heat = machine.temperature()
    judge = Judge(throttled=told.raw, now=told.now, since_boot=told.ever, temperature_c=heat)
    judge.require(machine.UNDER_VOLTAGE not in told.now,
                  'under-voltage now: use the official power supply and a short cable; cameras fail in odd ways')
    now = [word for word in told.now if word != machine.UNDER_VOLTAGE]
    judge.doubt(not now, f'now: {", ".join(now)}; give it a cooler')
    ever = [word for word in told.ever if word not in told.now]
    judge.doubt(not ever, f'since it booted there has been: {", ".join(ever)}')
    judge.note(f'get_throttled {told.raw}' + (f', {heat:.0f} °C after the recordings' if heat is not None else ''))
    return judge.finding()


# ---------------------------------------------------------------- recordings

def camera(context: Context) -> Finding:
    began = time.monotonic()
    take = context.record('camera', context.brief())
    took = time.monotonic() - began - take.seconds
    granted = context.granted = take.granted
    rate = granted['framerate']
    judge = Judge(granted=dict(granted), warnings=take.warnings, start_and_end_s=round(took, 2))
    asked = (context.width or granted['width'], context.height or granted['height'])
    got = granted['width'], granted['height']
    # What it had to change it must say; the warnings are told below.
    judge.require(asked == got or bool(take.warnings),
                  f'asked for {asked[0]}×{asked[1]}, it gave {got[0]}×{got[1]} without a word')
    judge.doubt(not context.framerate or (rate is not None and _is_near(rate, context.framerate)),
                f'asked for {context.framerate:g} Hz, it gave {_hz(rate)}')
    judge.doubt(granted['loss_detection'] != 'none', 'it gives no evidence of losses: recordings with it are never '
                                                     'proven complete')
    for warning in take.warnings:
        judge.doubt(False, warning)
    judge.note(f'{granted["model"] or "unnamed"}, {got[0]}×{got[1]} {granted["pixel_format"]}, {_hz(rate)}, '
               f'losses seen by: {granted["loss_detection"]}; {took:.1f} s to start and to end')
    judge.note(f'clock: {granted["clock"]}')
    return judge.finding()


def recording(context: Context) -> Finding:
    take = context.main = context.record('recording', context.seconds)
    judge = _judged(take)
    report = take.report
    mb_s = report.file_bytes / 1e6 / max(report.duration_s, 1e-3)
    disk_mb_s = context.disk_mb_s
    judge.figures.update(file_mb_s=round(mb_s, 2), compression_ratio=report.compression_ratio)
    judge.doubt(disk_mb_s is None or mb_s < DISK_SHARE * disk_mb_s,
                f'it writes {mb_s:.0f} MB/s to a disk that takes {disk_mb_s}: too close for long recordings')
    spread, disk_ms = take.intervals(), report.latency_ms.get('disk', {})
    if spread:
        judge.note(f'from frame to frame {spread["median"]:.2f} ms (1 %: {spread["p1"]:.2f}, 99 %: '
                   f'{spread["p99"]:.2f}, longest {spread["longest"]:.2f}), jitter {spread["jitter"]:.3f} ms')
    judge.note(f'in the file {_ms(disk_ms.get("p50"))} after arrival (99 %: {_ms(disk_ms.get("p99"))}); '
               f'{mb_s:.1f} MB/s, {report.compression_ratio or 1:.2f} times smaller than raw')
    damaged = take.damaged_pages()
    judge.require(not damaged, f'{len(damaged)} of {len(take.index)} pages are damaged in the file: {damaged[:10]}')
    judge.note(f'all {len(take.index)} pages read back, checksums right' if not damaged else '')
    return judge.finding()


def callback(context: Context) -> Finding:
    take = context.record('callback', context.seconds, callback=pass_through, cb_type='3Proc')
    judge = _judged(take)
    report = take.report
    judge.figures.update(returned=report.returned, bypassed=report.bypassed, failed=report.failed,
                         callback_ms=report.callback_ms)
    judge.require(report.returned == report.captured,
                  f'{report.captured - report.returned} of {report.captured} frames did not pass through the callback '
                  f'({report.bypassed} by-passed it, {report.failed} failed): this machine is too slow for this size '
                  'and rate')
    delay = report.latency_ms.get('callback', {})
    judge.note(f'called {_ms(delay.get("p50"))} after arrival (99 %: {_ms(delay.get("p99"))}), '
               f'{report.returned} frames returned')
    return judge.finding()


def pass_through(buffer: Any, cb_queue: Any) -> Any:
    """The callback: gives every frame back as it came."""
    return buffer[-1]


def _judged(take: Take) -> Judge:
    """What must hold for every recording."""
    report, rate, granted = take.report, take.rate_hz, take.granted['framerate']
    judge = Judge(complete=report.complete, captured=report.captured, written=report.written, lost=report.lost,
                  rate_hz=rate, intervals_ms=take.intervals(), latency_ms=report.latency_ms, ring_high_water=
                  report.ring_high_water, ring_frames=report.ring_frames, warnings=take.warnings)
    judge.require(report.complete != 'no', f'not complete: {"; ".join(report.reasons)}{_why_lost(report)}')
    judge.doubt(report.complete != 'unknown', f'not proven complete: {"; ".join(report.reasons)}')
    judge.require(len(take.index) == report.captured == report.written,
                  f'the report tells of {report.captured} frames, {report.written} written, and the file holds '
                  f'{len(take.index)}')
    judge.require(report.lost > 0 or not take.missing.any(),
                  f'no frame is reported lost, but {int(take.missing.sum())} numbers are missing in the file')
    judge.require(take.times_increase(), 'the times of the frames do not always increase')
    judge.doubt(report.stopped == 'rec_length', f'it ended after {report.duration_s:.2f} s: {report.stopped}')
    judge.require(rate is not None, f'{len(take.index)} frame, too few to measure a rate; record longer')
    if rate is not None and granted is not None:
        judge.require(_is_near(rate, granted), f'{rate:.2f} Hz came where {granted:.2f} Hz were granted: frames are '
                                               'missing, or the granted rate is wrong')
    judge.doubt(report.ring_high_water <= 0.5 * report.ring_frames,
                f'the ring of waiting frames was filled to {report.ring_high_water} of {report.ring_frames}')
    judge.note(f'{report.captured} frames in {report.duration_s:.2f} s, {_hz(rate)} ({_hz(granted)} granted), '
               f'{report.lost} lost')
    return judge


def _why_lost(report: Report) -> str:
    reasons: 'Counter[str]' = Counter()
    for loss in report.losses:
        reasons[loss.reason] += loss.count
    told = ', '.join(f'{reason}: {count}' for reason, count in reasons.most_common())
    return f' ({told})' if told else ''


def _is_near(rate: float, wanted: float) -> bool:
    return abs(rate - wanted) <= RATE_TOLERANCE * wanted


def _hz(rate: Optional[float]) -> str:
    return 'an unknown rate' if rate is None else f'{rate:.2f} Hz'


def _ms(value: Optional[float]) -> str:
    return 'at an unknown time' if value is None else f'{value:.1f} ms'


# ---------------------------------------------------------------- times

def clock(context: Context) -> Finding:
    take = context.main
    if take is None:
        raise Skip('there is no recording to look at')
    if take.granted['waits']:
        raise Skip('this source has no pace of its own: it waits for the recorder')
    delays = take.delays_ms()
    if delays is None:
        raise Skip('this camera does not stamp its frames')
    if len(delays) < 9:
        raise Skip(f'{len(delays)} frames are too few; record for longer (--seconds)')
    moved_ms, uncertain_ms, span_s = _drift(delays, take.index['host_ns'])
    drift_ppm, uncertain_ppm = moved_ms * 1e3 / span_s, uncertain_ms * 1e3 / span_s
    quickest, usual, slow = (float(value) for value in np.percentile(delays, (0, 50, 99)))
    judge = Judge(drift_ppm=round(drift_ppm, 1), uncertainty_ppm=round(uncertain_ppm, 1), drift_ms=round(moved_ms, 3),
                  delay_min_ms=round(quickest, 3), delay_median_ms=round(usual, 3), delay_p99_ms=round(slow, 3),
                  clock_base=take.granted['clock_base'], steps=take.report.clock.get('steps', []))
    judge.require(abs(moved_ms) <= max(DRIFT_MS, DRIFT_PPM * span_s / 1e3),
                  f'the camera\'s clock and the computer\'s drift apart by {drift_ppm:+.0f} ppm ({moved_ms:+.1f} ms in '
                  f'{span_s:.1f} s): the camera counts wrong, or frames are missing that nothing has shown')
    if _is_tied(take):
        latest = LATEST_MS + LATEST_PERIODS * 1e3 / context.rate
        judge.require(quickest > EARLIEST_MS, f'frames arrive {-quickest:.1f} ms before they were taken: their times '
                                              'are on another clock than was said')
        judge.require(quickest < latest, f'even the quickest frame arrives {quickest / 1e3:.1f} s after it was taken: '
                                         'their times are on another clock than was said, or frames pile up')
        judge.note(f'a frame arrives {usual:.1f} ms after its time (quickest {quickest:.1f}, 99 %: {slow:.1f})')
    else:
        judge.note(f'the clock is the camera\'s own, tied to the first arrival; delays spread over '
                   f'{slow - quickest:.1f} ms')
    rough = '' if span_s >= ROUGH_S else '; roughly, for --seconds 60 tells it better'
    judge.note(f'drift {drift_ppm:+.0f} ± {uncertain_ppm:.0f} ppm ({moved_ms:+.2f} ms in {span_s:.1f} s{rough})')
    return judge.finding()


def _drift(delays_ms: np.ndarray, host_ns: np.ndarray) -> Tuple[float, float, float]:
    """How far the delays moved from the first third to the last, how uncertain that is (ms), and within what (s).

    The quickest arrivals were held up by nothing, so they show the two clocks and not the machine's load.
    """
    third = len(delays_ms) // 3
    starts = (0, third, len(delays_ms) - third)
    parts = [delays_ms[start:start + third] for start in starts]
    begin, end = (start + int(np.argmin(part)) for start, part in ((starts[0], parts[0]), (starts[2], parts[2])))
    first, middle, last = (float(part.min()) for part in parts)
    held_up = max(float(np.percentile(part, 10) - part.min()) for part in parts)
    return last - first, max(held_up, abs(middle - (first + last) / 2)), float(host_ns[end] - host_ns[begin]) / 1e9


def _is_tied(take: Take) -> bool:
    """Whether the camera's clock is tied to the computer's other than by a frame's arrival."""
    return take.granted['clock_base'] != 'own' or take.granted.get('clock_offset_ns') is not None


# ---------------------------------------------------------------- the camera is given back

def again(context: Context) -> Finding:
    began = time.monotonic()
    frames = [context.record(f'again_{number}', context.brief()).report.captured for number in range(2)]
    judge = Judge(frames=frames)
    judge.require(2 * frames[1] > frames[0], f'the second recording got {frames[1]} frames, the first {frames[0]}')
    took = time.monotonic() - began
    judge.figures['seconds'] = round(took, 2)
    judge.note(f'two recordings of {context.brief():g} s, one right after the other, took {took:.1f} s')
    return judge.finding()


def busy(context: Context) -> Finding:
    refusal: Optional[CameraError] = None
    with caught(), context.recorder('busy_1', 0) as first:
        first.recordVid()
        began = time.monotonic()
        try:
            context.record('busy_2', context.brief())
        except CameraError as error:
            refusal = error
        took = time.monotonic() - began
        still_running = first.recording
        report = first.stopVid()
    judge = Judge(refused=str(refusal) if refusal else None, seconds=round(took, 2))
    if refusal is None and not _is_exclusive(context.camera):
        raise Skip('this kind of camera can be used by several programs at once')
    judge.require(refusal is not None, 'the second recording was not refused, though the camera was in use')
    judge.require(still_running or (report is not None and report.stopped == 'end of source'),
                  'the first recording ended when the second one was tried')
    judge.require(report is not None and report.complete != 'no',
                  f'the first recording was harmed: {"; ".join(report.reasons) if report else "it left no report"}')
    told = textwrap.shorten(str(refusal), SHOWN_CHARACTERS, placeholder=' …')
    judge.note(f'refused after {took:.1f} s: {told}')
    return judge.finding()


def _is_exclusive(spec: Any) -> bool:
    """Whether only one program at a time can have such a camera; of strangers nothing is known."""
    try:
        found = registry.resolve(spec)
    except RecorderError:
        return False
    return stacks.drives(found) or found.name == 'opencv'
