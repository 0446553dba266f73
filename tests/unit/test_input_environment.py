"""Every environment is either read as it was meant, or refused with error 4 and its variable."""

from __future__ import annotations

import re
from collections.abc import Callable

from hypothesis import assume, example, given
from hypothesis import strategies as st

from cni_virtio.ports import pod_port_name
from cni_virtio.requests import _environment
from cni_virtio.spec import CniError, Request, check_ifname
from dataplane import fields
from tests.unit import inputs

COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
VARIABLES = ("COMMAND", "CONTAINERID", "NETNS", "IFNAME", "ARGS", "PATH")

container_ids = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,199}", fullmatch=True)
ifnames = st.from_regex(r"[a-z][a-z0-9._@\-]{0,14}", fullmatch=True)
plain = st.text(st.characters(exclude_characters=";=\0", exclude_categories=["C"]), max_size=9)
known_args = st.dictionaries(
    st.sampled_from(["K8S_POD_NAME", "K8S_POD_NAMESPACE", "K8S_POD_UID", "MAC", "IP", "GATEWAY"]),
    plain,
)
unknown_args = st.dictionaries(plain.filter(bool).map("X{}".format), plain)
folders = st.lists(st.sampled_from(["/opt/cni/bin", "/a b", "bin", ".", ""]), max_size=4)
# As os.fsdecode gives what a process has in its environment.
env_text = st.binary(max_size=24).map(
    lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)
ODD_NAMES = (*"àé/:%\t\xa0\u2003\x01\x7f\udcff.0@ ", "..", "a/b", "a%d")


def environment(**changes: str) -> dict[str, str]:
    given = {"COMMAND": "ADD", "CONTAINERID": "c1", "NETNS": "/n", "IFNAME": "eth0"} | changes
    return {f"CNI_{name}": value for name, value in given.items()}


def refusal(env: dict[str, str]) -> CniError | None:
    """The error of an environment, which names its variable; None if there is none."""
    error = raised(lambda: Request.parse(env, b""))
    assert error is None or error.msg.startswith("CNI_")
    return error


def raised(call: Callable[[], object]) -> CniError | None:
    """The error 4 that a call raises, in one short line; None if it raises none."""
    try:
        call()
    except CniError as refused:
        error = refused
    else:
        return None
    assert error.code == 4
    assert error.msg.isprintable()
    assert len(error.msg) < 500
    return error


@given(st.sampled_from(COMMANDS), container_ids, ifnames, known_args, folders)
def test_a_valid_one_is_read_as_it_was_meant(
    command: str, container_id: str, ifname: str, args: dict[str, str], path: list[str]
) -> None:
    text = ";".join(f"{key}={value}" for key, value in args.items())
    env = environment(
        COMMAND=command,
        CONTAINERID=container_id,
        IFNAME=ifname,
        ARGS=text,
        PATH=":".join(path),
    )
    request = Request.parse(env, b"x", 7)
    assert (request.command, request.container_id, request.ifname) == (
        command,
        container_id,
        ifname,
    )
    assert (request.args, request.stdin, request.netns_fd) == (args, b"x", 7)
    assert request.path == [place for place in path if place.startswith("/")]
    pod = {"K8S_POD_NAME": "name", "K8S_POD_NAMESPACE": "namespace", "K8S_POD_UID": "uid"}
    assert request.pod == {pod[key]: value for key, value in args.items() if key in pod and value}


@given(known_args, unknown_args, st.sampled_from(["", "0", "false", "False", "1", "true", "TRUE"]))
def test_unknown_arguments_pass_if_the_caller_says_so(
    known: dict[str, str], unknown: dict[str, str], flag: str
) -> None:
    args = known | unknown | ({"IgnoreUnknown": flag} if flag else {})
    text = ";".join(f"{key}={value}" for key, value in args.items())
    error = refusal(environment(ARGS=text))
    if flag in ("1", "true", "TRUE") or not unknown:
        assert error is None
    else:
        assert error is not None
        assert error.msg.startswith("CNI_ARGS: ")


def pairs(text: str) -> bool:
    """Whether a text is one of CNI_ARGS, all of whose keys are unknown."""
    return all(re.fullmatch(r"[^=;]+=[^=;]*", pair, re.DOTALL) for pair in text.split(";"))


@given(st.lists(st.sampled_from(["A", "B=", "=", ";", "=x", "\n", "é"]), min_size=1).map("".join))
def test_arguments_are_pairs(text: str) -> None:
    assume(text)
    error = refusal(environment(ARGS="IgnoreUnknown=1;" + text))
    assert (error is None) == pairs(text)


@given(st.sampled_from(VARIABLES), env_text | inputs.texts, st.sampled_from(COMMANDS))
def test_any_value_of_any_variable(name: str, value: str, command: str) -> None:
    error = refusal(environment(**{"COMMAND": command, name: value}))
    if error is not None:
        assert error.msg.startswith(f"CNI_{name}: ")


@given(st.sampled_from(COMMANDS), st.sets(st.sampled_from(VARIABLES)))
def test_what_is_missing_is_named(command: str, missing: set[str]) -> None:
    env = environment(COMMAND=command)
    for name in missing:
        env.pop(f"CNI_{name}", None)
    needed = {
        "ADD": {"CONTAINERID", "NETNS", "IFNAME"},
        "CHECK": {"CONTAINERID", "NETNS", "IFNAME"},
        "DEL": {"CONTAINERID", "IFNAME"},
    }
    lacks = {"COMMAND"} & missing or needed.get(command, set()) & missing
    error = refusal(env)
    assert (error is not None) == bool(lacks)
    if error is not None:
        assert all(f"CNI_{name}" in error.msg for name in lacks)


def kernel_takes(name: str) -> bool:
    """dev_valid_name() of the kernel, and its placeholders, for the bytes of a name."""
    raw = name.encode("utf-8", "surrogateescape")
    return (
        1 <= len(raw) <= 15 and raw not in (b".", b"..") and not set(raw) & {*b"/:% \t\n\v\f\r\xa0"}
    )


@given(
    st.sampled_from(ODD_NAMES)
    | st.text(st.sampled_from("ée-0"), min_size=7, max_size=17)
    | st.lists(st.sampled_from(ODD_NAMES) | env_text, max_size=3).map("".join)
)
@example("..")
@example("é" * 8)
def test_a_name_is_taken_as_the_kernel_and_the_dataplane_do(name: str) -> None:
    if raised(lambda: check_ifname(name)) is None:
        assert kernel_takes(name)
        fields.name(pod_port_name("c" * 200, name), "port.name")
    else:
        assert not kernel_takes(name) or not name.isprintable() or any(map(str.isspace, name))


@given(st.dictionaries(st.from_regex(r"CNI_[A-Z]{1,6}", fullmatch=True), env_text))
def test_a_block_of_variables_reads_back(env: dict[str, str]) -> None:
    lines = [f"{key}={value}".encode("utf-8", "surrogateescape") for key, value in env.items()]
    block = b"".join(line + b"\0" for line in lines)
    assert _environment(block) == env
    again = b"".join(line + b"?\0" for line in lines)
    assert _environment(block + again) == env


@given(
    st.binary(max_size=60) | st.lists(st.sampled_from([b"A=1", b"\0", b"=", b"B"])).map(b"".join)
)
def test_any_block_is_read_or_refused(block: bytes) -> None:
    if raised(lambda: _environment(block)) is None:
        env = _environment(block)
        assert all("\0" not in key + value for key, value in env.items())
        refusal(env)
