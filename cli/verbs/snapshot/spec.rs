//! `<domainsnapshot>` from the words of snapshot-create-as.

use crate::args::SnapshotCreateAs;
use crate::failure::Failure;

pub(super) fn document(args: &SnapshotCreateAs) -> Result<String, Failure> {
    let mut out = "<domainsnapshot>\n".to_owned();
    if let Some(name) = &args.name {
        out.push_str(&format!("  <name>{}</name>\n", escape(name)));
    }
    if let Some(description) = &args.description {
        out.push_str(&format!("  <description>{}</description>\n", escape(description)));
    }
    if let Some(spec) = &args.memspec {
        out.push_str(&memory(spec)?);
    }
    if !args.diskspec.is_empty() {
        out.push_str("  <disks>\n");
        for spec in &args.diskspec {
            out.push_str(&disk(spec)?);
        }
        out.push_str("  </disks>\n");
    }
    out.push_str("</domainsnapshot>\n");
    Ok(out)
}

/// Words between commas; a comma itself is written twice.
fn words(spec: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut letters = spec.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == ',' && letters.next_if_eq(&',').is_none() {
            words.push(String::new());
        } else if let Some(word) = words.last_mut() {
            word.push(letter);
        }
    }
    words
}

fn memory(spec: &str) -> Result<String, Failure> {
    let mut attributes = String::new();
    for word in words(spec) {
        let (name, value) = match word.split_once('=') {
            Some(("snapshot", kind)) => ("snapshot", kind.to_owned()),
            Some(("file", file)) => ("file", absolute(file)?),
            None if !word.is_empty() => ("file", absolute(&word)?),
            _ => return Err(Failure::usage(format!("unable to parse memspec: {spec}"))),
        };
        attributes.push_str(&format!(" {name}='{}'", escape(&value)));
    }
    Ok(format!("  <memory{attributes}/>\n"))
}

fn disk(spec: &str) -> Result<String, Failure> {
    let bad = || Failure::usage(format!("unable to parse diskspec: {spec}"));
    let mut words = words(spec).into_iter();
    let name = words.next().filter(|name| !name.is_empty()).ok_or_else(bad)?;
    let (mut attributes, mut driver, mut file, mut block) =
        (String::new(), String::new(), None, false);
    for word in words {
        match word.split_once('=').ok_or_else(bad)? {
            ("snapshot", kind) => attributes.push_str(&format!(" snapshot='{}'", escape(kind))),
            ("driver", format) => {
                driver = format!("      <driver type='{}'/>\n", escape(format));
            }
            ("stype", "block") => block = true,
            ("stype", "file") => block = false,
            ("file", path) => file = Some(absolute(path)?),
            _ => return Err(bad()),
        }
    }
    let place = if block { "dev" } else { "file" };
    if file.is_some() {
        attributes.push_str(if block { " type='block'" } else { " type='file'" });
    }
    let source = file.map(|file| format!("      <source {place}='{}'/>\n", escape(&file)));
    let inside = format!("{driver}{}", source.unwrap_or_default());
    let name = escape(&name);
    if inside.is_empty() {
        return Ok(format!("    <disk name='{name}'{attributes}/>\n"));
    }
    Ok(format!("    <disk name='{name}'{attributes}>\n{inside}    </disk>\n"))
}

/// The daemon works elsewhere: a relative path is ours.
fn absolute(file: &str) -> Result<String, Failure> {
    let wrong = |_| Failure::usage(format!("'{file}' is no path of a file"));
    Ok(std::path::absolute(file).map_err(wrong)?.display().to_string())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&apos;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line_become_xml() {
        assert_eq!(words("vda,file=/a,,b"), ["vda", "file=/a,b"]);
        assert_eq!(
            disk("vda,snapshot=external,driver=qcow2,file=/a").unwrap(),
            "    <disk name='vda' snapshot='external' type='file'>\n      <driver type='qcow2'/>\n      \
             <source file='/a'/>\n    </disk>\n"
        );
        assert_eq!(disk("vda,snapshot=no").unwrap(), "    <disk name='vda' snapshot='no'/>\n");
        assert_eq!(
            memory("/m,snapshot=external").unwrap(),
            "  <memory file='/m' snapshot='external'/>\n"
        );
        for bad in ["", "vda,what=1", "vda,x"] {
            assert!(disk(bad).is_err(), "{bad}");
        }
        assert!(memory("what=1").is_err());
        assert_eq!(escape("<'&"), "&lt;&apos;&amp;");
    }
}
