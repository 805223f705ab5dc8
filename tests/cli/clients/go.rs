//! Programs in Go with DigitalOcean's go-libvirt, which shares no code with libvirt: Terraform's provider is one.

use super::super::test_driver::Driver;
use super::{on, said, userland};

#[test]
#[ignore = "takes long: --all"]
fn a_program_with_another_implementation_of_the_protocol_is_understood() {
    let packages = ["golang-go", "golang-github-digitalocean-go-libvirt-dev"];
    let Some(go) = userland("client-go", &packages) else { return };
    let driver = Driver::new();
    driver.write("tour.go", include_str!("tour.go"));
    let words = [
        "env",
        "GO111MODULE=off",
        "GOPATH=/usr/share/gocode",
        "CGO_ENABLED=0",
        "go",
        "run",
        "tour.go",
        "/run/libvirt/libvirt-sock",
    ];
    assert_eq!(
        said(on(&driver, &go, &words)),
        "type: QEMU\nevent: started\nrunning: true\nguests: 2\nstatistics: state.state 1\n\
         volume comes back: true\ndownloads go on: 4096\nno such guest: true\n"
    );
    assert_eq!(driver.virsh("list --all --name").out.trim(), "test");
}
