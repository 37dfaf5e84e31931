"""A server that sends back what it gets: python echo_server.py HOST:PORT CERTFILE KEYFILE

Certificates for it: kwik certs echo.example
"""

import sys
import threading

import kwik


def serve(conn: kwik.Conn) -> None:
    with conn:
        while data := conn.recv(65536):
            conn.sendall(data)


address, certfile, keyfile = sys.argv[1:]
# replicated: the answer depends on the request alone, so several of these servers may work on one stream.
with kwik.listen(address, service="echo.example:7", certfile=certfile, keyfile=keyfile, replicated=True) as listener:
    print(f"listening on {listener.addresses[0]}", flush=True)
    while True:
        conn, client = listener.accept()
        threading.Thread(target=serve, args=[conn], daemon=True).start()
