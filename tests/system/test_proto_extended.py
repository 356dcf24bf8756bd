# SPDX-License-Identifier: GPL-2.0-or-later
"""
Extended headers, as the extension EXTENDED_HEADERS of the NBD project's doc/proto.md (branch
extension-ext-header) demands them of a server. In each of nbdserve's engines; no version of the
peers that Debian 12 has knows them. The table of what is demanded is in test_proto_musts.py.
"""
import random
import struct

import nbd
import replies
from nbd import BLOCK_STATUS, READ, WRITE, WRITE_ZEROES
from peers import MIB, SIZE, in_step, only


def extended(target, export):
    """A client of that export with extended headers and base:allocation."""
    client = target.raw(export).extended()
    client.meta(export, "base:allocation")
    return client.go(export)


@only("ours")
def test_extended_headers_carry_every_command(target):
    """Extended request message, extended reply chunk message"""
    with extended(target, "rw") as client:
        assert client.flags & nbd.FLAG_DF
        data = random.Random(6).randbytes(300000)
        client.write(1234, data)
        assert client.read(1234, 300000) == data
        assert client.call(READ, 1234, 65536, flags=nbd.DF) == 0
        assert client.data == data[:65536]
        for kind in nbd.FLUSH, nbd.CACHE, nbd.TRIM, WRITE_ZEROES:
            assert client.call(kind, 0, 0 if kind == nbd.FLUSH else 4 * MIB) == 0
            assert client.last.chunks
        assert client.status(0, SIZE)
        for kind, offset, length in [(READ, SIZE, 1), (99, 0, 0), (nbd.TRIM, SIZE, 4096),
                                     (BLOCK_STATUS, SIZE, 1)]:
            assert client.call(kind, offset, length) == nbd.EINVAL
        assert client.call(WRITE, SIZE, data=b"x" * 512) == nbd.ENOSPC
        client.request(nbd.DISC)
        assert client.is_closed(2)


@only("ours")
def test_compact_request_after_extended_headers_ends_the_connection(target):
    """Extended request message"""
    with extended(target, "ro") as client:
        client.mode = "simple"
        client.request(READ, 0, 512)
        client.send(bytes(4))
        assert client.is_closed(2)
    with target.client("ro") as client:
        client.mode = "extended"
        client.request(READ, 0, 512)
        assert client.is_closed(2)


@only("ours")
def test_structured_replies_after_extended_headers_are_not_agreed_on(raw):
    """NBD_OPT_STRUCTURED_REPLY, NBD_OPT_EXTENDED_HEADERS"""
    raw.extended()
    assert raw.option(nbd.OPT_STRUCTURED_REPLY) == nbd.ERR_EXT_HEADER_REQD
    assert raw.option(nbd.OPT_EXTENDED) in {nbd.REP_ACK, nbd.ERR_INVALID}
    assert "base:allocation" in raw.meta("ro", "base:allocation")
    raw.go("ro")
    assert raw.status(0, 4096)


@only("ours")
def test_extended_headers_after_structured_replies_take_precedence(raw):
    """NBD_OPT_EXTENDED_HEADERS"""
    raw.structured().extended().meta("ro", "base:allocation")
    raw.go("ro")
    assert in_step(raw) and raw.status(0, SIZE)


@only("ours")
def test_payload_that_a_command_does_not_take_is_consumed(target):
    """Extended request message, Command flags: PAYLOAD_LEN"""
    with extended(target, "rw") as client:
        for kind in READ, nbd.FLUSH, nbd.TRIM, nbd.CACHE, WRITE_ZEROES, 99:
            for size in 1, 5000, 100000:
                assert client.call(kind, 0, data=b"!" * size, flags=nbd.PAYLOAD_LEN) == nbd.EINVAL
        assert in_step(client)


@only("ours")
def test_write_without_the_payload_flag_is_refused_in_step(target):
    """Command flags: PAYLOAD_LEN"""
    with extended(target, "rw") as client:
        client.asked[77] = [replies.Asked(WRITE, 0, 0, 512)]
        client.send(struct.pack(">IHHQQQ", nbd.EXTENDED_REQUEST, 0, WRITE, 77, 0, 512))
        assert client.answer().error == nbd.EINVAL
        assert in_step(client)


@only("ours")
def test_payload_length_that_no_server_would_take_ends_the_connection(target):
    """Extended request message: SHOULD"""
    for kind in WRITE, BLOCK_STATUS, 99:
        for length in (32 * MIB) + 1, 1 << 32, (1 << 64) - 1:
            with extended(target, "rw") as client:
                client.send(struct.pack(">IHHQQQ", nbd.EXTENDED_REQUEST, nbd.PAYLOAD_LEN, kind, 1,
                                        0, length))
                assert client.is_closed(2)


@only("ours")
def test_lengths_of_64_bits_are_understood(target):
    """Extended request message"""
    with extended(target, "rw") as client:
        for kind in WRITE_ZEROES, nbd.TRIM, nbd.CACHE, BLOCK_STATUS, READ:
            for length in SIZE + 1, 1 << 32, (1 << 32) + 4096, (1 << 64) - 1, 1 << 63:
                assert client.call(kind, 0, length) in {nbd.EINVAL, nbd.ENOSPC, nbd.EOVERFLOW}
                assert client.call(kind, 4096, length) in {nbd.EINVAL, nbd.ENOSPC, nbd.EOVERFLOW}
        assert in_step(client)


@only("ours")
def test_extended_block_status_covers_more_than_32_bits(target, tmp_path):
    """NBD_REPLY_TYPE_BLOCK_STATUS_EXT"""
    size = 5 << 30
    with open(tmp_path / "big.img", "wb") as f:
        f.write(b"x" * 65536)
        f.truncate(size)
    server = nbd.Server(tmp_path, "--export", f"big={tmp_path}/big.img",
                        engine=None if target.name == "nbdserve" else target.name)
    with server.client() as client:
        client.extended().meta("big", "base:allocation")
        client.go("big")
        extents = client.status(0, size)
        assert [status for _, status in extents] == [0, 3]
        assert sum(length for length, _ in extents) == size
        assert client.call(WRITE_ZEROES, 0, size) == 0
        assert client.call(nbd.TRIM, 0, size) == 0
        assert client.read(0, 65536) == bytes(65536)
    assert server.stop() == 0


@only("ours")
def test_block_status_payload_selects_or_is_refused(target):
    """NBD_CMD_BLOCK_STATUS, Transmission flags: BLOCK_STATUS_PAYLOAD"""
    with extended(target, "ro") as client:
        known = client.contexts["base:allocation"]

        def ask(*ids, length=4096, tail=b""):
            data = struct.pack(f">Q{len(ids)}I", length, *ids) + tail
            return client.call(BLOCK_STATUS, 0, data=data, flags=nbd.PAYLOAD_LEN)
        if client.flags & nbd.FLAG_STATUS_PAYLOAD:
            assert ask(known) == 0
            assert list(client.last.extents) == [known]
        else:
            assert ask(known) == nbd.EINVAL
        assert ask(known + 1) == nbd.EINVAL
        assert ask(known, known) == nbd.EINVAL
        assert ask(known, tail=b"x") == nbd.EINVAL
        assert ask(*range(1000, 3000)) == nbd.EINVAL
        assert in_step(client)
        assert client.status(0, 4096)
