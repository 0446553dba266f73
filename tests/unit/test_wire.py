"""The control socket's messages: frames, requests and replies."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane import fields, wire
from dataplane.wire import Code, Decoder, Request, WireError
from tests.unit.wire_values import json_values, refusal_of

if TYPE_CHECKING:
    pass


def framed(*messages: dict[str, Any]) -> bytes:
    return b"".join(wire.encode(message) for message in messages)


def test_frames_cut_at_every_byte() -> None:
    messages: list[dict[str, Any]] = [{"id": 1, "op": "version"}, {"é": "\U0001f600"}, {}]
    stream = framed(*messages)
    for cut in range(len(stream) + 1):
        decoder = Decoder()
        bodies = decoder.feed(stream[:cut]) + decoder.feed(stream[cut:])
        assert [wire.decode(body) for body in bodies] == messages
        assert not decoder.started


@given(st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=4), st.data())
def test_frames_in_any_chunks(messages: list[dict[str, Any]], data: st.DataObject) -> None:
    stream, decoder = framed(*messages), Decoder()
    bodies: list[bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        bodies += decoder.feed(stream[:size])
        stream = stream[size:]
    assert [wire.decode(body) for body in bodies] == messages


def test_reading_what_is_wanted_ends_with_the_frame() -> None:
    stream = framed({"id": 1}, {"id": 2})
    decoder = Decoder()
    bodies: list[bytes] = []
    while not bodies:
        wanted = decoder.wanted
        bodies = decoder.feed(stream[:wanted])
        stream = stream[wanted:]
    assert wire.decode(bodies[0]) == {"id": 1}
    assert stream == framed({"id": 2})


@pytest.mark.parametrize("size", [0, (1 << 20) + 1, 0xFFFFFFFF])
def test_frame_size_is_bounded(size: int) -> None:
    with pytest.raises(WireError, match=str(size)):
        Decoder().feed(struct.pack(">I", size))


def test_largest_frame_passes() -> None:
    body = b"x" * (1 << 20)
    assert Decoder().feed(struct.pack(">I", len(body)) + body) == [body]


def test_too_long_a_message_is_not_encoded() -> None:
    with pytest.raises(WireError, match="1048576"):
        wire.encode({"text": "x" * (1 << 20)})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"\xff{}", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b'{"a":1,"a":2}', "twice"),
        (b'{"a":{"b":1,"b":1}}', "twice"),
        (b'{"a":' + b"1" * 5000 + b"}", "not JSON"),
        (b"[" * 500_000, "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
    ],
)
def test_bodies_that_are_no_message(body: bytes, words: str) -> None:
    with pytest.raises(WireError, match=words):
        wire.decode(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    refusal = refusal_of(wire.decode, body)
    assert refusal is None or refusal.code == Code.INVALID


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({}, "id"),
        ({"id": "1", "op": "version"}, "id"),
        ({"id": -1, "op": "version"}, "id"),
        ({"id": 2**63, "op": "version"}, "id"),
        ({"id": True, "op": "version"}, "id"),
        ({"id": 1}, "op"),
        ({"id": 1, "op": 7}, "op"),
        ({"id": 1, "op": "version", "args": []}, "args"),
        ({"id": 1, "op": "version", "extra": 1}, "extra"),
    ],
)
def test_request_is_refused_naming_the_field(message: dict[str, Any], field: str) -> None:
    with pytest.raises(WireError) as refused:
        Request.from_json(message)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "around",
    [
        '{"id":%s}',
        '{"id":1,"op":%s}',
        '{"id":1,"op":"a","b":%s}',
        '{"id":1,"op":"a","args":{"b":%s}}',
    ],
)
def test_a_request_nested_to_any_depth_is_refused_as_such(around: str) -> None:
    """Near the interpreter's own limit to read it succeeds, and to show it did not."""
    for depth in range(20, 1100):
        for begin, end in (("[", "]"), ('{"a":', "}")):
            body = (around % (begin * depth + "1" + end * depth)).encode()
            with pytest.raises(WireError, match=r"nested|not JSON"):
                Request.from_json(wire.decode(body))


def test_a_request_nested_as_far_as_they_are_is_read() -> None:
    args = {"port": {"labels": {"a": "b"}, "ips": [[[1]]]}}
    assert Request.from_json({"id": 1, "op": "port_add", "args": args}).args == args


def test_request_survives_the_wire() -> None:
    request = Request(7, "ports", {"name": "a"})
    assert Request.from_json(json.loads(json.dumps(request.to_json()))) == request
    assert Request.from_json({"id": 7, "op": "ports"}) == Request(7, "ports", {})


def test_replies_have_the_documented_shape() -> None:
    assert wire.ok_reply(3, {"a": 1}) == {"id": 3, "ok": True, "result": {"a": 1}}
    error = WireError(Code.NOT_FOUND, "there is no port a", "name")
    assert json.loads(json.dumps(wire.error_reply(None, error))) == {
        "id": None,
        "ok": False,
        "error": {"code": "not_found", "message": "there is no port a", "field": "name"},
    }


def test_shown_is_one_ascii_line() -> None:
    assert fields.shown("a\nb\ud800é") == r"'a\nb\ud800\xe9'"
