"""``ppr selftest``: whether the recorder keeps its promises on this machine, with this camera.

::

    checklist.py   what is checked, why, and what only a person can check
    runner.py      goes through the list; decides what to keep on disk
    context.py     what every check is given, and how it says what it found
    takes.py       a test recording, and the figures that its pages tell
    checks.py      the machine, the disk, a recording, its times, the camera's return
    pause.py       whether losses are seen
    pictures.py    what the pictures show: exposure, mirror, the two eyes
    machine.py     facts of the machine, each 'unknown' where it does not tell

It uses the recorder as any script does. Nothing of it is imported unless asked for.
"""
