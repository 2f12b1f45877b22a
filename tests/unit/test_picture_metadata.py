"""Metadata of pictures: what is broken in it is ignored, what counts is applied, and a file's parts are bounded."""

import io
import zlib
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cluster.pictures.metadata import CHUNKS_MAX, PROFILE_BYTES_MAX, SEGMENTS_MAX, split
from cluster.pictures.process import NoPicture
from cluster.pictures.render import make
from tests.unit.photo_site import encoded, noise
from tests.unit.profiles import ADOBE_RGB, DISPLAY_P3, Matrix, cmyk_profile, grey_profile, rgb_profile

FORMS = ("JPEG", "PNG", "WEBP")
ADOBE_GAMMA = 563 / 256
TIFF = b"II*\0\x08\0\0\0"


def chunk(kind: bytes, body: bytes, sum_of: bytes | None = None) -> bytes:
    """Return a chunk of a PNG; `sum_of`: what its check sum is of, if not of itself."""
    return pack(">I", len(body)) + kind + body + pack(">I", zlib.crc32(kind + body if sum_of is None else sum_of))


def with_chunks(upload: bytes, chunks: bytes) -> bytes:
    """Put chunks behind a PNG's head."""
    return upload[:33] + chunks + upload[33:]


def with_segments(upload: bytes, segments: bytes) -> bytes:
    """Put segments behind a JPEG's first marker."""
    return upload[:2] + segments + upload[2:]


def segment(marker: int, body: bytes) -> bytes:
    """Return a segment of a JPEG."""
    return bytes((0xFF, marker)) + pack(">H", len(body) + 2) + body


def webp_with(kind: bytes, body: bytes, flag: int) -> bytes:
    """Return a WebP file with a chunk of metadata."""
    plain = encoded(noise(80, 120), "WEBP", lossless=True)[12:]
    head = b"VP8X" + pack("<IB3x", 10, flag) + pack("<I", 79)[:3] + pack("<I", 119)[:3]
    body = head + plain + kind + pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + pack("<I", len(body) + 4) + b"WEBP" + body


def entry(tag: int, form: int, count: int, value: bytes) -> bytes:
    """Return an entry of a TIFF directory."""
    return pack("<HHI", tag, form, count) + value.ljust(4, b"\0")


def exif_of(*entries: bytes) -> bytes:
    """Return an Exif block."""
    return TIFF + pack("<H", len(entries)) + b"".join(entries) + bytes(4)


ORIENTED = entry(0x0112, 3, 1, b"\x06\0")
ASCII_RESOLUTION = entry(0x011A, 2, 4, b"72\0\0")
BROKEN = {
    "words": b"no exif at all",
    "nothing": b"",
    "order only": b"II*\0",
    "directory outside": b"II*\0\xff\xff\xff\x7f",
    "cut directory": TIFF + b"\x09\0" + ORIENTED[:5],
    "orientation 0": exif_of(entry(0x0112, 3, 1, b"\0\0")),
    "orientation 9": exif_of(entry(0x0112, 3, 1, b"\x09\0")),
    "orientation in words": exif_of(entry(0x0112, 2, 2, b"6\0")),
    "offsets outside": exif_of(entry(0x8769, 4, 1, b"\xff\xff\xff\x7f"), entry(0x8825, 4, 1, b"\x01\0\0\0")),
}


def uploads_with(exif: bytes) -> dict[str, bytes]:
    """Return a picture of 80 x 120 in every format, with that Exif block."""
    return {
        "JPEG": with_segments(encoded(noise(80, 120), "JPEG"), segment(0xE1, b"Exif\0\0" + exif)),
        "PNG": with_chunks(encoded(noise(80, 120), "PNG"), chunk(b"eXIf", exif)),
        "WEBP": webp_with(b"EXIF", exif, 0x08),
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("exif", BROKEN.values(), ids=BROKEN.keys())
def test_broken_exif_refuses_no_picture(form: str, exif: bytes) -> None:
    made = make(uploads_with(exif)[form], 1_000_000)
    assert (made.width, made.height) == (80, 120)


@pytest.mark.parametrize("form", FORMS)
def test_an_orientation_counts_beside_entries_that_are_broken(form: str) -> None:
    made = make(uploads_with(exif_of(ORIENTED, ASCII_RESOLUTION))[form], 1_000_000)
    assert (made.width, made.height) == (120, 80), "turned by a quarter"


@pytest.mark.parametrize("form", FORMS)
def test_an_orientation_in_xmp_counts_where_exif_has_none(form: str) -> None:
    xmp = b'<rdf:Description tiff:Orientation="8"/>'
    upload = {
        "JPEG": with_segments(encoded(noise(80, 120), "JPEG"), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)),
        "PNG": with_chunks(encoded(noise(80, 120), "PNG"), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)),
        "WEBP": webp_with(b"XMP ", xmp, 0x04),
    }[form]
    assert split(upload).orientation == 8
    assert make(upload, 1_000_000).width == 120


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_turns_a_picture_as_a_viewer_does(orientation: int) -> None:
    corners = Image.new("RGB", (160, 80))
    for index, colour in enumerate(("red", "lime", "blue", "white")):
        corners.paste(colour, (80 * (index % 2), 40 * (index // 2), 80 * (index % 2) + 80, 40 * (index // 2) + 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upload = encoded(corners, "PNG", exif=exif.tobytes())
    with Image.open(io.BytesIO(upload)) as opened:
        wanted = ImageOps.exif_transpose(opened)
    got = Image.open(io.BytesIO(make(upload, 1_000_000).clear))
    assert got.size == wanted.size
    for x in (0.25, 0.75):
        for y in (0.25, 0.75):
            spot = int(x * got.width), int(y * got.height)
            colours: Any = got.getpixel(spot), wanted.getpixel(spot)
            assert all(abs(one - other) < 12 for one, other in zip(*colours, strict=True)), spot


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_no_text_of_an_upload_reaches_its_decoder(form: str) -> None:
    texts = segment(0xFE, b"SECRET") + segment(0xE1, b"SECRET") + segment(0xED, b"SECRET")
    upload = {
        "JPEG": with_segments(encoded(noise(80, 120), "JPEG"), texts),
        "PNG": with_chunks(encoded(noise(80, 120), "PNG"), chunk(b"tEXt", b"Comment\0SECRET")),
    }[form]
    assert b"SECRET" not in split(upload).content
    assert b"SECRET" not in make(upload, 1_000_000).clear


# Colours.


def pixel(upload: bytes) -> Any:
    """Return the colour that is left of a picture of one colour."""
    return Image.open(io.BytesIO(make(upload, 1_000_000).clear)).getpixel((50, 50))


def to_srgb(colour: tuple[int, int, int], primaries: Matrix, gamma: float) -> list[int]:
    """Convert by the definitions: linear, to XYZ at D50, to linear sRGB, to sRGB."""
    inverse = ((3.1339, -1.6169, -0.4906), (-0.9788, 1.9161, 0.0335), (0.0719, -0.2290, 1.4052))
    linear = [(level / 255) ** gamma for level in colour]
    xyz = [sum(primaries[k][axis] * linear[k] for k in range(3)) for axis in range(3)]
    mixed = [max(0.0, min(1.0, sum(row[axis] * xyz[axis] for axis in range(3)))) for row in inverse]
    return [round(255 * (12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055)) for v in mixed]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("primaries", "gamma"), [(DISPLAY_P3, 2.2), (ADOBE_RGB, ADOBE_GAMMA)])
def test_colours_of_a_wide_profile_are_converted_to_srgb(form: str, primaries: Matrix, gamma: float) -> None:
    colour = (100, 160, 90)
    plain = Image.new("RGB", (100, 100), colour)
    options = {"lossless": True} if form == "WEBP" else {}
    got = pixel(encoded(plain, form, icc_profile=rgb_profile(primaries, gamma), **options))
    wanted = to_srgb(colour, primaries, gamma)
    assert all(abs(one - other) <= 4 for one, other in zip(got, wanted, strict=True)), (got, wanted)
    assert abs(wanted[0] - colour[0]) > 15, "the profile makes a difference"


def test_a_press_profile_and_a_grey_one_say_what_ink_and_grey_look_like() -> None:
    ink = Image.new("CMYK", (100, 100), (255, 0, 0, 0))
    red, _, blue = pixel(encoded(ink, "JPEG", icc_profile=cmyk_profile((140, 200, 180))))
    assert red > blue + 50, "this press's cyan is red"
    grey = Image.new("L", (100, 100), 100)
    assert abs(pixel(encoded(grey, "PNG", icc_profile=grey_profile(1.0)))[0] - 168) <= 4, "linear 100 is sRGB 168"


def test_what_shines_through_keeps_its_part_and_its_colour_is_converted() -> None:
    glass = Image.new("RGBA", (100, 100), (100, 160, 90, 128))
    got = pixel(encoded(glass, "PNG", icc_profile=rgb_profile(ADOBE_RGB, ADOBE_GAMMA)))
    wanted = [round((level * 128 + 255 * 127) / 255) for level in to_srgb((100, 160, 90), ADOBE_RGB, ADOBE_GAMMA)]
    assert all(abs(one - other) <= 4 for one, other in zip(got, wanted, strict=True)), (got, wanted)


WRONG_PROFILES = {
    "words": b"no profile",
    "cut": rgb_profile(DISPLAY_P3, 2.2)[:200],
    "of a press": cmyk_profile((140, 200, 180)),
    "of greys": grey_profile(1.0),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("profile", WRONG_PROFILES.values(), ids=WRONG_PROFILES.keys())
def test_a_profile_that_is_broken_or_of_other_colours_counts_as_none(form: str, profile: bytes) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    got = pixel(encoded(Image.new("RGB", (100, 100), (100, 160, 90)), form, icc_profile=profile, **options))
    assert all(abs(one - other) <= 4 for one, other in zip(got, (100, 160, 90), strict=True))


def test_a_profile_that_inflates_without_end_is_ignored() -> None:
    bomb = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(PROFILE_BYTES_MAX + 1)))
    upload = with_chunks(encoded(noise(100, 100), "PNG"), bomb)
    assert split(upload).profile == b""
    assert make(upload, 1_000_000).width == 100


# Bounds.


def test_metadata_with_a_wrong_check_sum_refuses_no_picture() -> None:
    wrong = chunk(b"tEXt", b"Comment\0hello", sum_of=b"") + chunk(b"gAMA", b"\0\0", sum_of=b"") + chunk(b"qQqQ", b"?")
    assert make(with_chunks(encoded(noise(100, 100), "PNG"), wrong), 1_000_000).width == 100


@pytest.mark.parametrize("count", [CHUNKS_MAX // 2, CHUNKS_MAX])
def test_a_png_of_very_many_chunks_is_refused_undecoded(count: int) -> None:
    upload = with_chunks(encoded(noise(100, 100), "PNG"), chunk(b"tEXt", b"") * count)
    if count < CHUNKS_MAX:
        assert make(upload, 1_000_000)
    else:
        with pytest.raises(NoPicture, match=f"{CHUNKS_MAX} chunks"):
            make(upload, 1_000_000)


@pytest.mark.parametrize("count", [SEGMENTS_MAX // 2, SEGMENTS_MAX])
def test_a_jpeg_of_very_many_segments_is_refused_undecoded(count: int) -> None:
    upload = with_segments(encoded(noise(100, 100), "JPEG"), segment(0xFE, b"") * count)
    if count < SEGMENTS_MAX:
        assert make(upload, 1_000_000)
    else:
        with pytest.raises(NoPicture, match=f"{SEGMENTS_MAX} segments"):
            make(upload, 1_000_000)


def test_a_webp_of_very_many_chunks_is_refused_undecoded() -> None:
    with pytest.raises(NoPicture, match=f"{CHUNKS_MAX} chunks"):
        make(webp_with(b"JUNK", b"", 0) + b"JUNK\0\0\0\0" * CHUNKS_MAX, 1_000_000)


SAMPLES = [*uploads_with(exif_of(ORIENTED, ASCII_RESOLUTION)).values()]


@settings(max_examples=200)
@given(st.sampled_from(SAMPLES), st.data())
def test_any_damage_of_a_head_is_walked_to_an_end(upload: bytes, data: st.DataObject) -> None:
    content = bytearray(upload)
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(len(content), 400) - 1))] = data.draw(st.integers(0, 255))
    found = split(bytes(content))
    assert 1 <= found.orientation <= 8
    assert len(found.content) <= len(content)
