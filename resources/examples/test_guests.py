#!/usr/bin/env python3
"""Tests of a tool that manages guests, without guests: against Manor's test driver.

    pytest test_guests.py                # starts a daemon of its own: `manor` in the PATH
    python3 test_guests.py URI           # or with one that runs: manor daemon --driver test
"""

import os
import subprocess
import sys
import unittest

import libvirt

URI = os.environ.get("TEST_URI")
GUEST = """
<domain type='kvm'>
  <name>{name}</name>
  <metadata>
    <test:guest xmlns:test='urn:manor:test' {behaviour}/>
  </metadata>
  <memory unit='MiB'>512</memory>
  <vcpu>1</vcpu>
  <os><type>hvm</type></os>
</domain>
"""


def wake(connection, name):
    """What is tested: start a guest, or let it go on."""
    domain = connection.lookupByName(name)
    state, _ = domain.state()
    if state == libvirt.VIR_DOMAIN_PAUSED:
        domain.resume()
    elif state == libvirt.VIR_DOMAIN_SHUTOFF:
        domain.create()
    return domain


class Waking(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        libvirt.registerErrorHandler(lambda *_: None, None)
        cls.daemon, uri = None, URI
        if uri is None:
            command = ["manor", "daemon", "--driver", "test"]
            cls.daemon = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            # Its first line; from then on connections are welcome.
            uri = cls.daemon.stdout.readline().strip()
        cls.connection = libvirt.open(uri)

    @classmethod
    def tearDownClass(cls):
        cls.connection.close()
        if cls.daemon:
            cls.daemon.terminate()
            cls.daemon.wait()

    def define(self, name, behaviour=""):
        domain = self.connection.defineXML(GUEST.format(name=name, behaviour=behaviour))
        self.addCleanup(domain.undefine)
        return domain

    def test_a_paused_guest_goes_on(self):
        self.connection.lookupByName("test").suspend()
        self.assertEqual(wake(self.connection, "test").info()[0], libvirt.VIR_DOMAIN_RUNNING)

    def test_one_that_is_off_starts(self):
        self.define("sleeper")
        domain = wake(self.connection, "sleeper")
        self.assertTrue(domain.isActive())
        domain.destroy()

    def test_one_that_cannot_start_says_why(self):
        self.define("broken", "start='no spark'")
        with self.assertRaisesRegex(libvirt.libvirtError, "no spark"):
            wake(self.connection, "broken")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        URI = sys.argv.pop()
    unittest.main()
