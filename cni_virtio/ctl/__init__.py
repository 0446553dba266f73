"""cni-virtioctl: the operator's commands, one module a family."""


def main() -> None:
    """Run the command line; what it needs is imported late, so that it starts fast."""
    from cni_virtio.ctl.cli import cli

    cli()
