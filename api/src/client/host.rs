//! The host: what it is, its memory and processors.

use hyper::Method;

use super::{Client, Payload, Result, json};
use crate::types;

impl Client {
    pub async fn node(&self) -> Result<types::Node> {
        self.get("/v1/node").await
    }

    pub async fn capabilities(&self) -> Result<String> {
        self.text("/v1/node/capabilities").await
    }

    pub async fn sysinfo(&self) -> Result<String> {
        self.text("/v1/node/sysinfo").await
    }

    pub async fn cpu_counters(&self, cpu: u32) -> Result<types::CpuCounters> {
        self.get(&format!("/v1/node/cpus/{cpu}")).await
    }

    pub async fn cells(&self) -> Result<Vec<types::Cell>> {
        let list: types::CellList = self.get("/v1/node/cells").await?;
        Ok(list.cells)
    }

    pub async fn huge_pages(&self, wanted: &types::HugePages) -> Result<()> {
        self.call(Method::POST, "/v1/node/huge-pages", json(wanted)).await.map(drop)
    }

    pub async fn shared_memory(&self) -> Result<types::SharedMemory> {
        self.get("/v1/node/shared-memory").await
    }

    /// What `change` does not speak of stays.
    pub async fn tune_shared_memory(&self, change: &types::SharedMemoryTuning) -> Result<()> {
        self.call(Method::PATCH, "/v1/node/shared-memory", json(change)).await.map(drop)
    }

    pub async fn compare_cpu(&self, xml: String) -> Result<types::CpuComparison> {
        self.answer(self.call(Method::POST, "/v1/node/cpu/compare", Payload::Xml(xml)).await?)
    }

    pub async fn baseline_cpu(&self, wanted: &types::CpuBaseline) -> Result<String> {
        let reply = self.call(Method::POST, "/v1/node/cpu/baseline", json(wanted)).await?;
        String::from_utf8(reply.into()).map_err(|_| self.foreign("the XML is not UTF-8"))
    }
}
