"""Pictures: what is taken, what is left of it, and what the blurred one tells."""

import io
import zlib
from random import Random
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from cluster.pictures.process import NoPicture
from cluster.pictures.render import BLURRED_CELLS, SCANS_MAX, SIDE_MAX, SIDE_MIN, make
from tests.unit.photo_site import encoded, noise

PIXELS_MAX = 1_000_000
ORIENTATION = 0x0112


def opened(content: bytes) -> Image.Image:
    """Decode what was made."""
    return Image.open(io.BytesIO(content))


def refusal(upload: bytes, pixels_max: int = PIXELS_MAX) -> str:
    """Return why an upload is not taken."""
    with pytest.raises(NoPicture) as refused:
        make(upload, pixels_max)
    return str(refused.value)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_every_kind_of_picture_becomes_a_jpeg_of_its_size(form: str) -> None:
    made = make(encoded(noise(200, 100), form), PIXELS_MAX)
    assert (made.width, made.height) == (200, 100)
    for content, size in ((made.clear, (200, 100)), (made.blurred, (128, 64))):
        picture = opened(content)
        assert (picture.format, picture.size, picture.mode) == ("JPEG", size, "RGB")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_nothing_but_the_pixels_is_left_of_an_upload(form: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "SECRET description"
    exif[0x8825] = {1: "N", 2: (31.0, 14.0, 0.0)}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options: dict[str, Any] = {"exif": exif.tobytes(), "icc_profile": profile, "xmp": b"SECRET xmp"}
    if form == "JPEG":
        options["comment"] = b"SECRET comment"
    if form == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("SECRET", "SECRET text", zip=False)
        options["pnginfo"] = text
    upload = encoded(noise(100, 100), form, **options) + b"SECRET trailer"
    assert upload.count(b"SECRET") >= 3
    made = make(upload, PIXELS_MAX)
    for content in (made.clear, made.blurred):
        assert b"SECRET" not in content
        assert b"Exif" not in content
        picture = opened(content)
        assert not picture.getexif()
        assert picture.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_a_picture_is_turned_as_its_exif_says() -> None:
    upright = Image.new("RGB", (200, 100), "red")
    upright.paste("blue", (0, 0, 100, 100))
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned by a quarter, clockwise
    made = make(encoded(upright, "JPEG", exif=exif.tobytes()), PIXELS_MAX)
    picture = opened(made.clear)
    assert (made.width, made.height) == picture.size == (100, 200)
    top: Any
    bottom: Any
    top, bottom = picture.getpixel((50, 20)), picture.getpixel((50, 180))
    assert (top[2] > 200, bottom[0] > 200) == (True, True)


def test_what_shines_through_is_white_and_sixteen_bits_of_grey_stay_grey() -> None:
    clear = opened(make(encoded(Image.new("RGBA", (100, 100), (0, 0, 0, 0)), "PNG"), PIXELS_MAX).clear)
    white: Any = clear.getpixel((50, 50))
    assert min(white) > 250
    grey = opened(make(encoded(Image.new("I;16", (100, 100), 0x8000), "PNG"), PIXELS_MAX).clear)
    levels: Any = grey.getpixel((50, 50))
    assert all(abs(level - 128) < 4 for level in levels)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA"])
def test_every_mode_of_colour_is_taken(mode: str) -> None:
    form = "JPEG" if mode == "CMYK" else "PNG"
    assert make(encoded(noise(100, 100).convert(mode), form), PIXELS_MAX).width == 100


def test_the_blurred_picture_tells_averages_of_large_cells_and_nothing_else() -> None:
    rows = [[255 * ((x + y) % 2) for x in range(160)] for y in range(160)]
    chess = Image.frombytes("L", (160, 160), bytes(level for row in rows for level in row))
    other = chess.point(lambda level: 255 - level)
    one, two = (make(encoded(picture, "PNG"), PIXELS_MAX) for picture in (chess, other))
    assert one.clear != two.clear
    assert one.blurred == two.blurred, "what differs inside the cells cannot be seen"
    assert opened(one.blurred).resize((BLURRED_CELLS, BLURRED_CELLS)).size == (16, 16)


@pytest.mark.parametrize(
    ("size", "taken"),
    [
        ((SIDE_MIN, SIDE_MIN), True),
        ((SIDE_MIN - 1, 500), False),
        ((500, SIDE_MIN - 1), False),
        ((10_000, SIDE_MIN), True),
        ((1_000, 1_000), True),
        ((1_000, 1_001), False),
    ],
)
def test_a_picture_is_as_large_as_its_averages_hide_it_and_its_pixels_are_bounded(
    size: tuple[int, int], taken: bool
) -> None:
    upload = encoded(Image.new("RGB", size), "PNG")
    if taken:
        assert make(upload, PIXELS_MAX)[2:] == size
    else:
        assert f"{size[0]} x {size[1]}" in refusal(upload)


def png_saying(width: int, height: int) -> bytes:
    """Return a PNG that says it is so large, and holds nearly nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1_000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [5_000, 13_000, 30_000])
def test_a_bomb_is_told_by_its_head_before_a_pixel_is_decoded(side: int) -> None:
    told = refusal(png_saying(side, side))
    assert f"{PIXELS_MAX} pixels" in told or side == 30_000  # Pillow's own bound comes first


def test_a_side_longer_than_a_jpeg_can_have_is_refused() -> None:
    assert f"{SIDE_MAX} a side" in refusal(png_saying(SIDE_MAX + 1, SIDE_MIN), 10_000_000)


def test_a_jpeg_of_very_many_scans_is_refused_undecoded() -> None:
    upload = encoded(noise(100, 100), "JPEG", progressive=True)
    head, scan, rest = upload.rpartition(b"\xff\xda")
    assert make(upload, PIXELS_MAX)
    assert "scans" in refusal(head + (scan + rest[:-2]) * SCANS_MAX + b"\xff\xd9")


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "ICO", "PPM"])
def test_a_picture_of_another_kind_is_refused(form: str) -> None:
    assert "JPEG, PNG or WebP" in refusal(encoded(noise(100, 100), form))


@pytest.mark.parametrize(
    "upload", [b"", b"hello", b"\xff\xd8\xff", b"<svg/>", b"%PDF-1.7", b"RIFF0000WEBP", b"\x89PNG"]
)
def test_what_is_no_picture_is_refused(upload: bytes) -> None:
    assert "a whole JPEG, PNG or WebP picture" in refusal(upload)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_picture_that_is_cut_off_is_refused(form: str, part: float) -> None:
    upload = encoded(noise(200, 200), form)
    assert "a whole JPEG, PNG or WebP picture" in refusal(upload[: int(len(upload) * part)])


SAMPLES = [encoded(noise(70, 70), form) for form in ("JPEG", "PNG", "WEBP")]


@settings(max_examples=150)
@given(st.sampled_from(SAMPLES), st.integers(0, 2**32), st.integers(1, 30))
def test_a_damaged_picture_is_taken_or_refused_and_nothing_else_happens(upload: bytes, seed: int, flips: int) -> None:
    random, content = Random(seed), bytearray(upload)
    for _ in range(flips):
        content[random.randrange(min(len(content), 2_000))] = random.randrange(256)
    try:
        made = make(bytes(content), PIXELS_MAX)
    except NoPicture:
        return
    assert opened(made.clear).size == (made.width, made.height)
