# SPDX-License-Identifier: Apache-2.0
"""A model of one node in ONNX's wire format (protobuf), so that onnxruntime can be timed without the onnx package."""

from __future__ import annotations

_ELEMENT_TYPE = {"float32": 1, "float16": 10, "float64": 11, "bfloat16": 16}
_IR_VERSION, _OPSET = 8, 17
_INT, _INTS = 2, 7  # types of attributes


def one_node(op: str, dtype: str, attributes: dict[str, int | list[int]]) -> bytes:
    """Serialise `y = op(x)` with both of `dtype` and of any shape."""
    node = _text(1, "x") + _text(2, "y") + _text(4, op)
    node += b"".join(_bytes(5, _attribute(name, value)) for name, value in attributes.items())
    graph = _bytes(1, node) + _text(2, "one_node") + _bytes(11, _tensor("x", dtype)) + _bytes(12, _tensor("y", dtype))
    return _int(1, _IR_VERSION) + _bytes(7, graph) + _bytes(8, _text(1, "") + _int(2, _OPSET))


def _attribute(name: str, value: int | list[int]) -> bytes:
    if isinstance(value, int):
        return _text(1, name) + _int(3, value) + _int(20, _INT)
    return _text(1, name) + b"".join(_int(8, item) for item in value) + _int(20, _INTS)


def _tensor(name: str, dtype: str) -> bytes:
    return _text(1, name) + _bytes(2, _bytes(1, _int(1, _ELEMENT_TYPE[dtype])))


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
