"""manifests/kubernetes against the schemas of Kubernetes and our own, and against itself."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from cni_virtio.config import parse_size
from tests.unit.manifests import KUBERNETES, Object, agent_config, documents, our_netconfs

VERSIONS = ("1.30", kubernetes_validate.latest_version())
OVERLAYS = ("base", "vhost-net", "examples")
# artifacts/networks-crd.yaml of the Network Plumbing Working Group, with nothing else allowed.
NET_ATTACH_DEF: Object = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "k8s.cni.cncf.io/v1"},
        "kind": {"const": "NetworkAttachmentDefinition"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "required": ["config"],
            "additionalProperties": False,
            "properties": {"config": {"type": "string"}},
        },
    },
}


def objects(overlay: str) -> list[tuple[Path, Object]]:
    folder = KUBERNETES / overlay
    local = [name for name in kustomization(overlay)["resources"] if name.endswith(".yaml")]
    return [(folder / name, each) for name in local for each in documents(folder / name)]


def kustomization(overlay: str) -> Object:
    (found,) = documents(KUBERNETES / overlay / "kustomization.yaml")
    return found


def daemon_set() -> Object:
    (found,) = documents(KUBERNETES / "base/daemonset.yaml")
    return found


def pod_specs() -> Iterator[tuple[str, Object]]:
    for overlay in OVERLAYS:
        for file, each in objects(overlay):
            if each["kind"] == "Pod":
                yield file.name, each["spec"]
            elif each["kind"] == "DaemonSet":
                yield file.name, each["spec"]["template"]["spec"]


def all_containers(spec: Object) -> list[Object]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def container(name: str) -> Object:
    (found,) = (
        each
        for each in all_containers(daemon_set()["spec"]["template"]["spec"])
        if each["name"] == name
    )
    return found


EVERY = [(file.name, each) for overlay in OVERLAYS for file, each in objects(overlay)]
POD_SPECS = list(pod_specs())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("name", "one"), EVERY, ids=lambda each: str(each)[:20])
def test_every_object_fits_its_schema(name: str, one: Object, version: str) -> None:
    if one["kind"] == "NetworkAttachmentDefinition":
        jsonschema.validate(one, NET_ATTACH_DEF)
    else:
        kubernetes_validate.validate(one, version, strict=True)


def test_the_validator_finds_a_wrong_key() -> None:
    wrong = daemon_set()
    wrong["spec"]["template"]["spec"]["hostNetworks"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="hostNetworks"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_kustomization_lists_all_that_is_there(overlay: str) -> None:
    one = kustomization(overlay)
    assert (one["apiVersion"], one["kind"]) == (
        "kustomize.config.k8s.io/v1beta1",
        "Kustomization",
    )
    listed = [
        *one["resources"],
        *(each["path"] for each in one.get("patches", [])),
        *(file for each in one.get("configMapGenerator", []) for file in each["files"]),
    ]
    folder = KUBERNETES / overlay
    assert all((folder / name).exists() for name in listed)
    there = {file.name for file in folder.iterdir()} - {"kustomization.yaml"}
    assert {name for name in listed if not name.startswith("..")} == there


def test_a_patch_meets_what_it_changes() -> None:
    (patch,) = documents(KUBERNETES / "vhost-net/devices.yaml")
    target = daemon_set()
    assert patch["kind"] == target["kind"]
    assert patch["metadata"]["name"] == target["metadata"]["name"]
    assert patch["metadata"]["namespace"] == kustomization("base")["namespace"]
    names = {each["name"] for each in target["spec"]["template"]["spec"]["containers"]}
    changed = patch["spec"]["template"]["spec"]["containers"]
    assert {each["name"] for each in changed} <= names
    (plugin,) = (each for file, each in objects("vhost-net") if file.name == "device-plugin.yaml")
    (offered,) = devices_of(plugin)
    for each in changed:
        assert each["resources"]["limits"] == {f"squat.ai/{offered['name']}": "1"}
    assert offered["groups"][0]["count"] == len(changed)


def devices_of(plugin: Object) -> Iterator[Object]:
    arguments = plugin["spec"]["template"]["spec"]["containers"][0]["args"]
    for option, value in itertools.pairwise(arguments):
        if option == "--device":
            yield YAML(typ="safe").load(value)


def test_names_refer_to_something() -> None:
    names = {(each["kind"], each["metadata"]["name"]) for _, each in objects("base")}
    one, kept = daemon_set(), kustomization("base")
    spec = one["spec"]["template"]["spec"]
    assert ("Namespace", kept["namespace"]) in names
    assert ("ServiceAccount", spec["serviceAccountName"]) in names
    assert {each["image"] for each in all_containers(spec)} == {
        each["name"] for each in kept["images"]
    }
    config_maps = {each["name"] for each in kept["configMapGenerator"]}
    assert {
        volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume
    } == config_maps


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_find_their_pods(overlay: str) -> None:
    for _, each in objects(overlay):
        if each["kind"] == "DaemonSet":
            wanted = each["spec"]["selector"]["matchLabels"].items()
            assert wanted <= each["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize(("name", "spec"), POD_SPECS, ids=lambda each: str(each)[:20])
def test_mounts_and_volumes_belong_together(name: str, spec: Object) -> None:
    volumes = {each["name"] for each in spec.get("volumes", [])}
    mounts = [m for each in all_containers(spec) for m in each.get("volumeMounts", [])]
    assert {mount["name"] for mount in mounts} == volumes
    for each in all_containers(spec):
        places = [mount["mountPath"] for mount in each.get("volumeMounts", [])]
        assert len(set(places)) == len(places)
        variables = {variable["name"] for variable in each.get("env", [])}
        for mount in each.get("volumeMounts", []):
            assert set(re.findall(r"\$\((\w+)\)", mount.get("subPathExpr", ""))) <= variables


def test_nothing_of_ours_is_privileged_nor_has_a_token() -> None:
    spec = daemon_set()["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    for each in all_containers(spec):
        context = each["securityContext"]
        assert "privileged" not in context
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"]["drop"] == ["ALL"]


def test_the_configuration_is_one_that_the_agent_takes() -> None:
    config = agent_config(KUBERNETES / "base/agent.yaml")
    assert config.messages == ()
    assert config.dataplane.supervised_by == "other"
    resources = container("dataplane")["resources"]
    for kind in ("requests", "limits"):
        assert parse_size(resources[kind]["hugepages-2Mi"]) == config.dataplane.memory_bytes
    assert int(resources["requests"]["cpu"]) == 1 + len(config.dataplane.cores)
    assert "cpu" not in resources["limits"]  # the vhost threads would be throttled with it


def test_both_containers_see_what_the_configuration_names() -> None:
    config = agent_config(KUBERNETES / "base/agent.yaml")
    agent, dataplane = container("agent"), container("dataplane")
    paths = (config.agent.socket, config.agent.state_dir, config.agent.socket_dir)
    for one in (agent, dataplane):
        places = [Path(mount["mountPath"]) for mount in one["volumeMounts"]]
        for path in (*paths, config.dataplane.socket):
            assert any(path.is_relative_to(place) for place in places)
        assert " --config" in " ".join([*one["command"], *one.get("args", ())])
        assert "/etc/cni-virtio/agent.yaml" in " ".join([*one["command"], *one.get("args", ())])
    assert mount_of(agent, "netns")["mountPropagation"] == "HostToContainer"


def mount_of(one: Object, name: str) -> dict[str, Any]:
    (found,) = (mount for mount in one["volumeMounts"] if mount["name"] == name)
    return dict(found)


def test_volumes_are_at_the_same_place_as_on_the_host() -> None:
    spec = daemon_set()["spec"]["template"]["spec"]
    hosts = {v["name"]: v["hostPath"]["path"] for v in spec["volumes"] if "hostPath" in v}
    for one in spec["containers"]:  # CNI_PATH, CNI_NETNS and sockets are paths of the host
        for mount in one["volumeMounts"]:
            assert mount["mountPath"] == hosts.get(mount["name"], mount["mountPath"])


def test_the_conflist_is_one_that_the_plugin_takes() -> None:
    (netconf,) = our_netconfs((KUBERNETES / "base/90-cni-virtio.conflist").read_text())
    networks = {each.name for each in agent_config(KUBERNETES / "base/agent.yaml").networks}
    assert netconf.network in networks


def test_examples_use_each_kind_of_interface() -> None:
    definitions = documents(KUBERNETES / "examples/networks.yaml")
    netconfs = {
        each["metadata"]["name"]: our_netconfs(each["spec"]["config"])[0] for each in definitions
    }
    assert {each.interface for each in netconfs.values()} == {"kernel", "vhost-user"}
    networks = {each.name for each in agent_config(KUBERNETES / "base/agent.yaml").networks}
    assert {each.network for each in netconfs.values()} <= networks
    for name, pod in (each for each in EVERY if each[1]["kind"] == "Pod"):
        wanted = pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"]
        assert any(known in wanted for known in netconfs), name


def test_a_pod_sees_only_its_own_sockets() -> None:
    (pod,) = documents(KUBERNETES / "examples/pod-vhost-user.yaml")
    (one,) = pod["spec"]["containers"]
    mount = mount_of(one, "vhost")
    assert mount["subPathExpr"] == "$(POD_UID)"
    (variable,) = one["env"]
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.uid"
    (volume,) = (each for each in pod["spec"]["volumes"] if each["name"] == "vhost")
    config = agent_config(KUBERNETES / "base/agent.yaml")
    assert volume["hostPath"]["path"] == str(config.agent.socket_dir)
    definition = documents(KUBERNETES / "examples/networks.yaml")[1]
    (netconf,) = our_netconfs(definition["spec"]["config"])
    assert netconf.vhost_user.uid == pod["spec"]["securityContext"]["runAsUser"]
    assert netconf.vhost_user.mount_path == mount["mountPath"]
    assert f"path={mount['mountPath']}/net1.sock" in " ".join(one["args"])
