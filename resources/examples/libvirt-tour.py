#!/usr/bin/env python3
"""A tour of a host by python3-libvirt, as in IBM's article "Anatomy of the libvirt virtualization
library": connect, list, look up by id, suspend, resume, destroy.

    libvirt-tour.py 'qemu+unix:///system?socket=/run/manor/libvirt-sock'
"""

import sys

import libvirt


def tour(uri):
    connection = libvirt.open(uri)
    print(f"{connection.getHostname()} runs {connection.getType()}, {connection.numOfDomains()} guests")
    for name in connection.listDefinedDomains():
        print(f"{name} is off")
    for number in connection.listDomainsID():
        domain = connection.lookupByID(number)
        print(f"{domain.name()} is guest {number} with {domain.info()[1]} KiB of memory")
        domain.suspend()
        print(f"suspended: {domain.info()[0] == libvirt.VIR_DOMAIN_PAUSED}")
        domain.resume()
        print(f"resumed: {domain.info()[0] == libvirt.VIR_DOMAIN_RUNNING}")
        domain.destroy()
        print(f"destroyed: {not domain.isActive()}")
    connection.close()


if __name__ == "__main__":
    tour(sys.argv[1] if len(sys.argv) > 1 else "qemu:///system")
