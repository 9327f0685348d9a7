"""What can be told about a damaged JPEG stream from outside.

The decoder takes damaged data and returns gray without a word, so the structure is walked before it decodes: the stream
begins, is made of segments that may be there, and ends. Damage that keeps the structure goes unnoticed: JPEG has no
checksum.
"""

from __future__ import annotations

import numpy as np

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_STUFFED = frozenset({0x00, 0xFF, *range(0xD0, 0xD8)})  # in coded pixels: stuffing, fill bytes, restart markers
_SEGMENTS = frozenset({*range(0xC0, 0xD0), *range(0xD9, 0xF0), 0xFE})


def check_jpeg(data: bytes) -> None:
    """Walk the segments of a JPEG stream (ITU-T T.81, annex B).

    Raises
    ------
    ValueError
        If the stream is cut short, or holds a marker that cannot be there.
    """
    if data[:2] != bytes((0xFF, _SOI)):
        raise ValueError("the JPEG data does not begin as such")
    stream = np.frombuffer(data, np.uint8)
    flags = np.flatnonzero((stream[:-1] == 0xFF) & ~np.isin(stream[1:], list(_STUFFED)))
    position = 2
    while True:
        if position + 2 > len(data):
            raise ValueError("the JPEG data ends too early")
        if data[position] != 0xFF or data[position + 1] not in _SEGMENTS:
            raise ValueError(f"the JPEG data holds no marker at byte {position}, where one must be")
        marker = data[position + 1]
        if marker == _EOI:
            return
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == _SOS:  # coded pixels follow, up to the next marker
            after = np.searchsorted(flags, position)
            if after == len(flags):
                raise ValueError("the JPEG data ends too early")
            position = int(flags[after])
        else:
            while data[position : position + 2] == b"\xff\xff":
                position += 1
