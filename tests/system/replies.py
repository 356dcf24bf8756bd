# SPDX-License-Identifier: GPL-2.0-or-later
"""
Answers of the transmission phase, put together from what is on the wire: simple replies, and
the chunks of structured replies and extended headers. Every rule of the specification about a
single answer is an assertion here ("Structured reply types", "NBD_CMD_READ",
"NBD_CMD_BLOCK_STATUS"), so that whatever a test reads is checked, asked for or not.
"""
import struct
from typing import NamedTuple

import nbd

NONE, OFFSET_DATA, OFFSET_HOLE, BLOCK_STATUS, BLOCK_STATUS_EXT = 0, 1, 2, 5, 6
ERROR, ERROR_OFFSET = 0x8001, 0x8002
DONE = 1
STRING_MAX = 4096
CHUNK_MAX = (32 << 20) + 8  # the largest payload that we announce, and its offset


class Asked(NamedTuple):
    """What a request wanted."""
    kind: int
    flags: int
    offset: int
    length: int


class Chunk(NamedTuple):
    flags: int
    kind: int
    cookie: int
    offset: int | None  # extended headers only
    payload: bytes


def receive_chunk(client, head):
    """The chunk whose first 16 bytes are head."""
    magic, flags, kind, cookie = struct.unpack(">IHHQ", head)
    if client.mode == "extended":
        assert magic == nbd.EXTENDED_REPLY, f"magic {magic:#x} and not an extended reply's"
        offset, size = struct.unpack(">QQ", client.recv(16))
    else:
        assert client.mode == "structured", f"magic {magic:#x} and not a simple reply's"
        assert magic == nbd.STRUCTURED_REPLY, f"magic {magic:#x} and not a reply's"
        offset, size = None, struct.unpack(">I", client.recv(4))[0]
    assert size <= CHUNK_MAX, f"a chunk of {size} bytes"
    return Chunk(flags, kind, cookie, offset, client.recv(size))


def simple(client, asked, cookie, error):
    """A simple reply, of which the first 16 bytes were read."""
    assert client.mode != "extended", "a simple reply where extended headers were agreed on"
    if client.mode == "structured":
        assert asked.kind != nbd.READ, "a simple reply to a read, not the structured one agreed on"
    answer = Answer(cookie, asked, ())
    answer.error = error
    if asked.kind == nbd.READ and error == 0:
        answer.data = client.recv(asked.length)
    return answer


class Answer:
    """All that came back to one request. add() takes its chunks and says when it is complete."""

    def __init__(self, cookie, asked, contexts):
        self.cookie, self.asked, self.contexts = cookie, asked, set(contexts)
        self.error, self.text, self.data = 0, "", b""
        self.chunks = []
        self.extents = {}        # context id: [(length, status)...]
        self.error_offsets = []
        self.content = []        # (start, end, data or None for a hole)

    def add(self, chunk):
        self.chunks.append(chunk)
        assert chunk.flags in (0, DONE), f"unknown reply flags {chunk.flags:#x}"
        assert chunk.offset in (None, self.asked.offset), "an offset that is not the request's"
        if chunk.kind == NONE:
            assert chunk.flags & DONE, "a chunk without content that is not the last"
            assert chunk.payload == b"", "a chunk of type NONE with a payload"
        elif chunk.kind in (OFFSET_DATA, OFFSET_HOLE):
            self.add_content(chunk)
        elif chunk.kind in (BLOCK_STATUS, BLOCK_STATUS_EXT):
            self.add_status(chunk)
        elif chunk.kind in (ERROR, ERROR_OFFSET):
            self.add_error(chunk)
        else:
            raise AssertionError(f"unknown chunk type {chunk.kind:#x}")
        if chunk.flags & DONE:
            self.finish()
        return bool(chunk.flags & DONE)

    def add_content(self, chunk):
        assert self.asked.kind == nbd.READ
        if chunk.kind == OFFSET_DATA:
            assert len(chunk.payload) >= 9, "a data chunk without data"
            start, data = struct.unpack(">Q", chunk.payload[:8])[0], chunk.payload[8:]
            end = start + len(data)
        else:
            assert len(chunk.payload) == 12
            start, size = struct.unpack(">QI", chunk.payload)
            assert size > 0, "a hole of no bytes"
            data, end = None, start + size
        assert self.asked.offset <= start and end <= self.asked.offset + self.asked.length, \
            f"content at {start} to {end} that was not asked for"
        for other_start, other_end, _ in self.content:
            assert end <= other_start or other_end <= start, "content that overlaps earlier content"
        for offset in self.error_offsets:
            assert not start <= offset < end, "content after the error about it"
        self.content.append((start, end, data))
        if self.asked.flags & nbd.DF:
            assert len(self.content) == 1, "an answer in pieces that was to be in one"
            assert chunk.kind == OFFSET_DATA or end - start == self.asked.length

    def add_status(self, chunk):
        assert self.asked.kind == nbd.BLOCK_STATUS
        is_extended = chunk.offset is not None
        assert chunk.kind == (BLOCK_STATUS_EXT if is_extended else BLOCK_STATUS)
        if is_extended:
            context, count = struct.unpack(">II", chunk.payload[:8])
            assert len(chunk.payload) == 8 + 16 * count
            extents = list(struct.iter_unpack(">QQ", chunk.payload[8:]))
        else:
            context, = struct.unpack(">I", chunk.payload[:4])
            assert len(chunk.payload) % 8 == 4
            extents = list(struct.iter_unpack(">II", chunk.payload[4:]))
        assert context in self.contexts, "a context that was not selected"
        assert context not in self.extents, "two chunks for one context"
        assert extents, "a status chunk without an extent"
        assert len(extents) <= 1 << 20
        assert all(length > 0 for length, _ in extents), "an extent of no bytes"
        assert sum(length for length, _ in extents[:-1]) < self.asked.length, \
            "extents after the end of what was asked for"
        if self.asked.flags & nbd.REQ_ONE:
            assert len(extents) == 1 and extents[0][0] <= self.asked.length
        self.extents[context] = extents

    def add_error(self, chunk):
        tail = 8 if chunk.kind == ERROR_OFFSET else 0
        assert len(chunk.payload) >= 6 + tail
        error, size = struct.unpack(">IH", chunk.payload[:6])
        assert error != 0, "an error chunk about no error"
        assert size <= STRING_MAX and size == len(chunk.payload) - 6 - tail
        text = chunk.payload[6:6 + size].decode()
        assert "\0" not in text
        if tail:
            offset, = struct.unpack(">Q", chunk.payload[-8:])
            assert self.asked.offset <= offset < self.asked.offset + max(1, self.asked.length)
            self.error_offsets.append(offset)
        if self.error == 0:
            self.error, self.text = error, text

    def finish(self):
        if self.error:
            return
        if self.asked.kind == nbd.READ:
            data = bytearray(self.asked.length)
            covered = 0
            for start, end, part in self.content:
                covered += end - start
                if part is not None:
                    at = start - self.asked.offset
                    data[at:at + len(part)] = part
            assert covered == self.asked.length, f"success, {covered} of {self.asked.length} bytes"
            self.data = bytes(data)
        elif self.asked.kind == nbd.BLOCK_STATUS:
            wanted = self.contexts
            assert set(self.extents) == wanted or self.asked.flags & nbd.PAYLOAD_LEN, \
                "success without a chunk for each context"
