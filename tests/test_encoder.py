"""Strips and efforts: what the encoder writes is ordinary Deflate, and the chooser chooses as it says."""

from __future__ import annotations

import functools
import time
import zlib
from collections import deque
from typing import Callable, Deque, Optional, Tuple

import numpy as np
import pytest

from ProcessedPiRecorder.errors import RecordingFormatError
from ProcessedPiRecorder.recordings import decoder, encoder
from ProcessedPiRecorder.recordings.decoder import decode_strip
from ProcessedPiRecorder.recordings.effort import (
    SAMPLE_AT_LEAST_EVERY,
    Choice,
    EffortChooser,
    Load,
    best_trial,
    next_pressure,
)
from ProcessedPiRecorder.recordings.encoder import EFFORTS, PageEncoder, ladder
from ProcessedPiRecorder.recordings.sampling import Sampler, Trial

SIZES = [(1, 1), (3, 5), (1283, 7), (7, 1283), (48, 64)]


def noise(height: int, width: int, channels: int, seed: int = 0, sigma: float = 2.5) -> np.ndarray:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.clip(np.random.default_rng(seed).normal(100, sigma, shape), 0, 255).astype(np.uint8)


def flat(height: int, width: int, channels: int) -> np.ndarray:
    image = np.full((height, width) if channels == 1 else (height, width, channels), 20, np.uint8)
    image[height // 4:height // 2, width // 3:width // 2] = 200
    return image


def strip_of(image: np.ndarray, effort: str) -> bytes:
    channels = 1 if image.ndim == 2 else 3
    parts = PageEncoder(image.shape[0], image.shape[1], channels).encode(image, effort)
    return b''.join(bytes(memoryview(part).cast('B')) for part in parts)


def predicted_by_the_book(image: np.ndarray) -> bytes:
    """TIFF 6.0, section 14, the slow way."""
    rgb = image[..., None] if image.ndim == 2 else image[..., ::-1]
    out = rgb.astype(np.int16)
    out[:, 1:] -= rgb[:, :-1]
    return (out % 256).astype(np.uint8).tobytes()


@pytest.mark.parametrize('effort', EFFORTS[1:])
@pytest.mark.parametrize('channels', [1, 3])
def test_a_strip_is_zlib_of_the_predicted_rgb_pixels(effort: str, channels: int) -> None:
    for size in SIZES:
        image = noise(*size, channels)
        assert zlib.decompress(strip_of(image, effort)) == predicted_by_the_book(image)


@pytest.mark.parametrize('channels', [1, 3])
def test_without_compression_a_strip_is_the_rgb_pixels(channels: int) -> None:
    for size in SIZES:
        image = noise(*size, channels)
        assert strip_of(image, 'none') == (image if channels == 1 else image[..., ::-1]).tobytes()


@pytest.mark.parametrize('codec', ['zlib', 'zlib_ng'])
@pytest.mark.parametrize('effort', ['none', 'stored', 'huffman', 'rle', 'deflate-2', 'deflate-9'])
def test_both_codecs_read_what_both_write(monkeypatch: pytest.MonkeyPatch, codec: str, effort: str) -> None:
    module = zlib if codec == 'zlib' else pytest.importorskip('zlib_ng.zlib_ng')
    monkeypatch.setattr(encoder, 'codec', module)
    image = noise(31, 17, 3)
    strip = strip_of(image, effort)
    for reading in {zlib, decoder.codec}:
        monkeypatch.setattr(decoder, 'codec', reading)
        for order in ('bgr', 'rgb'):
            pixels = decode_strip(strip, 31, 17, 3, effort != 'none', order)
            np.testing.assert_array_equal(pixels, image if order == 'bgr' else image[..., ::-1])


def test_an_encoder_reuses_its_scratch_without_mixing_pages() -> None:
    pages = PageEncoder(20, 30, 3)
    images = [noise(20, 30, 3, seed) for seed in range(4)]
    for compressed, effort in ((True, 'huffman'), (False, 'none')):
        strips = [pages.encode(image, effort) for image in images]
        for image, strip in zip(images, strips):
            raw = b''.join(bytes(memoryview(part).cast('B')) for part in strip)
            np.testing.assert_array_equal(decode_strip(raw, 20, 30, 3, compressed, 'bgr'), image)


def test_views_that_are_not_contiguous_are_encoded_too() -> None:
    image = noise(20, 60, 1)[:, ::2]
    for effort in ('none', 'huffman'):
        np.testing.assert_array_equal(decode_strip(strip_of(image, effort), 20, 30, 1, effort != 'none', 'bgr'), image)


def test_a_wrong_image_is_refused() -> None:
    with pytest.raises(ValueError, match='expected a uint8 image of shape'):
        PageEncoder(4, 4, 3).encode(np.zeros((4, 4), np.uint8), 'huffman')
    with pytest.raises(ValueError, match='got uint16'):
        PageEncoder(4, 4, 1).encode(np.zeros((4, 4), np.uint16), 'huffman')


def test_a_damaged_strip_is_refused_and_never_grows() -> None:
    good = strip_of(noise(16, 16, 1), 'deflate-6')
    bomb = zlib.compress(bytes(50_000_000))
    for strip in (b'', good[:-1], good[:20], b'\0' * len(good), bomb, zlib.compress(b'too short')):
        with pytest.raises(RecordingFormatError, match='damaged'):
            decode_strip(strip, 16, 16, 1, True, 'bgr')
    with pytest.raises(RecordingFormatError, match='255 bytes of pixels where 256'):
        decode_strip(bytes(255), 16, 16, 1, False, 'bgr')


def test_decoding_into_an_array_of_the_caller() -> None:
    image = noise(16, 24, 3)
    out = np.empty_like(image)
    assert decode_strip(strip_of(image, 'rle'), 16, 24, 3, True, 'bgr', out) is out
    np.testing.assert_array_equal(out, image)
    with pytest.raises(ValueError, match='C-contiguous uint8'):
        decode_strip(strip_of(image, 'rle'), 16, 24, 3, True, 'bgr', np.empty((24, 16, 3), np.uint8))


def test_the_ladder_ends_where_the_user_says() -> None:
    assert ladder(0) == ('none',)
    assert ladder(1) == ('stored', 'huffman', 'rle')
    assert ladder(6)[-1] == 'deflate-6'
    assert all(effort in EFFORTS for level in range(10) for effort in ladder(level))


# ---------------------------------------------------------------------- which effort

TRIALS = [Trial('stored', 1.0, 0.0005), Trial('huffman', 0.49, 0.005), Trial('rle', 0.488, 0.01),
          Trial('deflate-6', 0.40, 0.2)]


@pytest.mark.parametrize(('affordable_s', 'effort'), [
    (1.0, 'deflate-6'), (0.1, 'huffman'), (0.006, 'huffman'), (0.001, 'stored'), (0.0, 'stored')])
def test_the_best_that_can_be_afforded_and_is_worth_it(affordable_s: float, effort: str) -> None:
    assert best_trial(TRIALS, affordable_s).effort == effort


def test_next_to_nothing_is_not_worth_a_core() -> None:
    assert best_trial([Trial('stored', 1.0, 0.001), Trial('rle', 0.002, 0.001), Trial('deflate-9', 0.0015, 0.01)],
                      1.0).effort == 'rle'


def test_pressure_rises_at_once_and_falls_late() -> None:
    pressure, course = 0, []
    for fill in (0.4, 0.51, 0.8, 0.7, 0.59, 0.45, 0.36, 0.34, 0.9, 0.1, 0.1):
        pressure = next_pressure(pressure, fill)
        course.append(pressure)
    assert course == [0, 1, 2, 2, 1, 1, 1, 0, 2, 1, 0]


class Bench:
    """A chooser between a ring and a camera that the test plays. Nothing here depends on how fast the machine is.

    timed: samples take what they take; else twice as long for each effort as for the one before it.
    """

    def __init__(self, level: int, image: np.ndarray, *, waits: bool = False, framerate: float = 1.0,
                 threads: int = 2, timed: bool = False) -> None:
        self.load = Load()
        self.image = image
        channels = 1 if image.ndim == 2 else 3
        self.chooser = EffortChooser(level, image.shape[0], image.shape[1], channels, threads, lambda: self.load, waits,
                                     framerate)
        if not timed:
            sampler = self.chooser._sampler
            sampler._timed = functools.partial(_as_if_timed, sampler._timed)   # type: ignore[method-assign]

    def choose(self, image: Optional[np.ndarray] = None) -> Choice:
        return self.chooser.choose(self.image if image is None else image)

    def sampled(self) -> 'Bench':
        """After the pages that a whole round of samples takes."""
        self.choose()
        while self.chooser.sample():
            pass
        return self


def _as_if_timed(timed: Callable[..., Optional[Tuple[int, float]]], sample: np.ndarray, effort: str,
                 limit_s: float) -> Optional[Tuple[int, float]]:
    found = timed(sample, effort, float('inf'))
    seconds = 1e-6 * 2 ** EFFORTS.index(effort)
    return (found[0], seconds) if found is not None and seconds <= limit_s else None


def unhurried(level: int, image: np.ndarray) -> str:
    """The choice for a source that waits."""
    return Bench(level, image, waits=True, timed=True).choose().effort


def test_noise_gets_huffman_and_a_drawing_a_match_finder() -> None:
    assert unhurried(6, noise(480, 640, 3)) in ('huffman', 'rle')
    assert unhurried(6, flat(480, 640, 3)) not in ('stored', 'huffman')
    assert unhurried(1, flat(480, 640, 3)) == 'rle'


def test_what_cannot_be_compressed_is_stored() -> None:
    assert unhurried(9, np.random.default_rng(1).integers(0, 256, (480, 640, 3), np.uint8)) == 'stored'


def test_level_0_is_no_compression_for_every_page() -> None:
    bench = Bench(0, noise(8, 8, 1))
    bench.load = Load(1.0, 0, 1.0)
    assert {bench.choose() for _ in range(100)} == {('none', 0)}


def test_pressure_counts_only_when_encoding_is_what_falls_behind() -> None:
    bench = Bench(6, noise(240, 320, 1)).sampled()
    bench.load = Load(0.9, 100, 0.9)
    assert bench.choose() == ('stored', 2)
    bench.load = Load(0.9, 0, 0.1)                      # the disk is slow: larger pages would not help
    bench.choose()                                      # falls by a step ...
    assert bench.choose().effort in ('huffman', 'rle')      # ... and another
    patient = Bench(6, noise(240, 320, 1), waits=True)
    patient.load = Load(0.9, 0, 0.9)
    assert patient.choose().effort in ('huffman', 'rle')


def test_half_full_takes_the_fastest_that_compresses() -> None:
    bench = Bench(9, noise(480, 640, 3)).sampled()
    bench.load = Load(0.6, 100, 0.9)
    assert bench.choose().effort in ('huffman', 'rle')


def test_frames_that_come_too_fast_are_stored() -> None:
    bench = Bench(9, noise(480, 640, 3)).sampled()
    for number in range(20):
        bench.chooser.arrived(number, number * 1000)     # microseconds apart
    assert bench.choose() == ('stored', 0)               # not for pressure: it could never be afforded


def test_lost_frames_do_not_look_like_a_slower_camera() -> None:
    bench = Bench(9, noise(480, 640, 3)).sampled()
    for number in range(0, 1_000_000, 50_000):           # of 50,000 frames, a microsecond apart, one got through
        bench.chooser.arrived(number, number * 1000)
    assert bench.choose().effort == 'stored'


def test_frames_that_were_held_up_do_not_look_like_a_faster_camera() -> None:
    bench = Bench(6, noise(480, 640, 3)).sampled()
    for number in range(100):
        bench.chooser.arrived(number, number * 10**9)    # all at once, a second apart on the camera's clock
    assert bench.choose().effort in ('huffman', 'rle')


def test_the_first_page_does_not_wait_for_a_sample() -> None:
    bench = Bench(9, flat(480, 640, 3))
    assert bench.choose() == ('huffman', 0)
    steps = 0
    while bench.chooser.sample():
        steps += 1
    assert steps == 7                                    # stored, huffman, rle, deflate-2, -4, -6, -9
    assert bench.choose().effort not in ('stored', 'huffman')


def test_no_samples_are_taken_under_pressure() -> None:
    bench = Bench(6, flat(480, 640, 3))
    bench.load = Load(0.9, 2, 0.9)
    bench.choose()
    assert not bench.chooser.sample()
    assert bench.choose() == ('stored', 2)


def test_an_effort_that_real_pages_take_too_long_for_is_left() -> None:
    bench = Bench(6, noise(240, 320, 1)).sampled()
    effort = bench.choose().effort
    bench.chooser.spent(effort, 0.5, 0.01, 90.0)         # once may be chance
    assert bench.choose().effort == effort
    for _ in range(2):
        bench.chooser.spent(effort, 0.5, 0.01, 90.0)
    assert bench.choose().effort != effort


def test_no_page_gets_an_effort_that_outlasts_the_free_slots() -> None:
    bench = Bench(6, noise(240, 320, 1), threads=100).sampled()
    for effort in ('huffman', 'rle', 'deflate-2', 'deflate-4', 'deflate-6'):
        for _ in range(3):
            bench.chooser.spent(effort, 0.5, 30.0, 30.0)     # a hundred threads can afford that each second
    bench.load = Load(0.3, 100, 1.0)
    assert bench.choose().effort in ('huffman', 'rle')
    bench.load = Load(0.3, 3, 1.0)                           # three more frames in three seconds
    assert bench.choose() == ('stored', 2)
    bench.load = Load(0.3, 3, 0.4)                           # it is the disk that they wait for
    assert bench.choose().effort in ('huffman', 'rle')


def test_a_page_that_would_outlast_the_free_slots_is_given_up() -> None:
    bench = Bench(6, noise(240, 320, 1), framerate=1e9)      # a camera whose frames come each nanosecond
    bench.load = Load(0.9, 10, 0.9)
    assert PageEncoder(240, 320, 1).encode(bench.image, 'huffman', bench.chooser.hurry('huffman')) == []
    for load in (Load(0.9, 0, 0.4), Load(0.9, float('inf'), 0.9)):      # a slow disk; room without end
        bench.load = load
        assert PageEncoder(240, 320, 1).encode(bench.image, 'huffman', bench.chooser.hurry('huffman'))
    patient = Bench(6, bench.image, framerate=1e9, waits=True)
    patient.load = Load(0.9, 10, 0.9)
    assert PageEncoder(240, 320, 1).encode(bench.image, 'huffman', patient.chooser.hurry('huffman'))


def test_a_page_in_pieces_is_the_same_page() -> None:
    for channels in (1, 3):
        for size in SIZES:
            for effort in ('huffman', 'deflate-6'):
                image = noise(*size, channels)
                strip = b''.join(PageEncoder(*size, channels).encode(image, effort, lambda done: not 0 < done < 1))
                np.testing.assert_array_equal(decode_strip(strip, *size, channels, True, 'bgr'), image)


def test_a_change_of_scene_is_noticed_before_the_next_sample_is_due() -> None:
    noisy, drawing = noise(240, 320, 1), flat(240, 320, 1)
    bench = Bench(6, noisy, waits=True)
    first = bench.choose().effort
    bench.chooser.spent(first, 0.45, 0.001, 0.001)
    assert bench.choose(drawing).effort == first
    bench.chooser.spent(first, 0.12, 0.001, 0.001)
    assert bench.choose(drawing).effort != first


@pytest.mark.parametrize('size', SIZES)
def test_sampling_works_at_any_size(size: Tuple[int, int]) -> None:
    image = noise(*size, 3)
    assert unhurried(9, image) in EFFORTS
    assert Bench(9, image).sampled().choose().effort in EFFORTS


def test_choosing_costs_next_to_nothing_between_samples() -> None:
    bench = Bench(6, noise(64, 64, 1)).sampled()
    started = time.thread_time()
    for _ in range(50):
        bench.choose()
    assert (time.thread_time() - started) / 50 < 0.001


def test_arrays_of_uncompressed_pages_are_used_again_once_they_are_given_back() -> None:
    spare: Deque[np.ndarray] = deque()
    pages, images = PageEncoder(20, 30, 3, spare), [noise(20, 30, 3, seed) for seed in range(3)]
    first, = pages.encode(images[0], 'none')
    second, = pages.encode(images[1], 'none')
    assert not np.shares_memory(first, second)
    spare.append(first)
    third, = pages.encode(images[2], 'none')
    assert third is first and not spare
    np.testing.assert_array_equal(third, images[2][..., ::-1])
    np.testing.assert_array_equal(second, images[1][..., ::-1])


def test_an_effort_that_was_too_dear_for_a_moment_comes_back_within_seconds() -> None:
    bench = Bench(6, noise(240, 320, 1)).sampled()
    usual = bench.choose().effort
    for _ in range(20 * SAMPLE_AT_LEAST_EVERY):          # nothing changes, and samples become rare
        bench.chooser.spent(bench.choose().effort, 0.5, 0.001, 0.001)
        bench.chooser.sample()
    while bench.chooser.sample():                        # the next one is far away
        pass
    for _ in range(3):
        bench.chooser.spent(usual, 0.5, 0.01, 90.0)      # the machine was busy
    pages = 0
    while (effort := bench.choose().effort) != usual:
        pages += 1
        bench.chooser.spent(effort, 0.5, 0.001, 0.001)
        bench.chooser.sample()
        assert pages <= 20
    assert pages > 0


def test_samples_become_rare_where_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, begun = Bench(6, noise(64, 64, 1)).sampled(), []
    begin = Sampler.begin
    monkeypatch.setattr(Sampler, 'begin', lambda self, image: begun.append(1) or begin(self, image))
    for _ in range(64 * 64):
        bench.chooser.spent(bench.choose().effort, 0.5, 0.001, 0.001)
        while bench.chooser.sample():
            pass
    assert 5 <= len(begun) <= 12                         # 64 of them with a fixed interval
