//! Kernel modules of an unpacked package. The package carries no `modules.dep` (its maintainer
//! scripts make that), so the dependencies are read where depmod reads them: in each module's
//! `.modinfo` section.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// All modules below one `lib/modules/<release>`.
pub struct Modules {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    pub name: String,
    pub path: PathBuf,
    pub info: ModInfo,
}

/// The parts of `.modinfo` that matter for loading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModInfo {
    pub depends: Vec<String>,
    pub soft_before: Vec<String>,
    pub aliases: Vec<String>,
}

impl Modules {
    pub fn scan(dir: &Path) -> anyhow::Result<Modules> {
        let mut files = BTreeMap::new();
        collect(&dir.join("kernel"), &mut files)?;
        let builtin = fs::read_to_string(dir.join("modules.builtin"))
            .with_context(|| format!("no modules.builtin in {dir:?}"))?;
        let builtin = builtin.lines().filter_map(|line| name_of(Path::new(line))).collect();
        Ok(Modules { files, builtin })
    }

    /// `wanted` and all they need, each after what it needs.
    pub fn in_load_order(&self, wanted: &[&str]) -> anyhow::Result<Vec<Module>> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            self.visit(name, true, &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn visit(
        &self,
        name: &str,
        needed: bool,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<Module>,
    ) -> anyhow::Result<()> {
        let name = name.replace('-', "_");
        if self.builtin.contains(&name) || !seen.insert(name.clone()) {
            return Ok(());
        }
        let Some(path) = self.files.get(&name) else {
            if needed {
                bail!("the kernel has no module {name}");
            }
            return Ok(());
        };
        let bytes = fs::read(path).with_context(|| format!("cannot read {path:?}"))?;
        let info = ModInfo::parse(&bytes).with_context(|| format!("no .modinfo in {path:?}"))?;
        for dependency in &info.soft_before {
            self.visit(dependency, false, seen, order)?;
        }
        for dependency in &info.depends {
            self.visit(dependency, true, seen, order)?;
        }
        order.push(Module { name, path: path.clone(), info });
        Ok(())
    }
}

fn collect(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {dir:?}"))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = name_of(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.strip_suffix(".ko")?.replace('-', "_"))
}

impl ModInfo {
    fn parse(module: &[u8]) -> Option<ModInfo> {
        let mut info = ModInfo::default();
        for field in section(module, b".modinfo")?.split(|byte| *byte == 0) {
            let field = std::str::from_utf8(field).ok()?;
            match field.split_once('=') {
                Some(("depends", names)) => {
                    info.depends.extend(names.split(',').filter(|n| !n.is_empty()).map(Into::into));
                }
                Some(("softdep", text)) => {
                    let before = text.split("post:").next()?.trim().strip_prefix("pre:");
                    info.soft_before
                        .extend(before.unwrap_or_default().split_whitespace().map(Into::into));
                }
                Some(("alias", pattern)) => info.aliases.push(pattern.to_owned()),
                _ => {}
            }
        }
        Some(info)
    }
}

/// One section of a 64-bit little-endian ELF file.
fn section<'a>(elf: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let number = |at: usize, size: usize| {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(elf.get(at..at.checked_add(size)?)?);
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    let headers = number(0x28, 8)?;
    let header_size = number(0x3a, 2)?;
    let count = number(0x3c, 2)?;
    let header = |index: usize| headers.checked_add(index.checked_mul(header_size)?);
    let contents = |header: usize| {
        let start = number(header + 0x18, 8)?;
        elf.get(start..start.checked_add(number(header + 0x20, 8)?)?)
    };
    let names = contents(header(number(0x3e, 2)?)?)?;
    (0..count).find_map(|index| {
        let header = header(index)?;
        let name = names.get(number(header, 4)?..)?;
        (name.strip_prefix(wanted)?.first() == Some(&0)).then(|| contents(header))?
    })
}

/// The tables from which `modprobe` inside works, for the modules carried along.
pub fn tables(modules: &[Module], inside: impl Fn(&Module) -> String) -> (String, String) {
    let path = |name: &str| {
        modules.iter().find(|module| module.name == name.replace('-', "_")).map(&inside)
    };
    let (mut dep, mut alias) = (String::new(), String::new());
    for module in modules {
        let needs: Vec<_> = needs(modules, module).iter().filter_map(|n| path(n)).collect();
        let _ = writeln!(dep, "{}: {}", inside(module), needs.join(" "));
        for pattern in &module.info.aliases {
            let _ = writeln!(alias, "alias {pattern} {}", module.name);
        }
    }
    (dep, alias)
}

/// Everything `module` stands on, nearest first, as depmod writes it.
fn needs(modules: &[Module], module: &Module) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut queue = module.info.depends.clone();
    while let Some(name) = queue.pop() {
        let name = name.replace('-', "_");
        all.retain(|known| *known != name);
        if let Some(found) = modules.iter().find(|module| module.name == name) {
            queue.extend(found.info.depends.iter().cloned());
        }
        all.push(name);
    }
    all
}
