# SPDX-License-Identifier: GPL-2.0-or-later
"""
dhcp_ask.py INTERFACE JSON: a DHCP client of one question, for test_netboot_dhcp.py. JSON is {"mac": ...,
"options": {number: hex}, "wait": seconds}; sends a DISCOVER and a REQUEST for what is offered, and
prints what the acknowledgement says as JSON; null when nobody offers anything.
"""
import json
import random
import socket
import struct
import sys

from dhcp import COOKIE, read_options


def message(kind, mac, xid, options):
    head = struct.pack(">BBBBIHHIIII", 1, 1, 6, 0, xid, 0, 0x8000, 0, 0, 0, 0)
    data = head + mac + bytes(10 + 64 + 128) + COOKIE + bytes([53, 1, kind])
    for number, value in options.items():
        data += bytes([number, len(value)]) + value
    return data + b"\xff"


def answer(sock, xid, kind):
    while True:
        data = sock.recv(4096)
        if len(data) > 240 and data[0] == 2 and struct.unpack(">I", data[4:8])[0] == xid:
            options = read_options(data)
            if options.get(53) == bytes([kind]):
                return data, options


def main():
    interface, text = sys.argv[1:]
    wish = json.loads(text)
    mac = bytes.fromhex(wish["mac"].replace(":", ""))
    # everything that anybody may tell
    options = {55: bytes([1, 3, 6, 12, 15, 17, 42, 43, 60, 66, 67, 175])}
    options |= {int(n): bytes.fromhex(v) for n, v in wish["options"].items()}
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    sock.bind(("", 68))
    sock.settimeout(wish["wait"])
    xid = random.getrandbits(32)
    try:
        sock.sendto(message(1, mac, xid, options), ("255.255.255.255", 67))
        offer, offered = answer(sock, xid, 2)
        options |= {50: offer[16:20], 54: offered[54]}
        sock.sendto(message(3, mac, xid, options), ("255.255.255.255", 67))
        ack, acked = answer(sock, xid, 5)
    except TimeoutError:
        print("null")
        return

    def words(data):
        return data.rstrip(b"\0").decode(errors="replace")

    print(json.dumps({
        "address": socket.inet_ntoa(ack[16:20]), "next_server": socket.inet_ntoa(ack[20:24]),
        "file": words(ack[108:236]) or words(acked.get(67, b"")),
        "options": {n: v.hex() for n, v in acked.items()}}))


main()
