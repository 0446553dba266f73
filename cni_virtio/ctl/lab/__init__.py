"""The standalone harness: containers in network namespaces, wired as a runtime would wire them."""

from cni_virtio.ctl.lab.attachments import Attachment
from cni_virtio.ctl.lab.cni import Plugin, PluginError, PluginReply
from cni_virtio.ctl.lab.errors import LabError
from cni_virtio.ctl.lab.harness import Lab
from cni_virtio.ctl.lab.mesh import Mesh

__all__ = ["Attachment", "Lab", "LabError", "Mesh", "Plugin", "PluginError", "PluginReply"]
