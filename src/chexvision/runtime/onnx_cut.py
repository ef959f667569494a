"""An ONNX file without what some of its outputs do not need.

onnxruntime computes all nodes of a graph, whichever outputs are asked for. The maps of an exported model can cost
several times what its probabilities do, so that prediction runs on a graph without them.

Reads and writes the few fields of onnx.proto3 that this takes, by their numbers there: the onnx package is large.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

# onnx.proto3: ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto, ValueInfoProto.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_OUTPUT = 1, 5, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE = 1, 2, 5
_ATTRIBUTE_GRAPHS = (6, 11)
_TENSOR_NAME, _VALUE_NAME = 8, 1

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # wire types


class _Field(NamedTuple):
    """A field of a message.

    Args:
        number: in the message's definition.
        content: of strings, bytes and messages; empty for numbers.
        encoded: all of it, with its tag.
    """

    number: int
    content: memoryview
    encoded: memoryview


def without_other_outputs(model: bytes, outputs: Collection[str]) -> bytes:
    """The model with some of its outputs, and the nodes and weights that these need.

    Args:
        model: the content of an ONNX file.
        outputs: names of those to keep; others are ignored.

    Raises:
        ValueError: it is damaged.
    """
    kept: list[bytes | memoryview] = []
    for field in _fields(memoryview(model)):
        if field.number == _MODEL_GRAPH:
            graph = _cut(field.content, outputs)
            kept += [_varint(_MODEL_GRAPH << 3 | _LENGTH), _varint(len(graph)), graph]
        else:
            kept.append(field.encoded)
    return b"".join(kept)


def _cut(graph: memoryview, outputs: Collection[str]) -> bytes:
    fields = list(_fields(graph))
    needed = set(outputs)
    unused = set()
    for i in reversed(range(len(fields))):  # nodes are sorted: what a node needs comes before it
        field = fields[i]
        if field.number == _GRAPH_NODE:
            if needed.isdisjoint(_names(field.content, _NODE_OUTPUT)):
                unused.add(i)
            else:
                needed.update(_inputs(field.content))
    for i, field in enumerate(fields):
        if (field.number == _GRAPH_OUTPUT and needed.isdisjoint(_names(field.content, _VALUE_NAME))) or (
            field.number == _GRAPH_INITIALIZER and needed.isdisjoint(_names(field.content, _TENSOR_NAME))
        ):
            unused.add(i)
    return b"".join(field.encoded for i, field in enumerate(fields) if i not in unused)


def _inputs(node: memoryview) -> Iterator[str]:
    """What a node needs, with what the graphs inside it may take from outside."""
    yield from _names(node, _NODE_INPUT)
    for attribute in _fields(node):
        if attribute.number == _NODE_ATTRIBUTE:
            for graph in _fields(attribute.content):
                if graph.number in _ATTRIBUTE_GRAPHS:
                    for inner in _fields(graph.content):
                        if inner.number == _GRAPH_NODE:
                            yield from _inputs(inner.content)
                        elif inner.number == _GRAPH_OUTPUT:
                            yield from _names(inner.content, _VALUE_NAME)


def _names(message: memoryview, number: int) -> Iterator[str]:
    for field in _fields(message):
        if field.number == number:
            yield str(field.content, "utf-8", "replace")


def _fields(message: memoryview) -> Iterator[_Field]:
    """The fields of a message in their order."""
    at, end = 0, len(message)
    while at < end:
        tag, start = _read_varint(message, at)
        kind, content = tag & 7, message[:0]
        if kind == _LENGTH:
            length, start = _read_varint(message, start)
            stop = start + length
            content = message[start:stop]
        elif kind == _VARINT:
            stop = _read_varint(message, start)[1]
        elif kind in (_FIXED64, _FIXED32):
            stop = start + (8 if kind == _FIXED64 else 4)
        else:
            raise _damaged()
        if stop > end:
            raise _damaged()
        yield _Field(tag >> 3, content, message[at:stop])
        at = stop


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    if at < len(data) and data[at] < 0x80:  # most
        return data[at], at + 1
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise _damaged()


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _damaged() -> ValueError:
    return ValueError("not an ONNX file, or a damaged one")
