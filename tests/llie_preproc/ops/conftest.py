"""Fixtures of the tests of the scan."""

from tests.support.scans import small_tiles as small_tiles
