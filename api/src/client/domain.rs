//! Domains: which there are, their definitions and their lives.

use hyper::Method;

use super::{Client, Payload, Result, domain_path, json, path, percent};
use crate::types;

impl Client {
    pub async fn list(&self, query: &types::ListQuery) -> Result<Vec<types::DomainSummary>> {
        let list: types::DomainList = self.get(&path("/v1/domains", query)).await?;
        Ok(list.domains)
    }

    pub async fn domain(&self, domain: &str) -> Result<types::Domain> {
        self.get(&domain_path(domain, "")).await
    }

    pub async fn state(&self, domain: &str) -> Result<types::DomainState> {
        self.get(&domain_path(domain, "/state")).await
    }

    /// Of a running one.
    pub async fn security(&self, domain: &str) -> Result<Vec<types::SecurityFact>> {
        self.get(&domain_path(domain, "/security")).await
    }

    pub async fn stats(&self, domain: &str) -> Result<types::DomainStats> {
        self.get(&domain_path(domain, "/stats")).await
    }

    pub async fn all_stats(&self) -> Result<types::StatsList> {
        self.get("/v1/stats").await
    }

    /// What the definition `xml` would change in a domain.
    pub async fn plan(&self, domain: &str, xml: String) -> Result<types::Plan> {
        let path = domain_path(domain, "/plan");
        self.answer(self.call(Method::POST, &path, Payload::Xml(xml)).await?)
    }

    /// Give a domain this definition, and make it true as far as that can be at once.
    pub async fn apply(&self, domain: &str, xml: String) -> Result<types::Job> {
        let path = domain_path(domain, "/apply");
        self.answer(self.call(Method::POST, &path, Payload::Xml(xml)).await?)
    }

    pub async fn xml(&self, domain: &str, inactive: bool, secure: bool) -> Result<String> {
        let path = domain_path(domain, &format!("/xml?inactive={inactive}&secure={secure}"));
        let reply = self.call(Method::GET, &path, Payload::Nothing).await?;
        String::from_utf8(reply.into()).map_err(|_| self.foreign("the XML is not UTF-8"))
    }

    pub async fn define(&self, definition: types::Definition) -> Result<types::Defined> {
        self.answer(self.call(Method::POST, "/v1/domains", document(definition)).await?)
    }

    /// Start a domain without storing it.
    pub async fn create(
        &self,
        definition: types::Definition,
        how: types::Start,
    ) -> Result<types::Defined> {
        let types::Start { paused, reset_nvram, .. } = how;
        let path = format!("/v1/domains?transient=true&paused={paused}&reset_nvram={reset_nvram}");
        self.answer(self.call(Method::POST, &path, document(definition)).await?)
    }

    /// `nvram` must be said where the domain has firmware variables.
    pub async fn undefine(
        &self,
        domain: &str,
        nvram: Option<types::Nvram>,
        managed_save: bool,
        snapshots: bool,
    ) -> Result<()> {
        let nvram = match nvram {
            None => "",
            Some(types::Nvram::Keep) => "&nvram=keep",
            Some(types::Nvram::Delete) => "&nvram=delete",
        };
        let snapshots = if snapshots { "&snapshots=forget" } else { "" };
        let query = format!("?managed_save={managed_save}{nvram}{snapshots}");
        self.call(Method::DELETE, &domain_path(domain, &query), Payload::Nothing).await.map(drop)
    }

    pub async fn rename(&self, domain: &str, name: &str) -> Result<()> {
        let body = json(&types::Rename { name: name.to_owned() });
        self.call(Method::POST, &domain_path(domain, "/rename"), body).await.map(drop)
    }

    pub async fn set_autostart(&self, domain: &str, wanted: types::DomainAutostart) -> Result<()> {
        let body = json(&wanted);
        self.call(Method::PUT, &domain_path(domain, "/autostart"), body).await.map(drop)
    }

    pub async fn start(&self, domain: &str, how: types::Start) -> Result<()> {
        let types::Start { paused, reset_nvram, force_boot, force } = how;
        let query = format!(
            "paused={paused}&reset_nvram={reset_nvram}&force_boot={force_boot}&force={force}"
        );
        self.verb(domain, &format!("start?{query}")).await
    }

    /// `mode`: `agent`, `acpi`, or both with a comma; the daemon chooses if there is none.
    pub async fn shutdown(&self, domain: &str, mode: Option<&str>) -> Result<()> {
        self.verb(domain, &format!("shutdown{}", mode_query(mode))).await
    }

    pub async fn destroy(&self, domain: &str, graceful: bool) -> Result<()> {
        self.verb(domain, &format!("destroy?graceful={graceful}")).await
    }

    pub async fn reboot(&self, domain: &str, mode: Option<&str>) -> Result<()> {
        self.verb(domain, &format!("reboot{}", mode_query(mode))).await
    }

    pub async fn reset(&self, domain: &str) -> Result<()> {
        self.verb(domain, "reset").await
    }

    /// A non-maskable interrupt to every vCPU.
    pub async fn inject_nmi(&self, domain: &str) -> Result<()> {
        self.verb(domain, "nmi").await
    }

    /// `event`: `poweroff`, `reboot` or `crash`.
    pub async fn set_lifecycle_action(
        &self,
        domain: &str,
        event: &str,
        action: &str,
        affects: types::Affects,
    ) -> Result<()> {
        let change = types::LifecycleAction { event: event.to_owned(), action: action.to_owned() };
        let path = path(&domain_path(domain, "/lifecycle-action"), &affects);
        self.call(Method::PUT, &path, json(&change)).await.map(drop)
    }

    pub async fn suspend(&self, domain: &str) -> Result<()> {
        self.verb(domain, "suspend").await
    }

    pub async fn resume(&self, domain: &str) -> Result<()> {
        self.verb(domain, "resume").await
    }

    async fn verb(&self, domain: &str, verb: &str) -> Result<()> {
        let path = domain_path(domain, &format!("/{verb}"));
        self.call(Method::POST, &path, Payload::Nothing).await.map(drop)
    }
}

/// XML as it is, where nothing comes with it.
fn document(definition: types::Definition) -> Payload {
    match definition.cloud_init {
        None => Payload::Xml(definition.xml),
        Some(_) => json(&definition),
    }
}

fn mode_query(mode: Option<&str>) -> String {
    mode.map(|mode| format!("?mode={}", percent(mode))).unwrap_or_default()
}
