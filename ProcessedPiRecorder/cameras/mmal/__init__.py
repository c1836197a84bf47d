"""Behind ``picamera.py``: the legacy stack's buffers, controls, and the hooks into the package picamera."""
