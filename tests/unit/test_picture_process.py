"""A picture's process: what it makes is what is made here, and its ends are told apart."""

import pytest
from PIL import Image

from cluster.pictures.process import NoPicture, PictureBounds, PictureLate, make_apart
from cluster.pictures.render import make
from tests.unit.photo_site import encoded, noise

BOUNDS = PictureBounds(pixels_max=1_000_000, cpu_s=20, memory_bytes=1_610_612_736, deadline_s=60)


def test_a_picture_made_apart_is_the_same_picture() -> None:
    upload = encoded(noise(120, 80), "PNG")
    assert make_apart(upload, BOUNDS) == make(upload, BOUNDS.pixels_max)


def test_a_refusal_comes_back_in_its_words() -> None:
    with pytest.raises(NoPicture, match="a whole JPEG, PNG or WebP picture"):
        make_apart(b"hello", BOUNDS)


def test_a_picture_that_needs_more_memory_than_there_may_be_is_refused() -> None:
    upload = encoded(Image.new("L", (6_000, 6_000)), "PNG", compress_level=1)
    with pytest.raises(NoPicture, match="bytes of memory"):
        make_apart(upload, BOUNDS._replace(pixels_max=100_000_000, memory_bytes=200_000_000))


def test_a_picture_that_takes_too_long_is_late_and_not_refused() -> None:
    with pytest.raises(PictureLate):
        make_apart(encoded(noise(120, 80), "PNG"), BOUNDS._replace(deadline_s=0.001))


def test_a_picture_that_takes_too_much_processor_time_is_refused() -> None:
    progressive = encoded(Image.new("RGB", (3_000, 3_000)), "JPEG", progressive=True)
    head, scan, rest = progressive.rpartition(b"\xff\xda")
    many_passes = head + (scan + rest[:-2]) * 180 + b"\xff\xd9"
    with pytest.raises(NoPicture, match="processor time"):
        make_apart(many_passes, BOUNDS._replace(pixels_max=100_000_000, cpu_s=1))
