# SPDX-License-Identifier: GPL-2.0-or-later
"""
A DHCP server in as few lines as will do, for what real ones never send: it answers on one card with
one address and any options, as bytes; it can be slow, deaf to the first messages, or refuse. What
it hears is kept. Run as a program inside a network namespace, see class Server.
"""
import json
import select
import socket
import struct
import subprocess
import sys
import time

DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6
COOKIE = bytes([99, 130, 83, 99])


def read_options(data):
    options, i = {}, 240
    while i < len(data) and data[i] != 255:
        if data[i] == 0:
            i += 1
            continue
        options[data[i]] = options.get(data[i], b"") + data[i + 2:i + 2 + data[i + 1]]
        i += 2 + data[i + 1]
    return options


def write_options(options):
    """Long ones in pieces, as RFC 3396 has it."""
    out = b""
    for code, value in options:
        pieces = [value[i:i + 255] for i in range(0, len(value), 255)] or [b""]
        out += b"".join(bytes([code, len(piece)]) + piece for piece in pieces)
    return out + b"\xff"


def answer(request, kind, config):
    address = bytes(4) if kind == NAK else socket.inet_aton(config["address"])
    head = b"\2" + request[1:4] + request[4:8] + bytes(8) + address
    head += socket.inet_aton(config["next_server"]) + bytes(4) + request[28:44] + bytes(192) + COOKIE
    options = [(53, bytes([kind])), (54, socket.inet_aton(config["server"]))]
    if kind != NAK:
        options += [(51, struct.pack("!I", config["lease_s"])), (1, bytes([255, 255, 255, 0]))]
        options += [(int(code), bytes.fromhex(value)) for code, value in config["options"].items()]
    return head + write_options(options)


def serve(config):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, config["card"].encode())
    s.bind(("", 67))
    print(json.dumps({"ready": True}), flush=True)
    deaf = config["deaf"]
    while True:
        request, _ = s.recvfrom(2048)
        options = read_options(request)
        kind = options.get(53, b"\0")[0]
        print(json.dumps({"at": time.monotonic(), "type": kind,
                          "mac": request[28:34].hex(":"),
                          "options": {k: v.hex() for k, v in options.items()}}), flush=True)
        if kind not in (DISCOVER, REQUEST):
            continue
        if deaf > 0:
            deaf -= 1
            continue
        if options.get(54, socket.inet_aton(config["server"])) != socket.inet_aton(config["server"]):
            continue
        if kind == DISCOVER:
            reply = OFFER
        else:
            reply = NAK if config["refuses"] else ACK
        time.sleep(config["slow_s"])
        s.sendto(answer(request, reply, config), ("255.255.255.255", 68))


class Server:
    """options: {code: bytes}."""

    def __init__(self, network, card, address, server, options=None, next_server="0.0.0.0",
                 lease_s=600, deaf=0, slow_s=0, refuses=False):
        config = {"card": card, "address": address, "server": server, "lease_s": lease_s,
                  "next_server": next_server, "deaf": deaf, "slow_s": slow_s, "refuses": refuses,
                  "options": {k: v.hex() for k, v in (options or {}).items()}}
        self.heard = []
        self._partial = b""
        self.process = subprocess.Popen(
            network.inside(sys.executable, __file__, json.dumps(config)), stdout=subprocess.PIPE)
        while not self.messages(10):
            assert self.process.poll() is None, "the DHCP server did not start"

    def messages(self, timeout=0):
        """What it has heard so far; True-ish when it is ready."""
        while select.select([self.process.stdout], [], [], timeout)[0]:
            chunk = self.process.stdout.read1(65536)
            if not chunk:
                break
            timeout = 0
            *lines, self._partial = (self._partial + chunk).split(b"\n")
            self.heard += [json.loads(line) for line in lines]
        return self.heard

    def of_type(self, kind):
        return [m for m in self.messages() if m.get("type") == kind]

    def close(self):
        self.process.kill()
        self.process.wait(timeout=10)
        self.process.stdout.close()


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
