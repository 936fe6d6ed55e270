"""A service that takes its time: every answer comes after so many milliseconds.   slow.py PORT MILLISECONDS"""

import asyncio
import sys

ANSWER = b'{"items":["harbour","tide","boat"],"took_ms":50}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)


async def serve(reader, writer, wait_s):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = (line.split(b":", 1) for line in head.lower().split(b"\r\n") if b":" in line)
            lengths = [int(value) for name, value in fields if name == b"content-length"]
            await reader.readexactly(sum(lengths))
            await asyncio.sleep(wait_s)
            writer.write(HEAD + ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main(port, milliseconds):
    server = await asyncio.start_server(
        lambda reader, writer: serve(reader, writer, milliseconds / 1e3), "127.0.0.1", port)
    await server.serve_forever()


asyncio.run(main(*(int(word) for word in sys.argv[1:3])))
