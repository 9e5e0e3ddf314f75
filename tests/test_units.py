from __future__ import annotations

import pytest

from airflow_provider_hca.units import amount, size_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (1536.0, "1.5 KiB"),
        (5 * 1024**2, "5.0 MiB"),
        (3 * 1024**3, "3.0 GiB"),
        (2000 * 1024**4, "2,000.0 TiB"),
    ],
)
def test_size_has_the_largest_unit_that_fits(size: float, text: str) -> None:
    assert size_text(size) == text


def test_amount_has_the_number_and_the_size() -> None:
    assert amount(1, 5) == "1 file (5 B)"
    assert amount(2000, 4096) == "2,000 files (4.0 KiB)"
