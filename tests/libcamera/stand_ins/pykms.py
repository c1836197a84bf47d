"""What picamera2 imports for its preview on a bare screen (python3-kms++), which no recorder uses: the names only."""


class _AnyName(type):
    def __getattr__(cls, name: str) -> str:
        return name


class PixelFormat(metaclass=_AnyName):
    """Every pixel format, as its own name."""
