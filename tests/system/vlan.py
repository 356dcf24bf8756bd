# SPDX-License-Identifier: GPL-2.0-or-later
"""
The other end of a VLAN, for kernels without 802.1Q: a tap whose frames go in and out of another card
with a tag. Run as a program inside a network namespace, see class Trunk.
"""
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
SOL_PACKET, PACKET_AUXDATA, STATUS_VLAN = 263, 8, 0x10
ETH_P_ALL = 3


def relay(card, tap, number):
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", tap.encode(), IFF_TAP | IFF_NO_PI))
    trunk = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    trunk.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    trunk.bind((card, ETH_P_ALL))
    print("ready", flush=True)
    tag = struct.pack("!HH", 0x8100, number)
    while True:
        for ready in select.select([fd, trunk], [], [])[0]:
            if ready == fd:
                frame = os.read(fd, 65536)
                trunk.send(frame[:12] + tag + frame[12:])
                continue
            frame, ancillary, _, sender = trunk.recvmsg(65536, 256)
            if sender[2] == socket.PACKET_OUTGOING:
                continue
            # the kernel has taken the tag off, or not
            tags = [struct.unpack("IIIHHHH", data[:20]) for level, kind, data in ancillary
                    if level == SOL_PACKET and kind == PACKET_AUXDATA]
            if tags and tags[0][0] & STATUS_VLAN:
                if tags[0][5] & 0xFFF == number:
                    os.write(fd, frame)
            elif frame[12:16] == tag:
                os.write(fd, frame[:12] + frame[16:])


class Trunk:
    """A tap of this name with an address, behind VLAN number of the card."""

    def __init__(self, network, card, tap, number, address):
        self.process = subprocess.Popen(
            network.inside(sys.executable, __file__, card, tap, number), stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"
        network.run("ip", "addr", "add", f"{address}/24", "dev", tap)
        network.run("ip", "link", "set", tap, "up")

    def close(self):
        self.process.kill()
        self.process.wait(timeout=10)
        self.process.stdout.close()


if __name__ == "__main__":
    relay(sys.argv[1], sys.argv[2], int(sys.argv[3]))
