"""Python's own http.client over Kwik: python http_client.py HOST PATH CAFILE SERVER..."""

import hashlib
import http.client
import sys

import kwik

host, path, cafile, *servers = sys.argv[1:]

client = http.client.HTTPConnection(host)
client.sock = kwik.create_connection((host, 80), timeout=10, servers=servers, cafile=cafile)
client.request("GET", path)
answer = client.getresponse()
digest = hashlib.sha256()
while data := answer.read(65536):
    digest.update(data)
print(answer.status, answer.reason, digest.hexdigest())

stats = client.sock.stats()
for share in stats.shares if stats else ():
    print(f"{share.server_id}: {share.delivered_bytes} bytes, {share.role}")
client.close()
