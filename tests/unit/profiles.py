"""Colour profiles to test with, made from their definitions (ICC.1, version 2): by matrix and curve, or by table."""

from struct import pack

Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]

DISPLAY_P3: Matrix = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
ADOBE_RGB: Matrix = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))
"""XYZ of red, green and blue, at D50."""

_D50 = (0.9642, 1.0, 0.8249)


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + pack(">3i", *(round(value * 65_536) for value in values))


def _profile(space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return a profile of a device whose colours are in `space`."""
    tags = {b"desc": b"desc\0\0\0\0" + pack(">I", 5) + b"test\0" + bytes(78)} | tags
    start, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += name + pack(">II", start + len(body), len(content))
        body += padded
    size = start + len(body)
    head = pack(
        ">I4s4s4s4s4s", size, bytes(4), b"\x02\x40\0\0", b"prtr" if space == b"CMYK" else b"mntr", space, connection
    )
    head += bytes(12) + b"acsp" + bytes(28) + pack(">3i", *(round(value * 65_536) for value in _D50))
    return head.ljust(128, b"\0") + pack(">I", len(tags)) + table + body


def rgb_profile(primaries: Matrix, gamma: float) -> bytes:
    """Return the profile of a display with those primaries; its white is D50."""
    curve = b"curv\0\0\0\0" + pack(">IH", 1, round(gamma * 256))
    tags = {b"wtpt": _xyz(_D50)}
    tags |= {name + b"XYZ": _xyz(primary) for name, primary in zip((b"r", b"g", b"b"), primaries, strict=True)}
    return _profile(b"RGB ", b"XYZ ", tags | {name + b"TRC": curve for name in (b"r", b"g", b"b")})


def grey_profile(gamma: float) -> bytes:
    """Return the profile of greys of one gamma."""
    return _profile(
        b"GRAY", b"XYZ ", {b"wtpt": _xyz(_D50), b"kTRC": b"curv\0\0\0\0" + pack(">IH", 1, round(gamma * 256))}
    )


def cmyk_profile(full_cyan_lab: tuple[int, int, int]) -> bytes:
    """Return the profile of a press whose full cyan ink is that colour (8-bit Lab), and whose other inks do nothing."""
    straight = bytes(range(256))
    white = (255, 128, 128)
    nodes = b"".join(bytes(full_cyan_lab if node >= 8 else white) for node in range(16))  # cyan is the slowest index
    unit = pack(">9i", 65_536, 0, 0, 0, 65_536, 0, 0, 0, 65_536)
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + unit + straight * 4 + nodes + straight * 3
    return _profile(b"CMYK", b"Lab ", {b"wtpt": _xyz(_D50), b"A2B0": table})
