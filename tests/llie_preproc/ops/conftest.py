"""What the tests of the scan are given."""

from tests.support.scans import small_tiles as small_tiles
