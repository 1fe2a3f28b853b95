"""Announcing a new container's address on the host's bridge."""

from __future__ import annotations

import socket
import struct


def announce(container, bridges):
    """Tell the host's bridge the container's address and MAC, as its first ARP answer would.

    docker-proxy accepts a connection while the container's interface is not up yet; that lookup is lost and the
    kernel retries after a second, in which the port looks dead. Entering the neighbour lets the packets go at once
    (RTM_NEWNEIGH, rtnetlink(7)). Not permitted or not on this host: nothing happens, the retry remains.
    """
    for network in (container["NetworkSettings"].get("Networks") or {}).values():
        bridge, mac = bridges.get(network.get("NetworkID")), network.get("MacAddress")
        for family, address in (
            (socket.AF_INET, network.get("IPAddress")),
            (socket.AF_INET6, network.get("GlobalIPv6Address")),
        ):
            if not (bridge and mac and address):
                continue
            hardware = bytes(int(part, 16) for part in mac.split(":"))
            raw = socket.inet_pton(family, address)
            link = (
                struct.pack("=HH", 4 + len(raw), 1)
                + raw
                + struct.pack("=HH", 4 + len(hardware), 2)
                + hardware
                + b"\0\0"
            )
            reachable = 2
            try:
                body = struct.pack("=BBHiHBB", family, 0, 0, socket.if_nametoindex(bridge), reachable, 0, 0) + link
                with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
                    newneigh, request_create_replace = 28, 0x501
                    kernel.send(struct.pack("=IHHII", 16 + len(body), newneigh, request_create_replace, 1, 0) + body)
            except OSError:
                return  # an optimisation only: without the right to it, the kernel finds the address by itself


def published_bridges(engine, container):
    """{network ID: bridge device} of the bridge networks a container with published ports is in."""
    host = container["HostConfig"]
    if not (host.get("PortBindings") or host.get("PublishAllPorts")) or not engine.address.startswith("unix://"):
        return {}
    bridges = {}
    for name in container["NetworkSettings"].get("Networks") or {}:
        network = engine.get("networks", name) or {}
        if network.get("Driver") == "bridge":
            device = (network.get("Options") or {}).get("com.docker.network.bridge.name")
            bridges[network["Id"]] = device or "br-" + network["Id"][:12]
    return bridges
