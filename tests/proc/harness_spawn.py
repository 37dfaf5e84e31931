"""Forks the processes of the tests from one that has imported everything: a server is up in milliseconds.

Still real processes, each with its own session, descriptors and engine. One request per packet on a SEQPACKET socket,
answered by one; a new process gets the descriptor of its control socket with the request, and ends when that does.
"""

from __future__ import annotations

import array
import faulthandler
import gc
import json
import os
import signal
import socket
import sys
import traceback
from typing import Any

from tests.proc import harness_client, harness_links, harness_relay, harness_server

ROLES = {
    "server": harness_server.main,
    "links": harness_links.main,
    "client": harness_client.main,
    "relay": harness_relay.main,
}
PACKET_BYTES = 65536


def serve(requests: socket.socket) -> None:
    """Until the other end is closed; then every process that is left is killed."""
    children: set[int] = set()
    try:
        while True:
            data, descriptors = _receive(requests)
            if not data:
                return
            request = json.loads(data)
            if "role" in request:
                pid = os.fork()
                if pid == 0:
                    requests.close()
                    _become(request, descriptors[0])
                children.add(pid)
                os.close(descriptors[0])
                requests.send(json.dumps({"pid": pid}).encode())
            else:
                pid = request["kill"]
                _kill(pid)
                children.discard(pid)
                requests.send(b"{}")
    finally:
        for pid in children:
            _kill(pid)


def _receive(requests: socket.socket) -> tuple[bytes, list[int]]:
    descriptors = array.array("i")
    data, ancillary, _, _ = requests.recvmsg(PACKET_BYTES, socket.CMSG_LEN(4))
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(payload)
    return data, list(descriptors)


def _become(request: dict[str, Any], descriptor: int) -> None:
    """Never returns."""
    code = 1
    try:
        os.setsid()
        log = os.open(str(request["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in (1, 2):
            os.dup2(log, number)
        faulthandler.enable()
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        ROLES[str(request["role"])](socket.socket(fileno=descriptor), request["options"])
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _kill(pid: int) -> None:
    """The process is not reaped before, so the number is still its own; also when it is stopped or has ended."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test run, which then ends us
    gc.collect()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
