//! Processors, compared with the host's and with each other.

use crate::auth::Access;
use crate::domain::actor::blocking;
use crate::error::Error;
use crate::host;
use crate::manager::{Context, Operation};

pub use crate::host::CpuComparison;

/// Whether the host has a processor (virConnectCompareCPU), and what of it is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompareCpu {
    /// libvirt's `<cpu>`.
    pub xml: String,
}

impl Operation for CompareCpu {
    type Output = (CpuComparison, Vec<String>);
    const NAME: &'static str = "node.compare-cpu";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<Self::Output, Error> {
        let host = cx.node.host.clone();
        blocking(move || host::compare(&host, &self.xml)).await
    }
}

/// The richest processor that several can be (virConnectBaselineCPU).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaselineCpu {
    pub documents: Vec<String>,
    /// All of its features by name.
    pub expand: bool,
}

impl Operation for BaselineCpu {
    type Output = String;
    const NAME: &'static str = "node.baseline-cpu";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<String, Error> {
        let host = cx.node.host.clone();
        blocking(move || host::baseline(&host, &self.documents, self.expand)).await
    }
}
