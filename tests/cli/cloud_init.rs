//! Seeds for cloud-init by the command line.

use super::guests::{defined, ok};

#[test]
fn a_guest_has_its_seed_in_a_drive_and_bad_documents_are_refused() {
    let Some(rig) = defined() else { return };
    rig.write("user-data", "#cloud-config\npassword: x\n");
    rig.write("network", "version: 2\n");
    rig.write("plain", "password: x\n");
    let refused = rig.manor(["define", "echo.xml", "--cloud-init", "plain"]);
    assert_eq!(refused.status, 1);
    assert!(refused.err.contains("#cloud-config for YAML"), "{}", refused.err);
    let refused = rig.manor(["define", "echo.xml", "--network-config", "network"]);
    assert!(refused.err.contains("--cloud-init"), "{}", refused.err);

    let seed = ["--cloud-init", "user-data", "--network-config", "network"];
    ok(&rig, &[&["define", "echo.xml"][..], &seed].concat());
    let blocks = ok(&rig, &["domblklist", "echo"]);
    assert!(blocks.contains("sda") && blocks.contains("state/cloud-init/"), "{blocks}");
    ok(&rig, &["start", "echo"]);
    let path = blocks.split_whitespace().find(|word| word.ends_with(".iso")).unwrap().to_owned();
    let image = std::fs::read(&path).unwrap();
    assert!(image.windows(13).any(|window| window == b"password: x\n\0"));
    ok(&rig, &["destroy", "echo"]);
    ok(&rig, &["undefine", "echo"]);
    assert!(!std::path::Path::new(&path).exists());
}
