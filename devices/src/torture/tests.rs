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
