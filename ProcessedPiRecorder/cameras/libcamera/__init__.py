"""Behind ``picamera2.py``: libcamera's formats, controls, evidence, and the session with the package picamera2."""
