"""Base of every record: immutable, strict, JSON both ways; arrays are compressed."""

from __future__ import annotations

import base64
import zlib
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer, PlainValidator

from sweeper.core.redact import hide_command_secrets


class Record(BaseModel):  # noqa: PLW1641 (pydantic makes the hash of the fields of what is frozen)
    """Base of every record: immutable, strict about its fields, JSON both ways."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def __eq__(self, other: object) -> bool:
        """Compare type and fields; arrays element by element (NumPy's own `==` returns an array)."""
        if not isinstance(other, Record) or type(self) is not type(other):
            return NotImplemented
        return all(_has_same_fields(getattr(self, name), getattr(other, name)) for name in type(self).model_fields)


def _has_same_fields(one: Any, two: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(two, np.ndarray):
        return np.array_equal(one, two)
    if isinstance(one, tuple) and isinstance(two, tuple):
        return len(one) == len(two) and all(map(_has_same_fields, one, two))
    return bool(one == two)


def _unpack_array(value: Any) -> npt.NDArray[Any]:
    if isinstance(value, np.ndarray):
        return value
    kind = np.dtype(value["dtype"])
    planes = np.frombuffer(zlib.decompress(base64.b64decode(value["zlib"])), dtype=np.uint8)
    raw = planes.reshape(kind.itemsize, -1).T.tobytes()
    return np.frombuffer(raw, dtype=kind).reshape(value["shape"])


def _pack_array(array: npt.NDArray[Any]) -> dict[str, Any]:
    """Compress an array by byte planes: most high bytes of counts are 0, which saves a third."""
    planes = np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(-1, array.dtype.itemsize).T
    raw = zlib.compress(planes.tobytes(), 6)
    return {"dtype": array.dtype.str, "shape": list(array.shape), "zlib": base64.b64encode(raw).decode()}


Array = Annotated[npt.NDArray[Any], PlainValidator(_unpack_array), PlainSerializer(_pack_array, when_used="json")]
"""A NumPy array that is compressed when the record is written as JSON."""
ShownCommand = Annotated[str, AfterValidator(hide_command_secrets)]
"""A command that is displayed or stored, without its secrets."""
