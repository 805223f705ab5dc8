//! Graphics of the host, as programs open them: `/dev/dri/card0`, `/dev/dri/renderD128`.

use std::path::Path;

use super::{NodeDevice, NodeDeviceKind, child, device, entries, file_name, plain};

pub(super) fn read(sys: &Path) -> impl Iterator<Item = NodeDevice> {
    entries(&sys.join("class/drm")).filter_map(move |path| {
        let name = file_name(&path)?;
        let is_numbered = |prefix: &str| {
            let number = name.strip_prefix(prefix).unwrap_or_default();
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        };
        // What is plugged into a card is listed there as well (`card0-HDMI-A-1`).
        let kind = match (is_numbered("card"), is_numbered("renderD")) {
            (true, _) => "primary",
            (_, true) => "render",
            _ => return None,
        };
        let mut inside = String::new();
        child(&mut inside, 4, "type", Some(kind.to_owned()));
        let own = format!("drm_{}", plain(name));
        Some(device((sys, &path), own, NodeDeviceKind::Drm, &inside))
    })
}
