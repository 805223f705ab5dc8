#!/usr/bin/env python3
"""Prints what happens to guests and networks, one line each, until as many lines are printed.

    libvirt-events.py 'qemu+unix:///system?socket=/run/manor/libvirt-sock' [LINES]
"""

import sys

import libvirt

EVENTS = ["defined", "undefined", "started", "suspended", "resumed", "stopped", "shutdown"]


class Printer:
    def __init__(self, lines):
        self.left = lines

    def line(self, text):
        print(text, flush=True)
        self.left -= 1

    def lifecycle(self, _connection, domain, event, detail, _opaque):
        name = EVENTS[event] if event < len(EVENTS) else str(event)
        self.line(f"{domain.name()} {name} {detail}")

    def reboot(self, _connection, domain, _opaque):
        self.line(f"{domain.name()} rebooted")

    def network(self, _connection, network, event, detail, _opaque):
        self.line(f"network {network.name()} {event} {detail}")


def follow(uri, lines):
    libvirt.virEventRegisterDefaultImpl()
    connection = libvirt.openReadOnly(uri)
    printer = Printer(lines)
    kinds = [
        (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, printer.lifecycle),
        (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, printer.reboot),
    ]
    callbacks = [connection.domainEventRegisterAny(None, kind, call, None) for kind, call in kinds]
    lifecycle = libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE
    network = connection.networkEventRegisterAny(None, lifecycle, printer.network, None)
    # A daemon that is gone is noticed, also where nothing happens.
    connection.setKeepAlive(5, 3)
    print("listening", flush=True)
    while printer.left > 0 and connection.isAlive():
        libvirt.virEventRunDefaultImpl()
    for callback in callbacks:
        connection.domainEventDeregisterAny(callback)
    connection.networkEventDeregisterAny(network)
    connection.close()


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "qemu:///system"
    follow(address, int(sys.argv[2]) if len(sys.argv) > 2 else sys.maxsize)
