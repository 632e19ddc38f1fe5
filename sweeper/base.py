"""Base of every record: immutable, strict, JSON both ways; arrays are compressed."""

from __future__ import annotations

import base64
import zlib
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator


class Record(BaseModel):
    """Base of everything that flows: immutable, strict about its fields, JSON both ways."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def _unpack(value: Any) -> npt.NDArray[Any]:
    if isinstance(value, np.ndarray):
        return value
    raw = zlib.decompress(base64.b64decode(value["zlib"]))
    return np.frombuffer(raw, dtype=np.dtype(value["dtype"])).reshape(value["shape"])


def _pack(array: npt.NDArray[Any]) -> dict[str, Any]:
    raw = zlib.compress(np.ascontiguousarray(array).tobytes(), 6)
    return {"dtype": array.dtype.str, "shape": list(array.shape), "zlib": base64.b64encode(raw).decode()}


Array = Annotated[npt.NDArray[Any], PlainValidator(_unpack), PlainSerializer(_pack, when_used="json")]
"""A NumPy array that is compressed when the record is written as JSON."""
