"""The time of day: a zone that dates cannot hold is refused, any other is taken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from sweeper.core.errors import UsageError
from sweeper.system.clocks import check_time_zone


@pytest.fixture
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("zone", ["UTC+25", "XYZ-167", "UTC+24:00", "ABC0DEF-30,M3.2.0,M11.1.0"], indirect=True)
def test_a_zone_that_dates_cannot_hold_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="strictly between"):
        [datetime(2026, month, 1, tzinfo=UTC).astimezone() for month in (1, 7)]
    with pytest.raises(UsageError) as caught:
        check_time_zone()
    assert f"TZ must be a time zone less than 24 hours from UTC, got {zone!r}; correct" in str(caught.value)


@pytest.mark.parametrize(
    "zone", ["Foo/Bar", ":", "", ":/etc/passwd", "<bad", "UTC+23:59", "Asia/Kathmandu"], indirect=True
)
def test_an_odd_zone_is_taken(zone: str) -> None:
    check_time_zone()
    datetime.now(UTC).astimezone()
