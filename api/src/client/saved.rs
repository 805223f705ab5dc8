//! Saved states.

use hyper::Method;

use super::{Client, Payload, Result, domain_path, json, percent};
use crate::types;

impl Client {
    pub async fn save(&self, domain: &str, how: &types::SaveDomain) -> Result<types::Job> {
        let path = domain_path(domain, "/save");
        self.answer(self.call(Method::POST, &path, json(how)).await?)
    }

    pub async fn dump(&self, domain: &str, how: &types::DumpDomain) -> Result<types::Job> {
        let path = domain_path(domain, "/dump");
        self.answer(self.call(Method::POST, &path, json(how)).await?)
    }

    pub async fn clone_domain(&self, domain: &str, name: &str) -> Result<types::Job> {
        let body = json(&types::CloneDomain { name: name.to_owned() });
        let path = domain_path(domain, "/clone");
        self.answer(self.call(Method::POST, &path, body).await?)
    }

    pub async fn clone_saved(&self, file: &str, name: &str) -> Result<types::Job> {
        let body = json(&types::CloneSaved { file: file.to_owned(), name: name.to_owned() });
        self.answer(self.call(Method::POST, "/v1/saved/clone", body).await?)
    }

    pub async fn managed_save(&self, domain: &str, how: &types::ManagedSave) -> Result<types::Job> {
        let path = domain_path(domain, "/managed-save");
        self.answer(self.call(Method::POST, &path, json(how)).await?)
    }

    pub async fn drop_managed_save(&self, domain: &str) -> Result<()> {
        let path = domain_path(domain, "/managed-save");
        self.call(Method::DELETE, &path, Payload::Nothing).await.map(drop)
    }

    pub async fn managed_save_xml(&self, domain: &str, secure: bool) -> Result<String> {
        self.text(&domain_path(domain, &format!("/managed-save/xml?secure={secure}"))).await
    }

    pub async fn define_managed_save(&self, domain: &str, what: &types::DefineSaved) -> Result<()> {
        let path = domain_path(domain, "/managed-save");
        self.call(Method::PUT, &path, json(what)).await.map(drop)
    }

    pub async fn restore(&self, how: &types::RestoreDomain) -> Result<types::Restored> {
        self.answer(self.call(Method::POST, "/v1/saved/restore", json(how)).await?)
    }

    pub async fn saved_xml(&self, file: &str, secure: bool) -> Result<String> {
        self.text(&format!("/v1/saved/xml?file={}&secure={secure}", percent(file))).await
    }

    pub async fn define_saved(&self, what: &types::DefineSaved) -> Result<()> {
        self.call(Method::PUT, "/v1/saved", json(what)).await.map(drop)
    }

    pub async fn check_saved(&self, file: &str) -> Result<types::Job> {
        let body = json(&types::SavedFile { file: file.to_owned() });
        self.answer(self.call(Method::POST, "/v1/saved/check", body).await?)
    }
}
