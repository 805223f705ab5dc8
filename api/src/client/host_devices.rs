//! The host's devices and interfaces, and the filters that there are.

use hyper::Method;

use super::{Client, Payload, Result, percent};
use crate::types;

impl Client {
    pub async fn node_devices(&self) -> Result<Vec<types::NodeDevice>> {
        let list: types::NodeDeviceList = self.get("/v1/node/devices").await?;
        Ok(list.devices)
    }

    pub async fn node_device(&self, name: &str) -> Result<types::NodeDevice> {
        self.get(&format!("/v1/node/devices/{}", percent(name))).await
    }

    pub async fn host_interfaces(&self) -> Result<Vec<types::HostInterface>> {
        let list: types::HostInterfaceList = self.get("/v1/node/interfaces").await?;
        Ok(list.interfaces)
    }

    pub async fn filters(&self) -> Result<Vec<types::Filter>> {
        let list: types::FilterList = self.get("/v1/filters").await?;
        Ok(list.filters)
    }

    /// Of this name or UUID.
    pub async fn filter(&self, filter: &str) -> Result<types::Filter> {
        self.get(&format!("/v1/filters/{}", percent(filter))).await
    }

    pub async fn define_filter(&self, xml: String) -> Result<types::Filter> {
        self.answer(self.call(Method::POST, "/v1/filters", Payload::Xml(xml)).await?)
    }

    pub async fn undefine_filter(&self, filter: &str) -> Result<()> {
        let path = format!("/v1/filters/{}", percent(filter));
        self.call(Method::DELETE, &path, Payload::Nothing).await.map(drop)
    }

    pub async fn filter_bindings(&self) -> Result<Vec<types::FilterBinding>> {
        let list: types::FilterBindingList = self.get("/v1/filter-bindings").await?;
        Ok(list.bindings)
    }

    pub async fn filter_binding(&self, device: &str) -> Result<types::FilterBinding> {
        self.get(&format!("/v1/filter-bindings/{}", percent(device))).await
    }
}
