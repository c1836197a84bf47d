"""Everything that was measured and concluded, as JSON types. The keys are documented in docs/preflight.md."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Mapping, Optional

from .._version import __version__
from ..settings import Settings
from .judgement import Judgement, seconds_left
from .limits import stage_rates
from .run import Measurements
from .search import Search
from .trial import Trial

__all__ = ['as_dict']


def as_dict(measured: Measurements, judgement: Judgement, exit_code: int) -> Dict[str, Any]:
    """All of it; what was not measured is null."""
    return {
        'version': __version__, 'verdict': judgement.verdict, 'exit_code': exit_code,
        'headroom': _rounded(judgement.headroom), 'headroom_is_at_least': judgement.rates.at_least,
        'limit': judgement.limit,
        'findings': [finding._asdict() for finding in judgement.findings],
        'recommendations': judgement.recommendations,
        'asked': _asked(measured), 'camera': _camera(measured.camera_run),
        'recording': _recording(measured), 'rates': _rates(measured, judgement), 'limits': _limits(measured),
        'folder': _folder(measured),
        'trials': [{'purpose': purpose, **_trial(trial, measured.every)} for purpose, trial in measured.trials],
        'seconds': round(measured.seconds, 2)}


def _asked(measured: Measurements) -> Dict[str, Any]:
    return {'rate_hz': _rounded(measured.asked_hz), 'run_seconds': measured.run_seconds,
            'every': measured.every, 'settings': _settings(measured.arguments)}


def _settings(arguments: Mapping[str, Any]) -> Dict[str, Any]:
    """As a recording would store them."""
    unnamed = arguments['tif_path'] is None and arguments['write_vid']
    settings = Settings(**{**arguments, **({'tif_path': 'none.tif'} if unnamed else {})}).as_dict()
    return {**settings, 'tif_path': None} if unnamed else settings


def _camera(trial: Optional[Trial]) -> Optional[Dict[str, Any]]:
    if trial is None:
        return None
    granted = trial.granted
    return {'model': granted.model, 'width': granted.width, 'height': granted.height,
            'pixel_format': granted.pixel_format, 'framerate': granted.framerate,
            'loss_detection': granted.loss_detection, 'waits': granted.waits}


def _recording(measured: Measurements) -> Optional[Dict[str, Any]]:
    trial = measured.camera_run
    if trial is None:
        return None
    report = trial.report
    return {
        'seconds': report.duration_s, 'rate_hz': report.rate_hz, 'sensor': report.sensor,
        'captured': report.captured, 'written': report.written, 'lost': report.lost,
        'losses': [dataclasses.asdict(loss) for loss in report.losses[:100]],
        'processed': report.processed, 'bypassed': report.bypassed, 'failed': report.failed,
        'callback_ms': {**report.callback_ms, 'mean': _rounded(measured.callback_mean_ms),
                        'first': _rounded(measured.first_call_ms)} if report.callback_ms else {},
        'latency_ms': report.latency_ms, 'ring_frames': report.ring_frames,
        'ring_high_water': report.ring_high_water, 'bytes_a_frame': _rounded(trial.bytes_a_frame),
        'compression_ratio': report.compression_ratio, 'effort': report.effort,
        'effort_under_pressure': report.effort_under_pressure, 'callback_error': trial.callback_error}


def _rates(measured: Measurements, judgement: Judgement) -> Dict[str, Any]:
    found = judgement.rates
    return {'as_asked': _search(measured.as_asked), 'without_loss': _search(measured.without_loss),
            'held_hz': _rounded(found.held), 'lossless_hz': _rounded(found.lossless),
            'disk_hz': _rounded(found.disk), 'sustained_hz': _rounded(found.sustained),
            'highest_tried_hz': _rounded(measured.ceiling_hz) if measured.as_asked is not None else None}


def _search(search: Optional[Search]) -> Optional[Dict[str, Any]]:
    return None if search is None else {'held_hz': _rounded(search.held_hz), 'failed_hz': _rounded(search.failed_hz)}


def _limits(measured: Measurements) -> Dict[str, Any]:
    camera_run, stages, disk = measured.camera_run, stage_rates(measured), measured.disk
    return {
        'camera': None if camera_run is None else {'rate_hz': _rounded(camera_run.camera_hz),
                                                   'granted_hz': camera_run.granted.framerate},
        'callback': {'rate_hz': _rounded(stages['callback'])} if 'callback' in stages else None,
        'compression': [speed._asdict() for speed in measured.codec] or None,
        'disk': None if disk is None else {
            'rate_hz': _rounded(stages.get('disk')), 'mb_s': round(disk.bytes_a_second / 1e6, 2),
            'bytes_written': disk.bytes_written, 'seconds': round(disk.seconds, 3), 'chunk_bytes': disk.chunk_bytes,
            'fdatasync_ms': disk.sync_ms()}}


def _folder(measured: Measurements) -> Optional[Dict[str, Any]]:
    place, left = measured.place, seconds_left(measured)
    if place.volume is None:
        return None
    volume = place.volume
    return {'path': str(place.folder), 'file_system': volume.kind,
            'mount': None if volume.mount is None else str(volume.mount), 'risk': volume.risk,
            'fat': volume.is_fat, 'memory': volume.is_memory, 'network': volume.is_network,
            'free_bytes': volume.free, 'total_bytes': volume.total, 'reserve_bytes': place.reserve,
            'minutes_left': None if left is None else round(left / 60, 2)}


def _trial(trial: Trial, every: bool) -> Dict[str, Any]:
    report = trial.report
    return {'rate_hz': _rounded(trial.rate_hz), 'seconds': report.duration_s,
            'shortfalls': trial.shortfalls(every), 'captured': report.captured, 'lost': report.lost,
            'bypassed': report.bypassed, 'bypassed_settled': trial.bypassed, 'failed': report.failed,
            'effort': report.effort, 'effort_under_pressure': report.effort_under_pressure,
            'ring_frames': report.ring_frames, 'ring_high_water': report.ring_high_water, 'ring_grew': trial.grows,
            'bytes_a_frame': _rounded(trial.bytes_a_frame), 'latency_ms': report.latency_ms,
            'cut_short': trial.cut_short}


def _rounded(value: Optional[float]) -> Optional[float]:
    return None if value is None else round(value, 3)
