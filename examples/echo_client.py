"""Says something to the echo service and prints the answer: python echo_client.py CAFILE SERVER... < text"""

import shutil
import socket
import sys
import threading

import kwik

cafile, *servers = sys.argv[1:]


def send(conn: kwik.Conn) -> None:
    with conn.makefile("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    conn.shutdown(socket.SHUT_WR)


with kwik.dial("echo.example:7", servers=servers, cafile=cafile, timeout=10) as conn:
    # Both directions at once, as with every echo: who only writes would wait for who only writes.
    sending = threading.Thread(target=send, args=[conn])
    sending.start()
    while data := conn.recv(65536):
        sys.stdout.buffer.write(data)
    sending.join()
