//! Virtual networks.

use hyper::Method;

use super::{Client, Payload, Result, domain_path, json, percent};
use crate::types;

fn path(network: &str, rest: &str) -> String {
    format!("/v1/networks/{}{rest}", percent(network))
}

impl Client {
    pub async fn networks(&self) -> Result<Vec<types::Network>> {
        let list: types::NetworkList = self.get("/v1/networks").await?;
        Ok(list.networks)
    }

    pub async fn network(&self, network: &str) -> Result<types::Network> {
        self.get(&path(network, "")).await
    }

    /// Of a running domain. `source`: `lease` or `agent`.
    pub async fn addresses(
        &self,
        domain: &str,
        source: &str,
    ) -> Result<Vec<types::InterfaceAddress>> {
        self.get(&domain_path(domain, &format!("/addresses?source={source}"))).await
    }

    /// `query` begins with `?` if there is any.
    pub async fn define_network(&self, xml: String, query: &str) -> Result<types::Network> {
        let path = format!("/v1/networks{query}");
        self.answer(self.call(Method::POST, &path, Payload::Xml(xml)).await?)
    }

    /// `start` or `stop`.
    pub async fn network_verb(&self, network: &str, verb: &str) -> Result<()> {
        let path = path(network, &format!("/{verb}"));
        self.call(Method::POST, &path, Payload::Nothing).await.map(drop)
    }

    pub async fn update_network(
        &self,
        network: &str,
        update: &types::UpdateNetwork,
        affects: types::Affects,
    ) -> Result<()> {
        let path = super::path(&path(network, "/update"), &affects);
        self.call(Method::POST, &path, json(update)).await.map(drop)
    }

    pub async fn undefine_network(&self, network: &str) -> Result<()> {
        self.call(Method::DELETE, &path(network, ""), Payload::Nothing).await.map(drop)
    }

    pub async fn set_network_autostart(&self, network: &str, enabled: bool) -> Result<()> {
        let body = json(&types::Autostart { enabled });
        self.call(Method::PUT, &path(network, "/autostart"), body).await.map(drop)
    }

    pub async fn network_xml(&self, network: &str, inactive: bool) -> Result<String> {
        self.text(&path(network, &format!("/xml?inactive={inactive}"))).await
    }

    pub async fn network_ports(&self, network: &str) -> Result<Vec<types::NetworkPort>> {
        self.get(&path(network, "/ports")).await
    }

    pub async fn network_port_xml(&self, network: &str, port: &str) -> Result<String> {
        self.text(&path(network, &format!("/ports/{}/xml", percent(port)))).await
    }

    pub async fn leases(&self, network: &str, mac: Option<&str>) -> Result<Vec<types::Lease>> {
        let query = mac.map(|mac| format!("?mac={}", percent(mac))).unwrap_or_default();
        self.get(&path(network, &format!("/leases{query}"))).await
    }
}
