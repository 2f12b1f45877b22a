"""Samples of pictures: pixels from a seed, in any format."""

import io
from random import Random
from typing import Any

from PIL import Image


def noise(width: int, height: int, seed: int = 1) -> Image.Image:
    """Return a picture that looks like nothing else: every pixel of it drawn."""
    return Image.frombytes("RGB", (width, height), Random(seed).randbytes(3 * width * height))


def encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    """Return the file of a picture."""
    content = io.BytesIO()
    picture.save(content, form, **options)
    return content.getvalue()
