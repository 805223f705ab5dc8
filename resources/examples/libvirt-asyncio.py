#!/usr/bin/env python3
"""Waits for guests by asyncio: starts one that is made for it, and says what happens until it has gone.

libvirt-asyncio.py [URI]
"""

import asyncio
import sys

import libvirt
import libvirtaio

GUEST = """<domain type='kvm'><name>passing</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type>hvm</type></os></domain>"""
NAMES = {
    libvirt.VIR_DOMAIN_EVENT_STARTED: "started",
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: "suspended",
    libvirt.VIR_DOMAIN_EVENT_RESUMED: "resumed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED: "stopped",
}


async def main(uri):
    # Before the connection is opened: it is the loop that reads what the host sends.
    libvirtaio.virEventRegisterAsyncIOImpl()
    host = libvirt.open(uri)
    happened = asyncio.Queue()

    def lifecycle(_host, guest, event, _detail, _opaque):
        happened.put_nowait((guest.name(), NAMES.get(event, event)))

    host.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, None)
    loop = asyncio.get_running_loop()
    # Calls wait for their answers, so they go to a thread and leave the loop to others.
    guest = await loop.run_in_executor(None, host.createXML, GUEST)
    await loop.run_in_executor(None, guest.suspend)
    await loop.run_in_executor(None, guest.resume)
    await loop.run_in_executor(None, guest.destroy)
    while True:
        name, what = await asyncio.wait_for(happened.get(), timeout=60)
        if name == "passing":
            print(what, flush=True)
            if what == "stopped":
                break
    host.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "qemu:///system"))
