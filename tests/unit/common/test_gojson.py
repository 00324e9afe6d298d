"""JSON with the complaints of Go's decoder."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import errors, gojson


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"{", "unexpected EOF"),
        (b'{"a":"b', "unexpected EOF"),
        (b"nul", "unexpected EOF"),
        (b"x", "invalid character 'x' looking for beginning of value"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b"{'a':1}", r"invalid character '\'' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":01}', "invalid character '1' after object key:value pair"),
        (b'{"a":1 "b":2}', "invalid character '\"' after object key:value pair"),
        (b'{"a":["}",{}] ]', "invalid character ']' after object key:value pair"),
        (b'[{"a":"\\"["} 1]', "invalid character '1' after array element"),
        (b'{"a":"\x01"}', r"invalid character '\x01' in string literal"),
        (b'{"a":"\n"}', r"invalid character '\n' in string literal"),
        (b'{"a":"\\x"}', "invalid character 'x' in string escape code"),
        (b'"\\u12g4"', r"invalid character 'g' in \u hexadecimal character escape"),
        (b'{"a":-}', "invalid character '}' in numeric literal"),
        (b"trux", "invalid character 'x' in literal true (expecting 'e')"),
        (b"[NaN]", "invalid character 'N' looking for beginning of value"),
        (b"-Infinity", "invalid character 'I' in numeric literal"),
        (b"\xef\xbb\xbf{}", "invalid character 'ï' looking for beginning of value"),
        (b"[" * 200_000, "exceeded max depth"),
    ],
)
def test_what_is_none_is_refused_as_go_refuses_it(raw, text):
    with pytest.raises(errors.InvalidArgument) as caught:
        gojson.loads(raw)
    assert caught.value.message == f"invalid JSON: {text}"


def test_more_than_one_value():
    with pytest.raises(errors.InvalidArgument) as caught:
        gojson.loads(b'{"a":1} x')
    assert caught.value.message == "unexpected content after JSON"


def test_what_is_not_utf8_is_replaced():
    assert gojson.loads(b'{"a":"\xff"}') == {"a": "\N{REPLACEMENT CHARACTER}"}


def test_a_number_of_thousands_of_digits():
    with pytest.raises(errors.InvalidArgument):
        gojson.loads(b"1" * 5000)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_what_is_json_is_read(value):
    assert gojson.loads(json.dumps(value).encode()) == value


@given(st.text("{}[]\",:\\ntu-1e.x'") | st.text())
def test_whatever_comes_is_read_or_refused(text):
    raw = text.encode("utf-8", "replace")
    with contextlib.suppress(errors.InvalidArgument):
        gojson.loads(raw)


def test_values_of_the_wrong_type():
    assert gojson.mismatch("number", "HostConfig", ("HostConfig", "Binds"), "[]string").message == (
        "invalid JSON: json: cannot unmarshal number into Go struct field HostConfig.HostConfig.Binds of type []string"
    )
    assert gojson.mismatch("array", "", (), "swarm.InitRequest").message.endswith(
        "array into Go value of type swarm.InitRequest"
    )
    kinds = [gojson.kind(value) for value in (True, 1, 1.5, "a", [], {}, None)]
    assert kinds == ["bool", "number", "number", "string", "array", "object", "null"]
