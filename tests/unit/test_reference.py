"""The references of the README are those of the schemas."""

from pathlib import Path

import pytest

from cni_virtio.config import SCHEMA as AGENT
from cni_virtio.ctl.reference import MarkerError, main, netconf_reference, rows, updated
from cni_virtio.netconf import SCHEMA as NETCONF

README = Path(__file__).resolve().parents[2] / "README.md"
EMPTY = """# Title
<!-- netconf reference begin -->
<!-- netconf reference end -->
between
<!-- agent reference begin -->
old
<!-- agent reference end -->
after
"""


def test_every_key_is_in_the_reference() -> None:
    keys = {row.key for row in rows(AGENT)}
    assert {"agent", "agent.socket", "uplinks[].offloads.tso", "networks[].vlan"} <= keys
    keys = {row.key for row in rows(NETCONF)}
    assert set(NETCONF.data["properties"]) <= keys
    assert {"vhostUser.mode", "runtimeConfig.mac", "cni.dev/*"} <= keys


def test_a_row() -> None:
    table = netconf_reference()
    assert "| `interface` | `kernel`, `vhost-user` | `kernel` | What" in table
    assert "| `queues` | integer 1 to 256 | `1` | Queue pairs" in table
    assert "| `type` | string | required | Name" in table


def test_only_what_is_between_the_markers_changes() -> None:
    text = updated(EMPTY)
    assert updated(text) == text
    assert text.startswith("# Title\n<!-- netconf reference begin -->\n")
    assert text.endswith("<!-- agent reference end -->\nafter\n")
    assert "\nold\n" not in text
    with pytest.raises(MarkerError, match="agent reference begin"):
        updated(EMPTY.replace("<!-- agent reference begin -->", ""))


def test_check_and_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "README.md"
    file.write_text(EMPTY)
    assert main(["--check", str(file)]) == 1
    assert "older than the schemas" in capsys.readouterr().err
    assert main(["--write", str(file)]) == 0
    assert main(["--check", str(file)]) == 0
    assert main(["--check", str(tmp_path / "none")]) == 2
    assert main([]) == 0
    assert "`vhostUser.mode`" in capsys.readouterr().out


@pytest.mark.skipif(not README.exists(), reason="there is no README beside the tests")
def test_the_readme_is_up_to_date() -> None:
    assert updated(README.read_text("utf-8")) == README.read_text("utf-8")
