# SPDX-License-Identifier: GPL-2.0-or-later
"""
The NBD wire as raw bytes, for tests that must be able to say what no honest client says, and
nbdserve as a process. Standard library only.

A client reads simple replies until structured() or extended() was agreed; from then on every
answer is put together from its chunks (replies.py), which checks all that the specification
demands of them: no test has to ask for that.
"""
import atexit
import ctypes
import functools
import os
import pathlib
import re
import select
import signal
import socket
import struct
import subprocess
import time

BUILD = pathlib.Path(os.environ.get("NBDROOT_BUILD", "build"))
if not BUILD.is_absolute():
    BUILD = pathlib.Path(__file__).resolve().parents[2] / BUILD

MAGIC = 0x4E42444D41474943
IHAVEOPT = 0x49484156454F5054
OPTION_REPLY = 0x3E889045565A9
REQUEST, SIMPLE_REPLY, STRUCTURED_REPLY = 0x25609513, 0x67446698, 0x668E33EF
EXTENDED_REQUEST, EXTENDED_REPLY = 0x21E41C71, 0x6E8A278C

C_FIXED, C_NO_ZEROES = 1, 2
OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_PEEK, OPT_STARTTLS, OPT_INFO, OPT_GO = range(1, 8)
OPT_STRUCTURED_REPLY, OPT_LIST_META, OPT_SET_META, OPT_EXTENDED = range(8, 12)
OPT_SESSION = 0x6E627274  # NBD_OPT_X_NBDROOT_SESSION, ours alone
REP_ACK, REP_SERVER, REP_INFO, REP_META_CONTEXT = 1, 2, 3, 4
ERR = 1 << 31
ERR_UNSUP, ERR_POLICY, ERR_INVALID, ERR_UNKNOWN, ERR_TOO_BIG = (ERR | n for n in (1, 2, 3, 6, 9))
ERR_PLATFORM, ERR_TLS_REQD, ERR_SHUTDOWN, ERR_BLOCK_SIZE_REQD, ERR_EXT_HEADER_REQD = (
    ERR | n for n in (4, 5, 7, 8, 10))
INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE = range(4)

READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS, RESIZE = range(9)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = (1 << n for n in range(6))
EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 12, 22, 28, 75, 95, 108
STATE_HOLE, STATE_ZERO = 1, 2  # of base:allocation

FLAG_HAS_FLAGS, FLAG_READ_ONLY, FLAG_FLUSH, FLAG_FUA, FLAG_ROTATIONAL, FLAG_TRIM, FLAG_ZEROES = (
    1 << n for n in range(7))
FLAG_DF, FLAG_MULTI_CONN, FLAG_RESIZE, FLAG_CACHE, FLAG_FAST_ZERO, FLAG_STATUS_PAYLOAD = (
    1 << n for n in range(7, 13))

import replies  # noqa: E402  (it needs the names above)


def until(condition, timeout=10, what="the condition"):
    """Polls condition() and returns its first true value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come true in {timeout} s"
        time.sleep(0.005)


def is_readable(fd, seconds):
    poll = select.poll()  # select() knows no descriptor over 1023
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def go_data(name, infos=()):
    if isinstance(name, str):
        name = name.encode()
    return struct.pack(f">I{len(name)}sH{len(infos)}H", len(name), name, len(infos), *infos)


def meta_data(export, *queries):
    """The data of LIST_META and SET_META."""
    def string(text):
        text = text.encode() if isinstance(text, str) else text
        return struct.pack(">I", len(text)) + text
    return string(export) + struct.pack(">I", len(queries)) + b"".join(map(string, queries))


class Refused(Exception):
    def __init__(self, error, text):
        super().__init__(f"{error & ~ERR}: {text}")
        self.error, self.text = error, text


class Client:
    """One connection. address is (host, port) or a unix socket's path."""

    def __init__(self, address, source=None, flags=C_FIXED | C_NO_ZEROES, timeout=20):
        if isinstance(address, tuple):
            self.sock = socket.create_connection(
                address, timeout, (source, 0) if source else None)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout)
            self.sock.connect(str(address))
        self.cookie = 0
        self.size = self.flags = None
        self.mode = "simple"
        self.contexts = {}  # name: id, of the last SET_META
        self.asked, self.open = {}, {}
        self.last = None  # the last answer of call()
        if flags is not None:
            self.greet(flags)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Closes with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def recv(self, size):
        data = bytearray()
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise EOFError(f"closed after {len(data)} of {size} bytes")
            data += part
        return bytes(data)

    def is_closed(self, timeout=5):
        """Whether the server closes; what it sends before that is thrown away."""
        self.sock.settimeout(timeout)
        try:
            while self.sock.recv(65536):
                pass
            return True
        except ConnectionResetError:
            return True
        except socket.timeout:
            return False

    def is_silent(self, seconds):
        return not is_readable(self.sock, seconds)

    # the handshake

    def greet(self, flags):
        magic, opt, self.server_flags = struct.unpack(">QQH", self.recv(18))
        assert (magic, opt) == (MAGIC, IHAVEOPT)
        self.send(struct.pack(">I", flags))

    def send_option(self, option, data=b"", length=None):
        self.send(struct.pack(">QII", IHAVEOPT, option, len(data) if length is None else length)
                  + data)

    def option_reply(self, option):
        magic, which, kind, size = struct.unpack(">QIII", self.recv(20))
        assert (magic, which) == (OPTION_REPLY, option)
        assert size < 1 << 16
        return kind, self.recv(size)

    def option(self, option, data=b"", length=None):
        """Sends an option and returns its last reply's type; self.replies has them all."""
        self.send_option(option, data, length)
        self.replies = []
        while True:
            reply = self.option_reply(option)
            self.replies.append(reply)
            if reply[0] == REP_ACK or reply[0] & ERR:
                return reply[0]

    def expect(self, option, data=b"", kind=REP_ACK):
        got = self.option(option, data)
        if got != kind:
            raise Refused(got, self.replies[-1][1].decode())
        return self

    def structured(self):
        """Agrees on structured replies."""
        self.expect(OPT_STRUCTURED_REPLY)
        self.mode = "structured"
        return self

    def extended(self):
        """Agrees on extended headers."""
        self.expect(OPT_EXTENDED)
        self.mode = "extended"
        return self

    def meta(self, export, *queries, option=OPT_SET_META):
        """Sets, or lists, metadata contexts and returns their ids by name."""
        self.expect(option, meta_data(export, *queries))
        found = {data[4:].decode(): struct.unpack(">I", data[:4])[0]
                 for kind, data in self.replies if kind == REP_META_CONTEXT}
        if option == OPT_SET_META:
            self.contexts = found
        return found

    def session(self, name, machine, session_id=b"\1" * 16, host="", slot=0, generation=1):
        """Says who it is, as our own client does; the last reply's type, as from option()."""
        name, machine, host = (word.encode() for word in (name, machine, host))
        return self.option(OPT_SESSION, struct.pack(
            ">B3xIQ16sHBB", 1, slot, generation, session_id, len(name), len(machine), len(host))
            + name + machine + host)

    def infos(self):
        return {struct.unpack(">H", data[:2])[0]: data[2:]
                for kind, data in self.replies if kind == REP_INFO}

    def go(self, name="", option=OPT_GO, infos=()):
        kind = self.option(option, go_data(name, infos))
        if kind != REP_ACK:
            raise Refused(kind, self.replies[-1][1].decode())
        self.size, self.flags = struct.unpack(">QH", self.infos()[INFO_EXPORT])
        return self

    # transmission

    def request(self, kind, offset=0, length=0, data=b"", flags=0, cookie=None):
        """Sends a request and returns its cookie; a write's length is its data's by default."""
        if cookie is None:
            self.cookie += 1
            cookie = self.cookie
        if data and (kind == WRITE or self.mode == "extended"):
            length = length or len(data)
        if self.mode == "extended":
            if kind == WRITE and length:
                flags |= PAYLOAD_LEN
            head = struct.pack(">IHHQQQ", EXTENDED_REQUEST, flags, kind, cookie, offset, length)
        else:
            head = struct.pack(">IHHQQI", REQUEST, flags, kind, cookie, offset, length)
        if kind == BLOCK_STATUS and flags & PAYLOAD_LEN and len(data) >= 8:
            length = struct.unpack(">Q", data[:8])[0]
        self.asked.setdefault(cookie, []).append(replies.Asked(kind, flags, offset, length))
        self.send(head + data)
        return cookie

    def reply(self, read_length=0):
        """The next reply: error, cookie, data. How long a simple one's is only its caller knows."""
        if self.mode != "simple":
            answer = self.answer()
            return answer.error, answer.cookie, answer.data
        magic, error, cookie = struct.unpack(">IIQ", self.recv(16))
        assert magic == SIMPLE_REPLY
        return error, cookie, self.recv(read_length) if read_length and error == 0 else b""

    def answer(self):
        """The next answer that is complete, to whichever request that was made with request()."""
        while True:
            head = self.recv(16)
            magic, error, cookie = struct.unpack(">IIQ", head)
            if magic == SIMPLE_REPLY:
                asked = self.asked[cookie].pop(0)
                assert cookie not in self.open, "a simple reply among an answer's chunks"
                return replies.simple(self, asked, cookie, error)
            chunk = replies.receive_chunk(self, head)
            asked = self.asked[chunk.cookie]
            answer = self.open.get(chunk.cookie)
            if answer is None:
                answer = self.open[chunk.cookie] = replies.Answer(chunk.cookie, asked[0],
                                                                  self.contexts.values())
            if answer.add(chunk):
                asked.pop(0)
                return self.open.pop(chunk.cookie)

    def call(self, kind, offset=0, length=0, data=b"", flags=0):
        """A request and its reply: the error, which is 0 for none."""
        cookie = self.request(kind, offset, length, data, flags)
        self.last = answer = self.answer()
        assert answer.cookie == cookie
        self.data = answer.data
        return answer.error

    def status(self, offset, length, flags=0, context="base:allocation"):
        """A context's extents: pairs of length and status."""
        assert self.call(BLOCK_STATUS, offset, length, flags=flags) == 0
        return self.last.extents[self.contexts[context]]

    def read(self, offset, length):
        assert self.call(READ, offset, length) == 0
        return self.data

    def write(self, offset, data, flags=0):
        assert self.call(WRITE, offset, data=data, flags=flags) == 0

    def flush(self):
        assert self.call(FLUSH) == 0


@functools.cache
def engines():
    """What --engine takes here, or [None] where nbdserve has no such option."""
    text = subprocess.run([BUILD / "nbdserve", "--help"], capture_output=True, text=True,
                          check=True).stdout
    return ["io_uring", "epoll"] if "--engine" in text else [None]


@functools.cache
def has_io_uring():
    """Whether this machine lets us set a ring up."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(425, 4, ctypes.create_string_buffer(120))  # io_uring_setup()
    if fd >= 0:
        os.close(fd)
    return fd >= 0


class Server:
    """nbdserve in the foreground on a port of its own choice; ready when made."""

    def __init__(self, tmp, *args, port=0, env=None, listen=True, timeout=20, engine=None,
                 prefix=()):
        self.log = pathlib.Path(tmp) / f"nbdserve-{time.monotonic_ns()}.log"
        ready, write_end = os.pipe()
        command = [*prefix, BUILD / "nbdserve", "--foreground", "--ready-fd", str(write_end)]
        if engine:
            command += ["--engine", engine]
        if listen:
            command += ["--listen", f"127.0.0.1:{port}"]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([*map(str, command), *map(str, args)], stderr=log,
                                            stdin=subprocess.DEVNULL, pass_fds=[write_end],
                                            env={**os.environ, **(env or {})})
        atexit.register(self.kill)  # a test that fails stops nothing
        os.close(write_end)
        is_ready = is_readable(ready, timeout) and os.read(ready, 1) == b"\n"
        os.close(ready)
        if not is_ready:
            self.process.kill()
            self.process.wait()
        assert is_ready, f"nbdserve did not start: {self.text()}"
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", self.text())
        self.address = ("127.0.0.1", int(found.group(1))) if found else None

    def text(self):
        return self.log.read_text(errors="replace")

    def wait_for_log(self, words, timeout=10):
        until(lambda: words in self.text(), timeout, f"\"{words}\" in the log")

    def client(self, name=None, **kwargs):
        """A connection; with a name, one that has that export, if need be after its last user."""
        client = Client(self.address, **kwargs)
        deadline = time.monotonic() + 5
        while name is not None:
            try:
                return client.go(name)
            except Refused as e:
                if "is in use by" not in e.text or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        return client

    def is_alive(self):
        return self.process.poll() is None

    def rss_kib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, timeout=15):
        """Asks it to stop and returns its exit status."""
        if self.is_alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        finally:
            self.process.kill()
            self.process.wait()
