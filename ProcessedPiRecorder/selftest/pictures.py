"""What the pictures show: that controls act on them, and that each eye is where it should be."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np

from ..cameras import registry, stacks
from ..errors import CameraFormatError
from ..frame import left, right
from ..recordings.reader import RecordingFile
from .context import BY_HAND, WARN, Context, Finding, Judge, Skip
from .takes import Take

__all__ = ['exposure', 'eyes', 'lenses', 'mirror']

PICTURES = 10             # of each recording
SHORT, LONG = 0.05, 0.8   # exposures, as shares of the frame period
GAIN = 2.0                # fixed, or the automatic would make up for the exposure
FIXING = ('exposure_us', 'gain', 'iso', 'freeze', 'exposure_mode')     # what would speak against that
#: Gray levels.
DARK, GLARING, VISIBLE, STRUCTURE = 25.0, 230.0, 3.0, 3.0
BRIGHTER = 1.3            # times, at least: far less than the light, of which gamma and black level take theirs
RIM = 0.1                 # of height and width
COVERED = 0.7             # of a half's brightness is left, at most, when its lens is covered
ALIKE = 0.02              # correlations closer than this do not tell left from right


# ---------------------------------------------------------------- controls

def exposure(context: Context) -> Finding:
    period_us = 1e6 / context.rate
    times_us = [round(share * period_us) for share in (SHORT, LONG)]
    others = {name: value for name, value in context.controls.items() if name not in FIXING}
    dark, bright = (float(_mean(_take(context, f'exposure_{number}', {**others, 'gain': GAIN, 'exposure_us': time_us}))
                          .mean()) for number, time_us in enumerate(times_us))
    judge = Judge(exposures_us=times_us, levels=[round(dark, 2), round(bright, 2)])
    told = f'mean level {dark:.1f} at {times_us[0]} µs, {bright:.1f} at {times_us[1]} µs'
    acts = bright >= BRIGHTER * dark and bright - dark >= VISIBLE
    if not acts and bright < DARK:
        raise Skip(f'it is too dark here to tell ({told}); give the camera light')
    if not acts and dark > GLARING:
        raise Skip(f'it is too bright here to tell ({told}); give the camera less light')
    judge.require(acts, f'an exposure {LONG / SHORT:.0f} times as long hardly makes the picture brighter: {told}')
    judge.note(told)
    return judge.finding()


def mirror(context: Context) -> Finding:
    plain, mirrored = (_mean(_take(context, f'mirror_{number}', {**context.controls, 'hflip': flip}))
                       for number, flip in enumerate((False, True)))
    if context.stereo:
        plain, mirrored = left(plain), left(mirrored)
    plain, mirrored = _middle(plain), _middle(mirrored)
    if min(plain.std(), mirrored.std()) < STRUCTURE:
        raise Skip('the camera sees next to nothing; point it at something')
    unchanged, flipped = _likeness(plain, mirrored), _likeness(plain[:, ::-1], mirrored)
    judge = Judge(like_unmirrored=round(unchanged, 3), like_mirrored=round(flipped, 3))
    told = f'correlation {flipped:.2f} with the mirrored picture, {unchanged:.2f} with the unmirrored one'
    if abs(flipped - unchanged) < ALIKE:
        raise Skip(f'the scene looks the same mirrored, or it moved ({told}); point the camera at something still and '
                   'lopsided')
    judge.require(flipped > unchanged, f'hflip does not mirror the picture: {told}')
    judge.note(told)
    return judge.finding()


def _take(context: Context, name: str, controls: Dict[str, Any]) -> Take:
    try:
        return context.record(name, context.brief(), camera_controls=controls)
    except CameraFormatError as error:
        if _is_pi(context):
            raise Skip(f'it cannot be tried, though Pi cameras have this control: {error}', WARN) from error
        raise Skip('this kind of camera has no such control') from error


def _is_pi(context: Context) -> bool:
    return stacks.drives(registry.resolve(context.camera))


def _mean(take: Take) -> np.ndarray:
    mean: np.ndarray = np.mean(take.pictures(PICTURES), axis=0)
    return mean


def _middle(picture: np.ndarray) -> np.ndarray:
    """Without the rim, which lenses darken all round: that looks the same mirrored."""
    height, width = (int(RIM * length) for length in picture.shape)
    return picture[height:-height or None, width:-width or None]


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


# ---------------------------------------------------------------- stereo

def eyes(context: Context) -> Finding:
    _require_stereo(context)
    take = context.main or context.record('eyes', context.brief())
    pictures = take.pictures(PICTURES)
    apart = [float(np.abs(left(one) - right(one)).mean()) for one in pictures]
    same = sum(np.array_equal(left(one), right(one)) for one in pictures)
    judge = Judge(mean_difference=round(float(np.mean(apart)), 3), identical=same)
    # Even of the same scene two sensors have each their own noise.
    judge.require(not same, f'in {same} of {len(pictures)} frames both halves are the same picture, pixel for pixel: '
                            'one eye was recorded twice')
    judge.note(f'the halves differ by {np.mean(apart):.1f} gray levels a pixel')
    skews = _skews_ms(take)
    if len(skews):
        judge.figures['skew_ms'] = {'median': float(np.median(skews)), 'max': float(np.abs(skews).max())}
        judge.note(f'left minus right in time: {np.median(skews):+.3f} ms usually, {np.abs(skews).max():.3f} at most')
    return judge.finding()


def lenses(context: Context) -> Finding:
    """Whether left is left: only someone at the camera can tell."""
    _require_stereo(context)
    if context.ask is None:
        raise Skip('cover one lens and see which half gets dark: ppr selftest --stereo --questions, at the camera',
                   BY_HAND)
    free = _levels(context.record('lenses_free', context.brief()))
    if min(free) < DARK:
        raise Skip(f'it is too dark here to tell (mean levels {free[0]:.1f}, {free[1]:.1f}); give the camera light',
                   BY_HAND)
    judge = Judge(free=free)
    for number, side in enumerate(('LEFT', 'RIGHT')):
        if not context.ask(f'Cover the {side} lens (as seen from behind the camera) wholly.'):
            raise Skip(f'the {side} lens was not covered', BY_HAND)
        levels = judge.figures[f'{side.lower()}_covered'] = _levels(context.record(f'lenses_{number}', context.brief()))
        left_share, right_share = (now / before for now, before in zip(levels, free))
        share, other = (left_share, right_share)[::-1 if number else 1]
        told = (f'{side} covered: left half at {100 * left_share:.0f} % of its brightness, right half at '
                f'{100 * right_share:.0f} %')
        judge.require(other > COVERED or share < other, f'the wrong half got dark: left and right are swapped ({told})')
        judge.require(min(share, other) <= COVERED, f'neither half got dark: cover the lens wholly ({told})')
        judge.note(told)
    return judge.finding()


def _require_stereo(context: Context) -> None:
    if not context.stereo:
        raise Skip('one eye only; with two: --stereo')


def _levels(take: Take) -> Tuple[float, float]:
    mean = _mean(take)
    return round(float(left(mean).mean()), 2), round(float(right(mean).mean()), 2)


def _skews_ms(take: Take) -> List[float]:
    with RecordingFile(take.path) as recording:
        skews = [recording.page_record(page).skew_ns for page in range(recording.pages)]
    return [skew / 1e6 for skew in skews if skew is not None]
