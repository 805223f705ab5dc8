//! What libvirt's clients are told of devices that a domain does not have, by the numbers that they branch on.

use super::test_driver::Driver;

const GUEST: &str = "\
<domain type='test'><name>off</name><memory unit='MiB'>64</memory><os><type>hvm</type></os>\
<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='PLACE'/>\
<target dev='vda' bus='virtio'/></disk></devices></domain>
";

const CALLS: &str = r#"
import libvirt, sys

DISK = "<disk type='file'><source file='/none.raw'/><target dev='vdz' bus='virtio'/></disk>"
NIC = ("<interface type='ethernet'><mac address='52:54:00:99:99:99'/><model type='virtio'/>"
       "</interface>")
COPY = "<disk type='file'><source file='/none.raw'/></disk>"
LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG

arguments = {
    'blockInfo': lambda d: d.blockInfo('vdz'),
    'blockStats': lambda d: d.blockStats('vdz'),
    'blockStatsFlags': lambda d: d.blockStatsFlags('vdz'),
    'blockResize': lambda d: d.blockResize('vdz', 1024),
    'blockPeek': lambda d: d.blockPeek('vdz', 0, 1),
    'blockIoTune': lambda d: d.blockIoTune('vdz'),
    'setBlockIoTune': lambda d: d.setBlockIoTune('vdz', {'total_iops_sec': 100}),
    'setBlockThreshold': lambda d: d.setBlockThreshold('vdz', 1),
    'blockPull': lambda d: d.blockPull('vdz'),
    'blockCommit': lambda d: d.blockCommit('vdz', None, None),
    'blockCopy': lambda d: d.blockCopy('vdz', COPY),
    'blockJobInfo': lambda d: d.blockJobInfo('vdz'),
    'blockJobSetSpeed': lambda d: d.blockJobSetSpeed('vdz', 1),
    'blockJobAbort': lambda d: d.blockJobAbort('vdz'),
    'interfaceStats': lambda d: d.interfaceStats('vnet99'),
    'interfaceParameters': lambda d: d.interfaceParameters('52:54:00:99:99:99'),
    'setInterfaceParameters':
        lambda d: d.setInterfaceParameters('vnet99', {'inbound.average': 100}),
}
devices = {
    'detachDevice': lambda d: d.detachDevice(DISK),
    'detachDeviceFlags': lambda d: d.detachDeviceFlags(DISK, LIVE),
    'detachDeviceFlags, an interface': lambda d: d.detachDeviceFlags(NIC, LIVE),
    'detachDeviceAlias': lambda d: d.detachDeviceAlias('ua-none', LIVE),
    'updateDeviceFlags': lambda d: d.updateDeviceFlags(NIC, LIVE),
}
devices_of_one_that_is_off = {
    'detachDeviceFlags': lambda d: d.detachDeviceFlags(DISK, CONFIG),
    'detachDeviceAlias': lambda d: d.detachDeviceAlias('ua-none', CONFIG),
    'updateDeviceFlags': lambda d: d.updateDeviceFlags(NIC, CONFIG),
}

wrong = []
def refused(calls, domain, number, name):
    for what, call in calls.items():
        try:
            call(domain)
            wrong.append('%s: no error' % what)
        except libvirt.libvirtError as error:
            found = error.get_error_code()
            if (found, name in str(error)) != (number, True):
                wrong.append('%s: %d, %s' % (what, found, error))

libvirt.registerErrorHandler(lambda *_: None, None)
connection = libvirt.open(sys.argv[1])
off = connection.defineXML(open('off.xml').read())
refused({'blockInfo': arguments['blockInfo']}, off, libvirt.VIR_ERR_INVALID_ARG, 'vdz')
refused(devices_of_one_that_is_off, off, libvirt.VIR_ERR_DEVICE_MISSING, 'off')
off.create()
refused(arguments, off, libvirt.VIR_ERR_INVALID_ARG, 'invalid argument: ')
refused(devices, off, libvirt.VIR_ERR_DEVICE_MISSING, 'device not found: ')
# Its limits are found by its image, too.
off.setBlockIoTune('vda', {'total_iops_sec': 100})
assert off.blockIoTune(sys.argv[2])['total_iops_sec'] == 100
off.destroy()
off.undefine()
for calls in [arguments, devices, devices_of_one_that_is_off]:
    refused(calls, off, libvirt.VIR_ERR_NO_DOMAIN, 'Domain not found: ')
print('\n'.join(wrong) or 'ok')
"#;

#[test]
fn a_device_that_is_not_there_is_no_domain_that_is_not_there() {
    let driver = Driver::new();
    let image = driver.home().join("image.raw");
    std::fs::write(&image, [0; 4096]).unwrap();
    let image = image.display().to_string();
    driver.write("off.xml", &GUEST.replace("PLACE", &image));
    driver.write("calls.py", &CALLS.replace("sys.argv[2]", &format!("{image:?}")));
    let outcome = driver.python(&driver.home().join("calls.py"));
    assert_eq!((outcome.status, outcome.out.as_str()), (0, "ok\n"), "{}", outcome.err);
    // Manor's own command line exits as for anything that is not found, and names the device.
    const NOT_FOUND: i32 = 3;
    for line in ["domblkinfo test vdz", "detach-device-alias test ua-none", "blockjob test vdz"] {
        let outcome = driver.manor(line);
        assert_eq!(outcome.status, NOT_FOUND, "{line}: {}", outcome.err);
        assert!(!outcome.err.contains("failed to get domain"), "{line}: {}", outcome.err);
    }
}
