"""Record Raspberry Pi cameras at high rates through a computer-vision callback, without a dropped frame."""

from ._version import __version__

__all__ = ['__version__']
