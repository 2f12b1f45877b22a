"""Marks: where the history of a system stands as something is asked, so that its answer can be judged from there on."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Mark(NamedTuple):
    """Where the history stands as something is asked."""

    seq: int
    """Events read."""
    balances: int = 0
    """Balances that the asker had."""
    seen: Mapping[str, int] = MappingProxyType({})
    """packet id -> what its lanes, if it is several, have been, in number."""
    stamps: Mapping[str, int] = MappingProxyType({})
    """stream -> the greatest stamp in it"""
