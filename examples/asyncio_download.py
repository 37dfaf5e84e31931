"""Several downloads at once, with asyncio: python asyncio_download.py HOST CAFILE SERVER PATH..."""

import asyncio
import sys

from kwik import aio


async def download(host: str, path: str, cafile: str, server: str) -> int:
    """The size of the body, read to the end of the stream."""
    reader, writer = await aio.open_connection(f"{host}:80", servers=[server], cafile=cafile, timeout=10)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    size = 0
    while data := await reader.read(65536):
        size += len(data)
    writer.close()
    await writer.wait_closed()
    return size


async def main() -> None:
    host, cafile, server, *paths = sys.argv[1:]
    sizes = await asyncio.gather(*(download(host, path, cafile, server) for path in paths))
    for path, size in zip(paths, sizes, strict=True):
        print(f"{path}: {size} bytes")


asyncio.run(main())
