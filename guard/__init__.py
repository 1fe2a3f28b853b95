"""guard: puts the previous image back when a deploy turns bad."""

__version__ = "0.1.0"
