//! The seeds of the fuzz targets and what chance makes of them, the same in every run.

use manor_tests::seeds;

#[test]
fn viewers_may_say_anything() {
    seeds::replay("rfb", 500, super::rfb);
}

#[test]
fn firmware_may_ask_for_anything() {
    seeds::replay("fw_cfg", 500, super::fw_cfg);
}

#[test]
fn flash_may_be_told_anything() {
    seeds::replay("pflash", 500, super::flash);
}

#[test]
fn a_server_of_disks_that_says_anything_ends_every_request() {
    seeds::replay("nbd", 300, super::nbd);
}

#[test]
fn clients_of_a_backup_may_say_anything() {
    seeds::replay("nbd_client", 300, super::nbd_client);
}

#[test]
fn initiators_may_command_anything() {
    seeds::replay("scsi", 400, super::scsi);
}

#[test]
fn hosts_may_command_disks_anything() {
    seeds::replay("ata", 400, super::ata);
}

#[test]
fn drivers_of_sata_may_do_anything() {
    seeds::replay("ahci", 150, super::ahci);
}

#[test]
fn drivers_of_ide_may_do_anything() {
    seeds::replay("ide", 150, super::ide);
}

#[test]
fn drivers_of_nvme_may_do_anything() {
    seeds::replay("nvme", 150, super::nvme);
}

#[test]
fn drivers_of_virtio_disks_may_do_anything() {
    seeds::replay("virtio_blk", 150, super::virtio_blk);
}

#[test]
fn drivers_of_virtio_scsi_may_do_anything() {
    seeds::replay("virtio_scsi", 150, super::virtio_scsi);
}

#[test]
fn drivers_of_virtio_interfaces_may_do_anything() {
    seeds::replay("virtio_net", 150, super::virtio_net);
}

#[test]
fn drivers_of_virtio_consoles_may_do_anything() {
    seeds::replay("virtio_console", 150, super::virtio_console);
}

#[test]
fn drivers_of_small_virtio_devices_may_do_anything() {
    seeds::replay("virtio_small", 150, super::virtio_small);
}

#[test]
fn drivers_of_vsock_may_do_anything() {
    seeds::replay("virtio_vsock", 150, super::virtio_vsock);
}

#[test]
fn drivers_may_set_any_mode() {
    seeds::replay("vga", 200, super::vga);
}

#[test]
fn rings_may_hold_anything() {
    seeds::replay("virtqueue", 1000, super::virtqueue);
}

#[test]
fn kernels_may_tell_the_board_anything() {
    seeds::replay("chipset", 500, super::chipset);
}

#[test]
fn kernels_may_configure_anything() {
    seeds::replay("pci", 300, super::pci);
}
