"""Pictures: what is made of an upload: a clear JPEG without anything but its pixels, and a small, blurred one. Pillow.

Nothing of the upload is kept: its orientation is applied, its colours are converted to sRGB, and all other metadata go.
Takes up to seconds of CPU and about 12 bytes a pixel, and decodes what strangers send: so a process is started for each
picture (`cluster.pictures.process`), in which nothing else can be slow, crash or run out of memory.
"""

import io
import json
import sys
from collections.abc import Mapping

from PIL import Image, ImageCms

from cluster.pictures.metadata import UPRIGHT, TooManyParts, split
from cluster.pictures.process import NoPicture, Picture, bound_this_process

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
_SRGB = ImageCms.createProfile("sRGB")
_GREYS = ("1", "L", "LA")
_MODES = {"RGB": ("RGB", ("1", "L", "P", "RGB")), "GRAY": ("L", _GREYS), "CMYK": ("CMYK", ("CMYK",))}
"""Colour space of an ICC profile -> Pillow's mode of the pixels that it describes, and which pictures' it can be."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation, as Exif numbers it -> what turns the picture upright."""


def make(upload: bytes, pixels_max: int) -> Picture:
    """Decode an upload and make both versions of it.

    Raises NoPicture: it is not a picture, is damaged, or has more than `pixels_max` pixels (known before decoding).
    """
    picture = _decoded(upload, pixels_max)
    width, height = picture.size
    part = BLURRED_CELLS / max(width, height)
    cells = max(1, round(width * part)), max(1, round(height * part))
    averages = picture.resize(cells, Image.Resampling.BOX)
    blurred = averages.resize((cells[0] * _ENLARGED, cells[1] * _ENLARGED), Image.Resampling.BICUBIC)
    return Picture(_jpeg(picture), _jpeg(blurred), width, height)


def answer(pixels_max: str, cpu_s: str, memory_bytes: str) -> None:
    """Make a picture as a process of its own: see `cluster.pictures.process`."""
    bound_this_process(int(cpu_s), int(memory_bytes))
    try:
        made = make(sys.stdin.buffer.read(), int(pixels_max))
    except NoPicture as refusal:
        _write({"refused": str(refusal)}, b"")
    except MemoryError:
        _write({"refused": f"a picture that can be decoded in {memory_bytes} bytes of memory"}, b"")
    else:
        said = {"width": made.width, "height": made.height, "clear": len(made.clear)}
        _write(said, made.clear + made.blurred)


def _write(said: Mapping[str, str | int], pictures: bytes) -> None:
    sys.stdout.buffer.write(json.dumps(said).encode() + b"\n" + pictures)


def _decoded(upload: bytes, pixels_max: int) -> Image.Image:
    """Return the pixels, upright, opaque, in sRGB, and free of all else."""
    try:
        content, orientation, profile = split(upload)
    except TooManyParts as failure:
        raise NoPicture(str(failure)) from failure
    if content.startswith(_JPEG) and content.count(_SCAN) > SCANS_MAX:
        raise NoPicture(f"a JPEG of at most {SCANS_MAX} scans")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            width, height = opened.size
            if width * height <= pixels_max and min(width, height) >= SIDE_MIN and max(width, height) <= SIDE_MAX:
                plain = _plain(opened, profile)
                return plain if orientation == UPRIGHT else plain.transpose(_TURNS[orientation])
    except MemoryError:
        raise
    except Exception as failure:  # a decoder fed by strangers fails in its own ways: IndexError, SyntaxError, ...
        raise NoPicture("a whole JPEG, PNG or WebP picture") from failure
    raise NoPicture(f"at most {pixels_max} pixels in all, {SIDE_MIN} to {SIDE_MAX} a side; this has {width} x {height}")


def _plain(picture: Image.Image, profile: bytes) -> Image.Image:
    """Copy the pixels alone, as sRGB, what shines through on white."""
    if picture.mode.startswith("I"):  # 16 bits of grey
        picture = picture.convert("I").point(lambda level: level * (1 / 256)).convert("L")
    if not picture.has_transparency_data:
        return _in_srgb(picture, profile)
    seen = picture.convert("RGBA")
    colours = seen.convert("L" if picture.mode in _GREYS else "RGB")
    plain = Image.new("RGB", picture.size, "white")
    plain.paste(_in_srgb(colours, profile), mask=seen.getchannel("A"))
    return plain


def _in_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Convert to sRGB by the picture's profile. A broken one, or one of other colours, counts as none."""
    if profile:
        try:
            source = ImageCms.getOpenProfile(io.BytesIO(profile))
            mode, taken = _MODES[source.profile.xcolor_space.strip()]
            if picture.mode in taken:
                converted = ImageCms.profileToProfile(picture.convert(mode), source, _SRGB, outputMode="RGB")
                assert converted is not None, "only a conversion in place returns nothing"
                return converted
        except (ImageCms.PyCMSError, OSError, KeyError, ValueError):
            pass  # as if the picture had no profile
    return picture.convert("RGB")


def _jpeg(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=_QUALITY)
    return content.getvalue()
