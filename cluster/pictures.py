"""Pictures: what is made of an upload: a clear JPEG without anything but its pixels, and a small, blurred one. Pillow.

Nothing of the upload is kept: EXIF (its orientation is applied), colour profiles, comments and trailing bytes go.
Takes up to seconds of CPU and about 12 bytes a pixel: never on an event loop, and few at once.
"""

import io
from typing import NamedTuple

from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP")
BLURRED_CELLS = 16
"""So many averages along the longer side are all that the blurred picture tells of the clear one."""

SIDE_MIN = 4 * BLURRED_CELLS
"""Pixels a side: a smaller picture would be told by its averages."""

SIDE_MAX = 65_500
"""What a JPEG can have."""

SCANS_MAX = 200
"""Of a progressive JPEG: each costs a pass over all pixels, and a hostile one has hundreds of thousands."""

_SCAN = b"\xff\xda"
_JPEG = b"\xff\xd8"
_ENLARGED = 8
_QUALITY = 90


class Picture(NamedTuple):
    """Both versions, as JPEG, and the size of the clear one in pixels."""

    clear: bytes
    blurred: bytes
    width: int
    height: int


class NoPicture(ValueError):
    """The upload cannot be taken; the words say why."""


def make(upload: bytes, pixels_max: int) -> Picture:
    """Decode an upload and make both versions of it.

    Raises NoPicture: it is none, is damaged, or has more than `pixels_max` pixels (known before it is decoded).
    """
    picture = _decoded(upload, pixels_max)
    width, height = picture.size
    part = BLURRED_CELLS / max(width, height)
    cells = max(1, round(width * part)), max(1, round(height * part))
    averages = picture.resize(cells, Image.Resampling.BOX)
    blurred = averages.resize((cells[0] * _ENLARGED, cells[1] * _ENLARGED), Image.Resampling.BICUBIC)
    return Picture(_jpeg(picture), _jpeg(blurred), width, height)


def _decoded(upload: bytes, pixels_max: int) -> Image.Image:
    """Return the pixels, upright, opaque, and free of all else."""
    if upload.startswith(_JPEG) and upload.count(_SCAN) > SCANS_MAX:
        raise NoPicture(f"a JPEG of at most {SCANS_MAX} scans")
    try:
        with Image.open(io.BytesIO(upload), formats=FORMATS) as opened:
            width, height = opened.size
            if width * height <= pixels_max and min(width, height) >= SIDE_MIN and max(width, height) <= SIDE_MAX:
                return _plain(ImageOps.exif_transpose(opened))
    except Exception as failure:  # a decoder fed by strangers fails in its own ways: IndexError, SyntaxError, ...
        raise NoPicture("a whole JPEG, PNG or WebP picture") from failure
    raise NoPicture(f"at most {pixels_max} pixels in all, {SIDE_MIN} to {SIDE_MAX} a side; this has {width} x {height}")


def _plain(picture: Image.Image) -> Image.Image:
    """Copy the pixels alone, as RGB, what shines through on white."""
    if picture.mode.startswith("I"):  # 16 bits of grey
        picture = picture.convert("I").point(lambda level: level * (1 / 256)).convert("L")
    plain = Image.new("RGB", picture.size, "white")
    if picture.has_transparency_data:
        seen = picture.convert("RGBA")
        plain.paste(seen, mask=seen)
    else:
        plain.paste(picture.convert("RGB"))
    return plain


def _jpeg(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=_QUALITY)
    return content.getvalue()
