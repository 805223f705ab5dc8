//! [`Items`]: what can be selected: numbered items, and named files with the directory of them.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Items with a number of their own.
pub mod key {
    pub const SIGNATURE: u16 = 0x00;
    pub const ID: u16 = 0x01;
    pub const UUID: u16 = 0x02;
    pub const RAM_SIZE: u16 = 0x03;
    pub const CPUS: u16 = 0x05;
    pub const BOOT_MENU: u16 = 0x0e;
    pub const MAX_CPUS: u16 = 0x0f;
    pub const DIRECTORY: u16 = 0x19;
    pub const FILE_FIRST: u16 = 0x20;
}

/// The traditional interface, and DMA.
const ID: u32 = 0b11;
/// With its NUL.
const NAME_MAX: usize = 56;
/// Selectors from here on mean other things.
const FILE_END: u16 = 0x4000;

/// Files that are made when the first of them is selected after a reset.
pub struct Late {
    /// Name and announced length. What is made is cut or filled with zeros to it: firmware trusts
    /// the directory, which it reads before.
    pub files: Vec<(String, usize)>,
    /// All of them, in the order of `files`.
    pub make: Box<dyn Fn() -> Vec<Vec<u8>> + Send + Sync>,
}

/// A file by which a guest tells the machine something. Only DMA writes it, as in QEMU.
pub trait Writable: Send + Sync {
    /// What the guest reads. Its length never changes: firmware trusts the directory.
    fn content(&self) -> Vec<u8>;
    /// `data` lies inside of the file.
    fn write(&self, offset: usize, data: &[u8]);
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FwCfgError {
    #[error("fw_cfg file name {name:?} is longer than 55 bytes, empty, or holds a NUL")]
    Name { name: String },
    #[error("fw_cfg file {name:?} is given twice")]
    Twice { name: String },
    #[error("there is room for {} fw_cfg files", FILE_END - key::FILE_FIRST)]
    TooMany,
    #[error("fw_cfg file {name:?} is longer than 4 GiB")]
    Size { name: String },
}

/// Everything a guest can select. Files are numbered by name, so that the numbers depend on nothing
/// else: a guest may have read the directory long before it reads a file.
pub struct Items {
    fixed: BTreeMap<u16, Arc<[u8]>>,
    /// Made anew whenever they are selected.
    live: BTreeMap<u16, Box<dyn Fn() -> Vec<u8> + Send + Sync>>,
    late: BTreeMap<u16, usize>,
    writable: BTreeMap<u16, Arc<dyn Writable>>,
    make: Option<Late>,
}

impl Items {
    /// `numbered` beside the signature, id and directory, which come by themselves.
    pub fn new(
        numbered: Vec<(u16, Vec<u8>)>,
        files: Vec<(String, Vec<u8>)>,
        late: Option<Late>,
        writable: Vec<(String, Arc<dyn Writable>)>,
    ) -> Result<Self, FwCfgError> {
        enum Source {
            Fixed(Vec<u8>),
            Late(usize),
            Writable(Arc<dyn Writable>),
        }
        let mut named: BTreeMap<String, (usize, Source)> = BTreeMap::new();
        let late_files = late.iter().flat_map(|late| late.files.iter().cloned().enumerate());
        let all = files
            .into_iter()
            .map(|(name, data)| (name, (data.len(), Source::Fixed(data))))
            .chain(late_files.map(|(at, (name, len))| (name, (len, Source::Late(at)))))
            .chain(writable.into_iter().map(|(name, file)| {
                let len = file.content().len();
                (name, (len, Source::Writable(file)))
            }));
        for (name, file) in all {
            if name.is_empty() || name.len() >= NAME_MAX || name.contains('\0') {
                return Err(FwCfgError::Name { name });
            }
            if u32::try_from(file.0).is_err() {
                return Err(FwCfgError::Size { name });
            }
            if named.contains_key(&name) {
                return Err(FwCfgError::Twice { name });
            }
            named.insert(name, file);
        }
        let count = u16::try_from(named.len()).map_err(|_| FwCfgError::TooMany)?;
        if count > FILE_END - key::FILE_FIRST {
            return Err(FwCfgError::TooMany);
        }

        let mut items = Self {
            fixed: BTreeMap::new(),
            live: BTreeMap::new(),
            late: BTreeMap::new(),
            writable: BTreeMap::new(),
            make: late,
        };
        let mut directory = u32::from(count).to_be_bytes().to_vec();
        for (selector, (name, (len, source))) in (key::FILE_FIRST..).zip(named) {
            directory.extend((len as u32).to_be_bytes());
            directory.extend(selector.to_be_bytes());
            directory.extend([0; 2]);
            let mut field = name.into_bytes();
            field.resize(NAME_MAX, 0);
            directory.extend(field);
            match source {
                Source::Fixed(data) => drop(items.fixed.insert(selector, data.into())),
                Source::Late(index) => drop(items.late.insert(selector, index)),
                Source::Writable(file) => drop(items.writable.insert(selector, file)),
            }
        }
        items.fixed.extend(numbered.into_iter().map(|(key, data)| (key, data.into())));
        items.fixed.insert(key::SIGNATURE, (*b"QEMU").into());
        items.fixed.insert(key::ID, ID.to_le_bytes().into());
        items.fixed.insert(key::DIRECTORY, directory.into());
        Ok(items)
    }

    /// Have a numbered item made whenever the guest selects it.
    #[must_use]
    pub fn with_live(
        mut self,
        key: u16,
        make: impl Fn() -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.live.insert(key, Box::new(make));
        self
    }

    /// What the selector stands for now, unless it is a late file.
    pub(super) fn content(&self, selector: u16) -> Option<Arc<[u8]>> {
        if let Some(file) = self.writable.get(&selector) {
            return Some(file.content().into());
        }
        if let Some(make) = self.live.get(&selector) {
            return Some(make().into());
        }
        self.fixed.get(&selector).cloned()
    }

    pub(super) fn writable(&self, selector: u16) -> Option<&dyn Writable> {
        self.writable.get(&selector).map(Arc::as_ref)
    }

    pub(super) fn late_index(&self, selector: u16) -> Option<usize> {
        self.late.get(&selector).copied()
    }

    pub(super) fn late_count(&self) -> usize {
        self.late.len()
    }

    /// The late files, each of its announced length.
    pub(super) fn make_late(&self) -> Vec<Arc<[u8]>> {
        let Some(late) = &self.make else { return Vec::new() };
        let mut made = (late.make)().into_iter();
        let fit = |(_, len): &(String, usize)| {
            let mut data = made.next().unwrap_or_default();
            data.resize(*len, 0);
            Arc::from(data)
        };
        late.files.iter().map(fit).collect()
    }
}
