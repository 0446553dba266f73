"""Fifty containers attached in parallel: each reaches each other one and the host."""

from __future__ import annotations

from cni_virtio.ctl.lab import Lab

MANY = 50


def test_fifty_containers_reach_one_another() -> None:
    lab = Lab.from_dict(
        {
            "name": "mesh",
            "networks": [{"name": "pods", "subnets": ["10.77.0.0/24"], "gateway": True}],
            "containers": [{"name": f"c{n}", "network": "pods"} for n in range(MANY)],
        }
    )
    with lab:
        ports = {port["spec"]["name"] for port in lab.query("ports")["ports"]}
        assert ports == {f"pod:mesh-c{n}/eth0" for n in range(MANY)} | {"host:pods"}
        mesh = lab.ping_matrix(make_room=True)
        assert len(mesh.rtts_us) == (MANY + 1) * MANY  # the host with the gateway is one more
        assert mesh.ok, mesh.failed
    assert not lab.paths.root.exists()
