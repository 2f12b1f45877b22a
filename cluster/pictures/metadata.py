"""Picture metadata: splits an upload into the file of its pixels, its orientation and its colour profile.

Broken metadata never makes a picture invalid: it is ignored. The walk over a file's chunks or segments is bounded, so
that a file of very many tiny ones costs as little as any other. Formats: PNG (ISO/IEC 15948), JPEG (ITU-T T.81),
WebP (RIFF), Exif (TIFF 6.0), ICC.1. Bytes in, bytes out; no Pillow.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

CHUNKS_MAX = 20_000
"""Chunks of a PNG or WebP file: an encoder that writes 512 bytes at a time needs 16,384 for 8 MiB."""

SEGMENTS_MAX = 1_000
"""Segments of a JPEG before its pixels: 8 MiB of profiles and previews are 128 of 64 KiB."""

PROFILE_BYTES_MAX = 4_194_304
"""A larger colour profile is ignored; CMYK profiles have 0.5 to 2 MiB."""

EXIF_ENTRIES_MAX = 1_000

UPRIGHT = 1

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_JPEG_KEPT = (0xE0, 0xEE)
"""APP0 (JFIF) and APP14 (Adobe) say how the samples are colours; every other APPn is metadata."""

_APP1, _APP2, _COMMENT, _SCAN = 0xE1, 0xE2, 0xFE, 0xDA
_EXIF = b"Exif\x00\x00"
_XMP = b"http://ns.adobe.com/xap/1.0/\x00"
_PROFILE = b"ICC_PROFILE\x00"
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])[\"'<]")
_ORIENTATION = 0x0112
_SHORT, _LONG = 3, 4


class Split(NamedTuple):
    """An upload, split.

    `content`: the same picture without metadata that a decoder could stumble over; `orientation`: 1 to 8, as Exif and
    TIFF number them; `profile`: the ICC profile, empty: none.
    """

    content: bytes
    orientation: int
    profile: bytes


class TooManyParts(ValueError):
    """The file has more chunks or segments than are walked; the words say how many may be."""


def split(upload: bytes) -> Split:
    """Split an upload of any format; one of an unknown format comes back as it is.

    Raises TooManyParts.
    """
    if upload.startswith(_PNG):
        return _split_png(upload)
    if upload.startswith(_JPEG):
        return _split_jpeg(upload)
    if upload[:4] == b"RIFF" and upload[8:12] == b"WEBP":
        return _split_webp(upload)
    return Split(upload, UPRIGHT, b"")


def _split_png(upload: bytes) -> Split:
    kept, exif, xmp, profile = [_PNG], b"", b"", b""
    for kind, start, end in _png_chunks(upload):
        body = upload[start + 8 : end - 4]
        if kind in _PNG_KEPT:
            kept.append(upload[start:end])
        elif kind == b"eXIf":
            exif = body
        elif kind == b"iCCP":
            profile = _inflated(body.partition(b"\x00")[2][1:])
        elif kind == b"iTXt" and body.startswith(b"XML:com.adobe.xmp\x00"):
            xmp = body
    return Split(b"".join(kept), _orientation(exif, xmp), profile)


def _png_chunks(upload: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start, end) of every chunk up to the end of the picture."""
    start, kind = len(_PNG), b""
    for _ in range(CHUNKS_MAX):
        if kind == b"IEND" or start + 8 > len(upload):
            return
        length, kind = struct.unpack_from(">I4s", upload, start)
        yield kind, start, start + 12 + length
        start += 12 + length
    raise TooManyParts(f"a file of at most {CHUNKS_MAX} chunks")


def _inflated(content: bytes) -> bytes:
    """Return an inflated profile; empty if it is damaged or too large."""
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(content, PROFILE_BYTES_MAX)
    except zlib.error:
        return b""
    return profile if inflater.eof else b""


def _split_jpeg(upload: bytes) -> Split:
    kept, exif, xmp, profile = [_JPEG], b"", b"", {}
    rest = len(_JPEG)
    for marker, start, end in _jpeg_segments(upload):
        rest, body = end, upload[start + 4 : end]
        if marker == _APP1 and body.startswith(_EXIF):
            exif = exif or body[len(_EXIF) :]
        elif marker == _APP1 and body.startswith(_XMP):
            xmp = body
        elif marker == _APP2 and body.startswith(_PROFILE) and len(body) > 14:
            profile[body[12]] = body[14:]
        if not (0xE0 <= marker <= 0xEF or marker == _COMMENT) or marker in _JPEG_KEPT:
            kept.append(upload[start:end])
    kept.append(upload[rest:])
    whole = b"".join(profile[number] for number in sorted(profile))
    return Split(b"".join(kept), _orientation(exif, xmp), whole if len(whole) <= PROFILE_BYTES_MAX else b"")


def _jpeg_segments(upload: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of every segment before the first scan; what is not a segment ends it."""
    start = len(_JPEG)
    for _ in range(SEGMENTS_MAX):
        while upload[start : start + 2] == b"\xff\xff":  # fill bytes
            start += 1
        if start + 4 > len(upload) or upload[start] != 0xFF or upload[start + 1] == _SCAN:
            return
        length = struct.unpack_from(">H", upload, start + 2)[0]
        if length < 2:
            return
        yield upload[start + 1], start, start + 2 + length
        start += 2 + length
    raise TooManyParts(f"a JPEG of at most {SEGMENTS_MAX} segments before its pixels")


def _split_webp(upload: bytes) -> Split:
    """The file stays as it is: its decoder reads no metadata."""
    found: dict[bytes, bytes] = {}
    start = 12
    for _ in range(CHUNKS_MAX):
        if start + 8 > len(upload):
            orientation = _orientation(found.get(b"EXIF", b"").removeprefix(_EXIF), found.get(b"XMP ", b""))
            profile = found.get(b"ICCP", b"")
            return Split(upload, orientation, profile if len(profile) <= PROFILE_BYTES_MAX else b"")
        kind, length = struct.unpack_from("<4sI", upload, start)
        if kind in (b"EXIF", b"XMP ", b"ICCP"):
            found[kind] = upload[start + 8 : start + 8 + length]
        start += 8 + length + length % 2
    raise TooManyParts(f"a file of at most {CHUNKS_MAX} chunks")


def _orientation(exif: bytes, xmp: bytes) -> int:
    """Return how the picture is to be turned; upright where nothing says so that can be read."""
    try:
        return _tiff_orientation(exif)
    except (struct.error, KeyError):
        said = _XMP_ORIENTATION.search(xmp)
        return int(said[1]) if said else UPRIGHT


def _tiff_orientation(exif: bytes) -> int:
    """Read the one entry that counts, whatever the others are. Raises struct.error, KeyError: it is not there."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}[exif[:4]]
    (directory,) = struct.unpack_from(f"{order}I", exif, 4)
    (entries,) = struct.unpack_from(f"{order}H", exif, directory)
    for number in range(min(entries, EXIF_ENTRIES_MAX)):
        entry = directory + 2 + 12 * number
        tag, form = struct.unpack_from(f"{order}HH", exif, entry)
        if tag == _ORIENTATION:
            (value,) = struct.unpack_from(order + {_SHORT: "H", _LONG: "I"}[form], exif, entry + 8)
            if UPRIGHT <= value <= 8:
                return int(value)
    raise KeyError(_ORIENTATION)
