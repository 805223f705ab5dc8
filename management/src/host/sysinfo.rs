//! What the host's firmware says of the computer, as libvirt's `<sysinfo type='smbios'>`. Read where
//! the kernel shows it (`/sys/class/dmi/id`), of which serial numbers are for root alone.

use std::fmt::Write as _;

use super::{Host, escape, field, read};
use crate::error::{Code, Error};

/// libvirt's element, and its entries with the kernel's names.
type Table = (&'static str, &'static [(&'static str, &'static str)]);

const TABLES: &[Table] = &[
    (
        "bios",
        &[
            ("vendor", "bios_vendor"),
            ("version", "bios_version"),
            ("date", "bios_date"),
            ("release", "bios_release"),
        ],
    ),
    (
        "system",
        &[
            ("manufacturer", "sys_vendor"),
            ("product", "product_name"),
            ("version", "product_version"),
            ("serial", "product_serial"),
            ("uuid", "product_uuid"),
            ("sku", "product_sku"),
            ("family", "product_family"),
        ],
    ),
    (
        "baseBoard",
        &[
            ("manufacturer", "board_vendor"),
            ("product", "board_name"),
            ("version", "board_version"),
            ("serial", "board_serial"),
            ("asset", "board_asset_tag"),
        ],
    ),
    (
        "chassis",
        &[
            ("manufacturer", "chassis_vendor"),
            ("version", "chassis_version"),
            ("serial", "chassis_serial"),
            ("asset", "chassis_asset_tag"),
        ],
    ),
];

pub(crate) fn describe(host: &Host) -> Result<String, Error> {
    let dmi = host.sys().join("class/dmi/id");
    let mut xml = "<sysinfo type='smbios'>\n".to_owned();
    for (element, entries) in TABLES {
        let known = entries.iter().map(|(name, file)| (*name, read(dmi.join(file))));
        write_table(&mut xml, element, known);
    }
    if xml.lines().count() == 1 {
        let text = "this host's firmware has no SMBIOS that the kernel shows";
        return Err(Error::new(Code::Unsupported, text));
    }
    for processor in processors(&host.read("proc/cpuinfo")) {
        write_table(&mut xml, "processor", processor.into_iter());
    }
    xml.push_str("</sysinfo>\n");
    Ok(xml)
}

/// Nothing is written of a table of which nothing is known.
fn write_table(
    xml: &mut String,
    element: &str,
    entries: impl Iterator<Item = (&'static str, String)>,
) {
    let known: Vec<_> = entries.filter(|(_, text)| !text.trim().is_empty()).collect();
    if known.is_empty() {
        return;
    }
    let _ = writeln!(xml, "  <{element}>");
    for (name, text) in known {
        let _ = writeln!(xml, "    <entry name='{name}'>{}</entry>", escape(text.trim()));
    }
    let _ = writeln!(xml, "  </{element}>");
}

/// One of each socket.
fn processors(cpuinfo: &str) -> Vec<Vec<(&'static str, String)>> {
    let mut sockets: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for cpu in cpuinfo.split("\n\n") {
        let text = |name: &str| field(cpu, name).unwrap_or_default().to_owned();
        let (model, socket) = (text("model name"), text("physical id"));
        if model.is_empty() || sockets.contains(&socket) {
            continue;
        }
        found.push(vec![
            ("type", "Central Processor".to_owned()),
            ("manufacturer", text("vendor_id")),
            ("version", model),
        ]);
        sockets.push(socket);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_firmware_says_is_told_and_what_it_does_not_say_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::made_up(dir.path().to_owned());
        assert_eq!(describe(&host).unwrap_err().code, Code::Unsupported);
        let dmi = dir.path().join("sys/class/dmi/id");
        std::fs::create_dir_all(&dmi).unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        std::fs::write(dmi.join("bios_vendor"), "A & B\n").unwrap();
        std::fs::write(dmi.join("product_sku"), " \n").unwrap();
        std::fs::write(dmi.join("board_name"), "X1").unwrap();
        let cpu = |socket| format!("model name : M\nvendor_id: V\nphysical id: {socket}\n\n");
        let cpus = [0, 0, 1].map(cpu).concat();
        std::fs::write(dir.path().join("proc/cpuinfo"), cpus).unwrap();
        let processor = "  <processor>\n    <entry name='type'>Central Processor</entry>\n    \
                         <entry name='manufacturer'>V</entry>\n    <entry name='version'>M</entry>\n  \
                         </processor>\n";
        assert_eq!(
            describe(&host).unwrap(),
            format!(
                "<sysinfo type='smbios'>\n  <bios>\n    <entry name='vendor'>A &amp; B</entry>\n  \
                 </bios>\n  <baseBoard>\n    <entry name='product'>X1</entry>\n  </baseBoard>\n\
                 {processor}{processor}</sysinfo>\n"
            )
        );
    }
}
