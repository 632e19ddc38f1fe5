"""Stored records: other formats are refused, and a changed bit is detected."""

from __future__ import annotations

import json

import pytest

from sweeper import storage as studies
from sweeper.core.errors import DamagedError, StudyError
from sweeper.core.records import TrialResult
from sweeper.storage import record_format as stored
from sweeper.storage.record_format import FORMAT
from sweeper.version import __version__
from tests.support import builders

# --- Numbers and checksums ----------------------------------------------------------------------------------


def test_a_record_is_read_as_it_was_stored() -> None:
    result = builders.confirmation("dice", number=3)
    document = json.loads(json.dumps(studies.pack(result)))
    assert document["stored_as"]["format"] == FORMAT and document["stored_as"]["by"] == __version__
    assert document["value"] == result.value, "other readers of the attribute need its value"
    assert studies.unpack(TrialResult, document, "it") == result


def test_a_flipped_bit_of_a_stored_record_never_changes_its_meaning_silently() -> None:
    """Each bit of a small stored result is flipped: JSON is refused, or the record is, or it means the same."""
    result = builders.failed_trial(reason="x")
    text = json.dumps(studies.pack(result)).encode()
    silent = 0
    for place in range(len(text)):
        for bit in range(8):
            flipped = bytearray(text)
            flipped[place] ^= 1 << bit
            try:
                document = json.loads(flipped)
            except ValueError:  # refused by JSON or UTF-8: reported by the storage
                continue
            try:
                unpacked = studies.unpack(TrialResult, document, "the result of trial 7")
            except DamagedError as error:
                assert "the result of trial 7 is damaged" in str(error) and "Restore a backup" in str(error)
                continue
            except StudyError as error:
                assert "format" in str(error)
                continue
            silent += unpacked != result
    assert silent == 0


def test_a_value_has_a_default_and_a_changed_one_is_reported() -> None:
    assert studies.unpack_value({}, "margin", 0.01) == 0.01
    document = studies.pack_value(0.02)
    assert studies.unpack_value({"margin": document}, "margin") == 0.02
    for changed in ({**document, "value": 0.03}, 0.02):
        with pytest.raises(DamagedError, match="'margin'"):
            studies.unpack_value({"margin": changed}, "margin")


def test_a_record_of_another_version_is_refused_with_what_to_do() -> None:
    content = builders.failed_trial().model_dump(mode="json")

    def assert_refused(content: dict[str, object], number: int, words: str) -> None:
        mark = {"format": number, "by": "7.1", "sha256": stored.compute_checksum(content)}
        with pytest.raises(StudyError, match=words):
            studies.unpack(TrialResult, {**content, "stored_as": mark}, "trial 3")

    assert_refused(
        content, 99, rf"made by sweeper 7\.1 in format 99; this is sweeper {__version__}.*, or make a new study"
    )
    assert_refused(content, 2, r"in format 2; .*, or make a new study")
    assert_refused({**content, "colour": "red"}, FORMAT, r"made by sweeper 7\.1 in format .*; this is .* colour")
    with pytest.raises(DamagedError, match="format"):
        studies.unpack(TrialResult, content, "trial 3")
