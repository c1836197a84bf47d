"""Processes that are killed, stopped and starved, and clocks that are set, at every phase of a recording.

Who is to die is known by the numbers that the keeper tells the script; a script that is to die is a fork of this
process. What must follow: the others end, what was captured is in the file or counted, and nobody stays.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import random
import resource
import signal
import struct
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import psutil

from ProcessedPiRecorder import heir, recorder
from ProcessedPiRecorder.pipeline import keeper, links, reader
from ProcessedPiRecorder.pipeline.ledger import Ledger
from ProcessedPiRecorder.recordings.encoder import PageEncoder
from ProcessedPiRecorder.recordings.part import RecordingPart
from ProcessedPiRecorder.recordings.salvage import finished_report
from tests.faults.outcome import Outcome
from tests.faults.registry import Expect, fault
from tests.faults.trial import PACED, SHORT, Trial, seconds
from tests.faults.witness import WitnessCamera

ROLES = ('reader', 'writer', 'callback', 'keeper', 'script')
#: After this the others must be gone; more in the shortened form, whose runs share two cores with a test suite.
END_S = 15.0 if SHORT else 5.0
FORKED: Dict[str, Any] = {'start_method': None}        # what is patched here is inherited by forks only


def talk(buffer: Any, cb_queue: Any) -> None:
    """A callback like any other."""
    cb_queue.put(buffer[-1].index)


def trial_of(folder: Path, rng: random.Random, **settings: Any) -> Trial:
    chosen = {'callback': talk, 'cb_type': '3Proc', **FORKED, **({'framerate': 60} if SHORT else {}), **settings}
    return Trial(folder, rng, camera={**PACED, **chosen.pop('camera', {})}, **chosen)


# ------------------------------------------------------------------ who is who

def pid_of(role: str, rec: Any) -> Optional[int]:
    """A process of the recording that ``rec`` runs; None as long as there is none."""
    run = rec._run if rec is not None else None
    if run is None:
        return None
    if role == 'keeper':
        return int(run.keeper.pid)
    known = run.lifelines._ends.get(role)
    return int(known[0]) if known is not None else None


def send(role: str, rec: Any, number: int = signal.SIGKILL) -> bool:
    """Send a signal; whether there was somebody to take it."""
    pid = pid_of(role, rec)
    if pid is None:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition: Callable[[], Any], limit_s: float = 20.0) -> Any:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.002)
    return None


def written(rec: Any, count: int) -> Callable[[], bool]:
    return lambda: rec.status().written >= count


# ------------------------------------------------------------------ phases: each waits until its moment has come

class SlowToOpen(WitnessCamera):
    """Takes its time to open, as real sensors do."""

    def open(self, request: Any) -> Any:
        time.sleep(0.5)
        return super().open(request)


def opening(trial: Trial, role: str, rng: random.Random) -> None:
    wait_for(lambda: pid_of(role, trial.recorder))
    time.sleep(rng.uniform(0, 0.3))


def ring_made(trial: Trial, role: str, rng: random.Random) -> None:
    wait_for(lambda: trial.recorder is not None and trial.recorder._run is not None and trial.recorder._run.ring)
    time.sleep(rng.choice((0, 0.001, 0.01)))


def running(trial: Trial, role: str, rng: random.Random) -> None:
    wait_for(lambda: trial.recorder is not None and trial.recorder.status().written >= rng.choice((1, 20)))
    time.sleep(seconds(rng, 0.3, 1.5))


def stopping(trial: Trial, role: str, rng: random.Random) -> None:
    running(trial, role, rng)
    trial.recorder._ask_to_stop('stopVid')
    time.sleep(rng.choice((0, 0.001, 0.005, 0.02)))


def finishing(trial: Trial, role: str, rng: random.Random) -> None:
    """The file's end takes a second (``slow_end``): in the midst of it."""
    running(trial, role, rng)
    trial.recorder._ask_to_stop('stopVid')
    wait_for(lambda: trial.recorder._run is None or trial.recorder._run.source_ended)
    time.sleep(rng.uniform(0.1, 0.9))


def finished(trial: Trial, role: str, rng: random.Random) -> None:
    """The file is finished, and its writer is not yet gone."""
    running(trial, role, rng)
    trial.recorder._ask_to_stop('stopVid')
    wait_for(lambda: finished_report(trial.path))


def slow_end() -> None:
    """Finishing a file takes half a second before, and half a second after it is done."""
    finish = RecordingPart.finish

    def slowly(part: RecordingPart, *arguments: Any) -> None:
        time.sleep(0.5)
        finish(part, *arguments)
        time.sleep(0.5)

    RecordingPart.finish = slowly          # type: ignore[method-assign]


Phase = Callable[[Trial, str, random.Random], None]
STARTING: Dict[str, Phase] = {'the camera opens': opening, 'the ring is made': ring_made}
LATER: Dict[str, Phase] = {'it records': running, 'it stops': stopping, 'the file is finished': finishing,
                           'all is finished': finished}


# ------------------------------------------------------------------ killing

class Killer:
    """A thread that sends a signal to some processes when their phase has come."""

    def __init__(self, trial: Trial, roles: Tuple[str, ...], phase: Phase, rng: random.Random,
                 number: int = signal.SIGKILL) -> None:
        self.trial, self.roles, self.phase, self.rng, self.number = trial, roles, phase, rng, number
        self.sent_at = 0.0
        self.hit = False
        self.thread = threading.Thread(target=self._run, name='killer', daemon=True)

    def _run(self) -> None:
        self.phase(self.trial, self.roles[0], self.rng)
        self.sent_at = time.monotonic()
        self.hit = any([send(role, self.trial.recorder, self.number) for role in self.roles])

    def wait(self, rec: Any) -> None:
        """Until it is done; only a callback's death does not end a recording."""
        self.thread.join()
        if self.roles == ('callback',):
            time.sleep(0.3)
            self.sent_at = time.monotonic()
            rec._ask_to_stop('stopVid')


def killed(trial: Trial, roles: Tuple[str, ...], phase: Phase, rng: random.Random,
           number: int = signal.SIGKILL) -> Outcome:
    """Record, kill, judge; the script lives."""
    killer = Killer(trial, roles, phase, rng, number)
    with camera_of(SlowToOpen if phase is opening else WitnessCamera):
        killer.thread.start()
        trial.run(killer.wait)
    took_s = time.monotonic() - killer.sent_at
    killer.thread.join()
    outcome = trial.judged()
    if killer.sent_at and took_s > END_S:
        outcome.ledger_disagrees.append(f'the others needed {took_s:.1f} s to end')
    outcome.notes = f'{"+".join(roles)} {"hit" if killer.hit else "not there any more"} · {outcome.notes}'
    if not killer.hit and outcome.error:
        outcome.ledger_disagrees.append(f'nobody was killed, and yet there is a {outcome.error}')
    check_error(trial, roles, outcome, number)
    return outcome


def check_error(trial: Trial, roles: Tuple[str, ...], outcome: Outcome, number: int) -> None:
    """The error names one of those who died, how, and how far the recording had come."""
    error: Any = trial.error
    if outcome.error != 'ProcessDiedError':
        return
    if error.role not in roles:
        outcome.ledger_disagrees.append(f'the error names the {error.role}')
    elif error.signal_name != signal.Signals(number).name:
        outcome.ledger_disagrees.append(f'the error tells of {error.signal_name}')
    if trial.report is not None and error.frames_captured < trial.report.written:
        outcome.ledger_disagrees.append(f'the error tells of {error.frames_captured} frames captured, '
                                        f'{trial.report.written} are in the file')


@contextlib.contextmanager
def camera_of(kind: Any) -> Iterator[None]:
    """Trials record with this kind of witness."""
    from tests.faults import trial
    before, trial.WitnessCamera = trial.WitnessCamera, kind       # type: ignore[attr-defined]
    try:
        yield
    finally:
        trial.WitnessCamera = before                              # type: ignore[attr-defined]


def script_killed(trial: Trial, others: Tuple[str, ...], phase: Phase, rng: random.Random) -> Outcome:
    """The script is a fork of this process; it is killed in its phase, and the others with it."""
    news, told = os.pipe()
    script = os.fork()
    if script == 0:
        with camera_of(SlowToOpen if phase is opening else WitnessCamera):
            threading.Thread(target=_tell_when, args=(trial, others, phase, rng, told), daemon=True).start()
            trial.run(lambda rec: time.sleep(60))
        os._exit(0)
    os.close(told)
    pids = struct.unpack(f'={1 + len(others)}i', os.read(news, 64))[1:]
    for pid in (script, *pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    killed_at = time.monotonic()
    os.close(news)
    os.waitpid(script, 0)
    wait_for(lambda: not living(), 30)
    took_s = time.monotonic() - killed_at
    outcome = trial.judged()
    if took_s > END_S:
        outcome.ledger_disagrees.append(f'the others needed {took_s:.1f} s to end')
    return outcome


def _tell_when(trial: Trial, others: Tuple[str, ...], phase: Phase, rng: random.Random, told: int) -> None:
    phase(trial, 'writer' if phase is opening else 'keeper', rng)
    os.write(told, struct.pack(f'={1 + len(others)}i', 0, *(pid_of(role, trial.recorder) or 0 for role in others)))


def living() -> List[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
            if child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)
            elif 'resource_tracker' not in ' '.join(child.cmdline()):
                found.append(child)
    return found


def expected(role: str, phase: str) -> Expect:
    """What must surface when this one is killed in this phase."""
    if role == 'script':
        return Expect('', ('-', 'yes'))
    if phase in STARTING:
        return Expect(('ProcessDiedError', 'RecorderError'), '-') if phase == 'the camera opens' else \
            Expect(('ProcessDiedError', 'CallbackError', ''), None)
    if phase == 'it records':
        return {'reader': Expect('ProcessDiedError', 'no'), 'writer': Expect('ProcessDiedError', 'no'),
                'callback': Expect('CallbackError', 'yes'),
                'keeper': Expect('ProcessDiedError', 'unknown')}[role]
    # It may be gone already, or have done its part.
    return Expect(('', 'ProcessDiedError', 'CallbackError'), ('yes', 'no', 'unknown'))


def _register_kill(role: str, phase_name: str, phase: Phase, short: bool) -> None:
    @fault(f'kill -9 of the {role} while {phase_name}', group='deaths', expects=expected(role, phase_name), short=short)
    def kill(folder: Path, rng: random.Random) -> Outcome:
        settings: Dict[str, Any] = {}
        if phase in (finishing, finished):
            slow_end()
            settings['split_frames'] = 0       # each part would take its second
        trial = trial_of(folder, rng, overwrite=phase_name in STARTING and rng.random() < 0.5, **settings)
        return script_killed(trial, (), phase, rng) if role == 'script' else killed(trial, (role,), phase, rng)


for _role in ROLES:
    for _name, _phase in {**STARTING, **LATER}.items():
        _register_kill(_role, _name, _phase, _name == 'it records')


# ------------------------------------------------------------------ several at once, and other signals

PAIRS = (('reader', 'writer'), ('keeper', 'writer'), ('keeper', 'reader'), ('writer', 'callback'),
         ('keeper', 'callback'), ('keeper', 'reader', 'writer', 'callback'))
WITH_SCRIPT = (('keeper',), ('callback',), ('writer',), ('reader',))


def _register_pair(roles: Tuple[str, ...]) -> None:
    @fault(f'kill -9 of {" and ".join(roles)} at once', group='deaths several',
           expects=Expect('ProcessDiedError', ('no', 'unknown')), short=roles == ('keeper', 'writer'))
    def kill(folder: Path, rng: random.Random) -> Outcome:
        return killed(trial_of(folder, rng), roles, running, rng)


def _register_with_script(roles: Tuple[str, ...]) -> None:
    @fault(f'kill -9 of script and {" and ".join(roles)} at once', group='deaths several',
           expects=Expect('', ('yes', 'no', 'unknown')), short=roles == ('writer',))
    def kill(folder: Path, rng: random.Random) -> Outcome:
        return script_killed(trial_of(folder, rng), roles, running, rng)


for _roles in PAIRS:
    _register_pair(_roles)
for _roles in WITH_SCRIPT:
    _register_with_script(_roles)


@fault('kill -9 of all at once', group='deaths several', expects=Expect('', '-'))
def kill_all(folder: Path, rng: random.Random) -> Outcome:
    """Nobody is left to finish the file: what `ppr repair` finds is what was synced, and more."""
    return script_killed(trial_of(folder, rng), ('keeper', 'reader', 'writer', 'callback'), running, rng)


@fault('kill -9 of the writer, its file split', group='deaths several', expects=Expect('ProcessDiedError', 'no'))
def kill_split(folder: Path, rng: random.Random) -> Outcome:
    """An older, longer recording is overwritten: its files must not be taken for this one's."""
    return killed(trial_of(folder, rng, split_frames=rng.randint(5, 40)), ('writer',), running, rng)


def _register_signal(name: str, number: int, role: str, expects: Expect) -> None:
    @fault(f'{name} to the {role}', group='deaths signals', expects=expects,
           short=(name, role) in (('SIGSEGV', 'writer'), ('SIGTERM', 'reader')))
    def hit(folder: Path, rng: random.Random) -> Outcome:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        trial = trial_of(folder, rng, **({'rec_length': 1.5} if number == signal.SIGTERM else {}))
        return killed(trial, (role,), running, rng, number)


for _role, _verdict in (('reader', 'no'), ('writer', 'no'), ('keeper', 'unknown')):
    _register_signal('SIGSEGV', signal.SIGSEGV, _role, Expect('ProcessDiedError', _verdict))
    _register_signal('SIGABRT', signal.SIGABRT, _role, Expect('ProcessDiedError', _verdict))
    _register_signal('SIGTERM', signal.SIGTERM, _role, Expect('', 'yes'))    # whole groups get it; only the script ends
_register_signal('SIGSEGV', signal.SIGSEGV, 'callback', Expect('CallbackError', 'yes'))
_register_signal('SIGTERM', signal.SIGTERM, 'callback', Expect('', 'yes'))


# ------------------------------------------------------------------ SIGSTOP, SIGCONT

def _register_stop(role: str) -> None:
    # Whether anything is lost depends on the ring; but for the keeper and the script, who touch no frame.
    harmless = role in ('keeper', 'callback')

    @fault(f'SIGSTOP and SIGCONT of the {role}', group='stops',
           expects=Expect('', 'yes' if harmless else ('yes', 'no')))
    def stop(folder: Path, rng: random.Random) -> Outcome:
        trial = trial_of(folder, rng, cb_delivery='latest', cb_timeout=None,
                         ring_frames=None if harmless else rng.choice((8, 32, None)),
                         camera={'buffers': rng.choice((4, 2000))} if role == 'reader' else {})
        return trial.run(lambda rec: stop_a_while(rec, role, rng)).judged()


def stop_a_while(rec: Any, role: str, rng: random.Random) -> None:
    wait_for(written(rec, 10))
    for _ in range(1 if SHORT else rng.randint(1, 3)):
        send(role, rec, signal.SIGSTOP)
        time.sleep(seconds(rng, 0.4, 3.0))
        send(role, rec, signal.SIGCONT)
        time.sleep(0.3)
    rec._ask_to_stop('stopVid')


for _role in ('reader', 'writer', 'callback', 'keeper'):
    _register_stop(_role)


@fault('SIGSTOP and SIGCONT of the script', group='stops', short=False)
def stop_script(folder: Path, rng: random.Random) -> Outcome:
    trial = trial_of(folder, rng, rec_length=1.5)
    script = os.fork()
    if script == 0:
        trial.run()
        os._exit(0)
    wait_for(trial.path.exists)
    os.kill(script, signal.SIGSTOP)
    time.sleep(seconds(rng, 0.5, 3.0))
    os.kill(script, signal.SIGCONT)
    os.waitpid(script, 0)
    return trial.judged()


@fault('SIGSTOP of the keeper while another dies', group='stops', expects=Expect('ProcessDiedError', 'no'), short=False)
def stop_keeper_and_kill(folder: Path, rng: random.Random) -> Outcome:
    role = rng.choice(('reader', 'writer'))

    def act(rec: Any) -> None:
        wait_for(written(rec, 10))
        send('keeper', rec, signal.SIGSTOP)
        time.sleep(0.1)
        send(role, rec)
        time.sleep(seconds(rng, 0.3, 2.0))
        send('keeper', rec, signal.SIGCONT)

    return trial_of(folder, rng).run(act).judged()


FOR_EVER = {'reader': Expect('ProcessDiedError', 'no'), 'writer': Expect('ProcessDiedError', 'no'),
            'keeper': Expect('ProcessDiedError', 'unknown'), 'callback': Expect('CallbackError', 'yes')}


def _register_for_ever(role: str, expects: Expect) -> None:
    @fault(f'SIGSTOP of the {role} for ever, then stopVid', group='stops', expects=expects, short=role == 'keeper')
    def stop(folder: Path, rng: random.Random) -> Outcome:
        """All patience is shortened; what is said, and that it ends, is the same."""
        keeper.STOP_GRACE_S, keeper.FINISH_TIMEOUT_S, recorder.KEEPER_PATIENCE_S = 0.3, 1.0, 1.0   # type: ignore
        keeper.slowest_call_s = lambda settings: 0.0                                               # type: ignore
        heir.FINISH_TIMEOUT_S, heir.slowest_call_s = 2.0, lambda settings: 0.0                     # type: ignore
        trial = trial_of(folder, rng, cb_timeout=0.5 if role == 'callback' else None,
                         cb_delivery='latest' if role == 'callback' else 'every')

        def act(rec: Any) -> None:
            wait_for(written(rec, 20))
            send(role, rec, signal.SIGSTOP)
            time.sleep(0.8)
            rec._ask_to_stop('stopVid')

        return trial.run(act).judged()


for _role, _expects in FOR_EVER.items():
    _register_for_ever(_role, _expects)


# ------------------------------------------------------------------ steps of the system's clock

HOUR_NS = 3_600_000_000_000


class SettableClock:
    """The system's clock as this process and all its forks see it from now on; ``offset_ns`` moves it for all."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8)
        time_ns, gettime, gettime_ns, now = time.time_ns, time.clock_gettime, time.clock_gettime_ns, time.time
        time.time_ns = lambda: time_ns() + self.offset_ns
        time.time = lambda: now() + self.offset_ns / 1e9
        time.clock_gettime = lambda clock: gettime(clock) + (
            self.offset_ns / 1e9 if clock == time.CLOCK_REALTIME else 0)
        time.clock_gettime_ns = lambda clock: gettime_ns(clock) + (
            self.offset_ns if clock == time.CLOCK_REALTIME else 0)

    @property
    def offset_ns(self) -> int:
        return int(struct.unpack('=q', self._shared[:8])[0])

    @offset_ns.setter
    def offset_ns(self, value: int) -> None:
        self._shared[:8] = struct.pack('=q', value)


@fault('clock steps of an hour', group='clock')
def clock_steps(folder: Path, rng: random.Random) -> Outcome:
    """Back and forth, from the start to the end: no frame's time moves, and every step is told."""
    clock = SettableClock()
    reader.ANCHOR_PERIOD_S = 0.1           # type: ignore[misc]
    length_s = 1.5 if SHORT else rng.uniform(2, 4)
    trial = trial_of(folder, rng, rec_length=length_s)
    begun_ns, marks = time.time_ns(), []

    def act(rec: Any) -> None:
        clock.offset_ns = rng.choice((-1, 1)) * HOUR_NS
        wait_for(written(rec, 10))
        for step in range(3):
            time.sleep(0.3)
            clock.offset_ns += rng.choice((-1, 1)) * HOUR_NS
            marks.append(rec.mark(f'step {step}'))

    outcome = trial.run(act).judged()
    report = trial.report
    if report is None:
        return outcome
    find = outcome.ledger_disagrees.append
    if not report.clock.get('steps'):
        find('no step of the clock was noticed')
    elif not any('clock was set' in text for text in report.warnings):
        find('nobody was told of the steps')
    if abs(report.duration_s - length_s) > 0.1:
        find(f'{length_s:.2f} s were asked, {report.duration_s} s recorded')
    if not report.rate_hz or abs(report.rate_hz / trial.settings['framerate'] - 1) > 0.01:
        find(f'a rate of {report.rate_hz} Hz at {trial.settings["framerate"]} Hz')
    if any(abs(mark - begun_ns) > 60e9 for mark in marks):
        find('a mark was set by the stepping clock')
    return outcome


# ------------------------------------------------------------------ exhaustion

@fault('file descriptors exhausted at the start (RLIMIT_NOFILE)', group='exhaustion', expects=Expect(None, None))
def few_descriptors(folder: Path, rng: random.Random) -> Outcome:
    """However few there are: a typed error with advice, or a recording."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir('/proc/self/fd'))
    trial = trial_of(folder, rng, rec_length=0.3)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + rng.randint(0, 25), hard))
    try:
        trial.run()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return trial.judged()


@fault('file descriptors exhausted while recording', group='exhaustion', expects=Expect('CallbackError', 'yes'))
def no_descriptor_for_a_successor(folder: Path, rng: random.Random) -> Outcome:
    """The callback dies, and the keeper has no descriptors left for another."""
    def act(rec: Any) -> None:
        wait_for(written(rec, 10))
        number = pid_of('keeper', rec)
        assert number is not None
        used = len(os.listdir(f'/proc/{number}/fd'))
        resource.prlimit(number, resource.RLIMIT_NOFILE, (used + rng.randint(0, 8), 4096))
        send('callback', rec)
        time.sleep(1)
        rec._ask_to_stop('stopVid')

    return trial_of(folder, rng).run(act).judged()


@fault('no more processes (fork fails)', group='exhaustion', expects=Expect(('RecorderError', 'CallbackError'), None))
def no_processes(folder: Path, rng: random.Random) -> Outcome:
    """The n-th fork of script and keeper fails, as with RLIMIT_NPROC (which does not bind root)."""
    left = mmap.mmap(-1, 1)
    left[0] = rng.randint(0, 4)
    fork = os.fork

    def limited() -> int:
        if not left[0]:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        left[0] -= 1
        return fork()

    def act(rec: Any) -> None:
        wait_for(written(rec, 10))
        send('callback', rec)
        time.sleep(0.5)
        rec._ask_to_stop('stopVid')

    os.fork = limited
    try:
        trial = trial_of(folder, rng).run(act)
    finally:
        os.fork = fork
    return trial.judged()


@fault('no more threads', group='exhaustion', expects=Expect(None, None), short=False)
def no_threads(folder: Path, rng: random.Random) -> Outcome:
    """The n-th thread of all processes together cannot be started."""
    left = mmap.mmap(-1, 1)
    left[0] = rng.randint(0, 12)
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    threading.Thread.start = limited       # type: ignore[method-assign]
    try:
        trial = trial_of(folder, rng, rec_length=0.5).run()
    finally:
        threading.Thread.start = start     # type: ignore[method-assign]
    return trial.judged()


@fault('memory of the writer exhausted (RLIMIT_AS)', group='exhaustion',
       expects=Expect(('', 'RecordingFileError', 'ProcessDiedError', 'CallbackError'), None))
def no_memory(folder: Path, rng: random.Random) -> Outcome:
    def act(rec: Any) -> None:
        wait_for(written(rec, 10))
        number = pid_of('writer', rec)
        assert number is not None
        size = psutil.Process(number).memory_info().vms
        resource.prlimit(number, resource.RLIMIT_AS, (size + rng.choice((0, 100_000, 1_000_000)),) * 2)
        time.sleep(1)
        rec._ask_to_stop('stopVid')

    return trial_of(folder, rng, x_resolution=640, y_resolution=480, split_frames=0).run(act).judged()


@fault('no memory left in a compressor', group='exhaustion', expects=Expect('RecordingFileError', 'no'))
def no_memory_to_compress(folder: Path, rng: random.Random) -> Outcome:
    PageEncoder.encode = failing(PageEncoder.encode, rng.randint(5, 40))     # type: ignore[method-assign]
    return trial_of(folder, rng).run().judged()


@fault('no memory left in the hub', group='exhaustion', expects=Expect('ProcessDiedError', 'no'))
def no_memory_in_the_hub(folder: Path, rng: random.Random) -> Outcome:
    """The writer's main thread fails: what it had handed to the file is finished all the same."""
    Ledger.frame = failing(Ledger.frame, rng.randint(5, 40))                 # type: ignore[method-assign]
    return trial_of(folder, rng).run().judged()


def failing(function: Callable[..., Any], after: int) -> Callable[..., Any]:
    """The function, which from a certain call on finds no memory."""
    calls = iter(range(1_000_000))

    def fail(*arguments: Any) -> Any:
        if next(calls) >= after:
            raise MemoryError('on purpose')
        return function(*arguments)

    return fail


@fault('kill -9 of the reader while the ring is full', group='deaths', expects=Expect('ProcessDiedError', 'no'))
def kill_reader_of_a_full_ring(folder: Path, rng: random.Random) -> Outcome:
    """It has lost frames of which it has not told: they are counted all the same."""
    encode = PageEncoder.encode

    def slowly(self: PageEncoder, *arguments: Any) -> Any:
        time.sleep(0.03)
        return encode(self, *arguments)

    PageEncoder.encode = slowly            # type: ignore[method-assign]
    trial = trial_of(folder, rng, ring_frames=4, framerate=200, callback=None, cb_type=None)
    return killed(trial, ('reader',), running, rng)


@fault('pipes of the smallest size (the quota is used up)', group='exhaustion', expects=Expect('', ('yes', 'no')))
def small_pipes(folder: Path, rng: random.Random) -> Outcome:
    """Links hold 85 records, and a sender may have to wait: never two for each other."""
    import fcntl

    def small() -> Tuple[int, int]:
        ends = os.pipe()
        fcntl.fcntl(ends[0], resize, 4096)
        return ends

    from ProcessedPiRecorder.pipeline import crew
    resize = links._F_SETPIPE_SZ
    crew.make_link = small                                        # type: ignore[attr-defined]
    links._F_SETPIPE_SZ = 999_999                                 # refused, as to an unprivileged user
    trial = Trial(folder, rng, camera={'frames': 800 if SHORT else 3000, 'pace': rng.random() < 0.5, 'buffers': 4000},
                  **{**FORKED, 'framerate': 2000, 'ring_frames': rng.choice((60, 400, 1000)), 'x_resolution': 96,
                     'y_resolution': 64})
    return trial.run().judged()


# ------------------------------------------------------------------ '2Proc'

class HoldsForEver:
    """Does not return from the frame at which it begins to; optionally with the interpreter in its hand."""

    def __init__(self, at: int, interpreter: bool) -> None:
        self.at, self.interpreter = at, interpreter

    def __call__(self, buffer: Any, cb_queue: Any) -> None:
        if buffer[-1].index >= self.at:
            if self.interpreter:
                import ctypes
                ctypes.PyDLL(None).pause()
            threading.Event().wait()


@fault('callback hangs at the end for ever (2Proc)', group='deaths', expects=Expect('CallbackError', 'yes'))
def hangs_at_the_end(folder: Path, rng: random.Random) -> Outcome:
    count = rng.randint(30, 60)
    trial = trial_of(folder, rng, callback=HoldsForEver(count - 1, False), cb_type='2Proc', cb_timeout=0.5,
                     cb_delivery='every', framerate=100, camera={'frames': count})
    return trial.run().judged()


@fault('callback holds the interpreter for ever (2Proc)', group='deaths', expects=Expect('ProcessDiedError', 'no'),
       short=False)
def holds_for_ever(folder: Path, rng: random.Random) -> Outcome:
    """Nothing in the writer can run any more: it is killed in the end, and its heir finishes the file."""
    keeper.FINISH_TIMEOUT_S, keeper.slowest_call_s = 1.0, lambda settings: 0.0     # type: ignore
    trial = trial_of(folder, rng, callback=HoldsForEver(40, True), cb_type='2Proc', rec_length=1.0, framerate=100)
    return trial.run().judged()


@fault('callback hangs while script and keeper are killed (3Proc)', group='deaths several',
       expects=Expect('', ('unknown', 'no')), short=False)
def hangs_orphaned(folder: Path, rng: random.Random) -> Outcome:
    trial = trial_of(folder, rng, callback=HoldsForEver(5, False), cb_type='3Proc', cb_timeout=0.4)
    return script_killed(trial, ('keeper',), running, rng)
