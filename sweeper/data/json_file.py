"""JSON from strangers: whole, or what is wrong with it in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sweeper.core.regular_files import read_regular
from sweeper.data.decode import UnreadableFileError

ONE_IMAGE = 1 << 27
"""Bytes of a file about one image: room for the image itself."""
ALL_IMAGES = 1 << 30
"""Bytes of a file about all of them: COCO's training annotations are half of that."""


def load_json(path: Path, limit: int = ONE_IMAGE) -> Any:
    """The data of a JSON file of at most `limit` bytes.

    Raises:
        UnreadableFileError: not JSON, too large, or nested without end.
    """
    try:
        if (size := path.stat().st_size) > limit:
            raise UnreadableFileError(
                f"must be {limit >> 20} MiB at most, found {size >> 20} MiB; divide it, or name the right file"
            )
        return json.loads(read_regular(path).decode("utf-8-sig"))
    except OSError as error:
        raise UnreadableFileError(f"cannot be read ({error.strerror}); check its permissions") from error
    except UnicodeDecodeError as error:
        raise UnreadableFileError(
            f"must be UTF-8 text, found other bytes ({error.reason}); save it as UTF-8"
        ) from error
    except RecursionError as error:
        raise UnreadableFileError("must be JSON, found lists in lists without end; export it again") from error
    except ValueError as error:
        raise UnreadableFileError(f"must be JSON, found an error: {error}; export it again") from error
