//! `<cpu>` as a document of its own: a host's, as capabilities tell it, or a guest's, as a definition
//! has it. It is compared with others.

use crate::cursor::Cursor;
use crate::diagnostic::Diagnostics;
use crate::document::{self, Bounds, Parsed};
use crate::domain::cpu::{CpuCheck, CpuFeature, CpuMatch, CpuMode, CpuModel};
use crate::element::{Element, element};
use crate::value::OnOff;
use crate::write::Writer;

element! {
    #[derive(Default)]
    pub struct CpuDef {
        attr mode: Option<CpuMode>,
        attr("match") matching: Option<CpuMatch>,
        attr check: Option<CpuCheck>,
        attr migratable: Option<OnOff>,
        child arch: Option<String>,
        child model: Option<CpuModel>,
        child vendor: Option<String>,
        child("feature") features: Vec<CpuFeature>,
        // How its threads lie, and what of it is no feature, is not compared.
        child microcode: Option<Uncompared>,
        child signature: Option<Uncompared>,
        child("counter") counters: Vec<Uncompared>,
        child topology: Option<Uncompared>,
        child maxphysaddr: Option<Uncompared>,
        child cache: Option<Uncompared>,
        child numa: Option<Uncompared>,
        child("pages") pages: Vec<Uncompared>,
    }
}

/// An element that is there, whatever is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uncompared;

impl Element for Uncompared {
    fn read(_: Cursor<'_>) -> Option<Self> {
        Some(Self)
    }

    fn write(&self, _: &'static str, _: &mut Writer) {}
}

impl CpuDef {
    /// Read a processor, or say everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        document::parse(text, "cpu", Bounds::OUTSIDE)
    }

    /// As libvirt prints it.
    pub fn to_xml(&self) -> String {
        let mut out = Writer::default();
        self.write("cpu", &mut out);
        out.finish()
    }
}
