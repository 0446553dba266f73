"""The dataplane process: start the engine, serve the control socket, close in order."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dataplane import __version__, logs, privileges, seccomp, unix_socket
from dataplane.notify import Notifier
from dataplane.options import OptionError, Options, parse
from dataplane.stop import SIGNALS, Stop
from dataplane.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dataplane.binding import Engine
    from dataplane.server import Server

EXIT_CANNOT_START = 2

log = logging.getLogger("dataplane")


class StartError(Exception):
    """Why the dataplane cannot start, and what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Run the dataplane until it is told to stop; give the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        options = parse(given)
        logs.to_stderr(options.log_level, "%(name)s")
        with ExitStack() as stack:
            return _run(options, stack)
    except (OptionError, StartError) as e:
        reason = " ".join(str(e).split())
        print(f"cni-virtio-dataplane: {reason}", file=sys.stderr)
        _tell(_ready_fd_in(given), f"error: {reason}")
        return EXIT_CANNOT_START


def _run(options: Options, stack: ExitStack) -> int:
    started_s = time.monotonic()
    _confine()
    notifier = Notifier()
    stop = Stop()
    stop.on_signals()
    # Starting an engine takes time and memory, so the likeliest refusal comes before it.
    with _socket_errors(options.socket):
        unix_socket.refuse_if_served(options.socket)
    engine = _start_engine(options)
    server = _open(options, stack, engine, notifier, stop)
    log.info(
        "version %s with %s serves %s after %.0f ms, pid %d, workers on cores %s",
        __version__,
        engine.dpdk_version(),
        options.socket,
        1000 * (time.monotonic() - started_s),
        os.getpid(),
        options.core_list,
    )
    if not engine.frontends_are_guarded():
        log.warning("built with DPDK=system: applications of vhost-user sockets must be trusted")
    if not _tell(options.ready_fd, "ready") and options.only_if_awaited:
        raise StartError("who started it is gone, and nobody else waits for it")
    notifier.ready(f"serving {options.socket}, workers on cores {options.core_list}")
    server.run()
    notifier.stopping()
    log.info("stopping")
    return 0


def _confine() -> None:
    """Give up what is never needed, before there are threads and anything of others is read."""
    os.umask(0o077)
    try:
        privileges.keep_only(privileges.DATAPLANE)
    except OSError as e:
        raise StartError(f"privileges cannot be given up: {e}") from e


def _open(
    options: Options, stack: ExitStack, engine: Engine, notifier: Notifier, stop: Stop
) -> Server:
    """Open the control socket. On the way out `stack` closes all, the clients' connections last:
    who sees its connection end knows that everything has been given back.
    """
    from dataplane.balancing import Balancing
    from dataplane.complaints import Complaints
    from dataplane.displaced import Displaced
    from dataplane.holding import Holding
    from dataplane.liveness import Liveness
    from dataplane.operations import Operations
    from dataplane.place import Place
    from dataplane.server import Server

    with ExitStack() as undo:
        undo.callback(engine.stop)
        with _socket_errors(options.socket):
            listener = unix_socket.listen(options.socket)
        undo.pop_all()
    holding, place = Holding(engine), Place(options.socket)
    operations = Operations(engine, options, place, holding, stop)
    balancing = Balancing(engine, len(options.cores))
    displaced = Displaced(place, operations, stop, lambda: server.has_connections)
    chores = (balancing, Liveness(engine, notifier), Complaints(engine), holding, displaced)
    server = Server(listener, operations, chores, stop)
    stack.callback(server.close)
    stack.callback(place.unlink)
    stack.callback(engine.stop)
    return server


@contextmanager
def _socket_errors(path: str) -> Iterator[None]:
    try:
        yield
    except WireError as e:
        raise StartError(e.message) from e
    except OSError as e:
        raise StartError(f"{path}: {e.strerror or e}") from e


def _start_engine(options: Options) -> Engine:
    try:
        from dataplane.binding import Engine, EngineError, EngineOptions, tell_of_refusals
    except ImportError as e:
        raise StartError(f"the engine cannot be loaded ({e}): build it with ./dev setup") from e
    # Where EAL makes its runtime directory; it would share /run/dpdk with others.
    os.environ["RUNTIME_DIRECTORY"] = str(Path(options.socket).parent)
    # Threads started here inherit the mask; signals then always reach the main thread.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        if options.seccomp:
            tell_of_refusals(seccomp.system_calls())
            seccomp.install(seccomp.profile())
        else:
            log.warning("system calls are not filtered, as --no-seccomp says")
        return Engine(
            EngineOptions(
                main_core=options.main_core,
                cores=options.cores,
                memory_mb=options.memory_mb,
                huge=options.huge,
                idle=options.idle,
                pci=options.pci,
                iova_mode=options.iova_mode,
                log_level=options.log_level,
            )
        )
    except (EngineError, seccomp.SeccompError) as e:
        raise StartError(e.strerror or str(e)) from e
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _ready_fd_in(arguments: list[str]) -> int | None:
    """Find --ready-fd in a command line that may be wrong otherwise."""
    for i, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option == "--ready-fd":
            text = value if equals else "".join(arguments[i + 1 : i + 2])
            return int(text) if text.isascii() and text.isdigit() else None
    return None


def _tell(ready_fd: int | None, line: str) -> bool:
    """Say it to who waits; False if nobody does."""
    if ready_fd is None:
        return False
    try:
        os.write(ready_fd, f"{line}\n".encode(errors="backslashreplace"))
        os.close(ready_fd)
    except (OSError, OverflowError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
