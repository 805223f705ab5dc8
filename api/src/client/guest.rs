//! Calls that a guest's agent answers.

use hyper::Method;

use super::{Client, Payload, Result, domain_path, json, percent};
use crate::types;

impl Client {
    /// `parts`: names separated by commas; all that the agent knows if there is none.
    pub async fn guest_info(&self, domain: &str, parts: Option<&str>) -> Result<types::GuestInfo> {
        let query = parts.map(|parts| format!("?parts={parts}")).unwrap_or_default();
        self.get(&domain_path(domain, &format!("/guest{query}"))).await
    }

    pub async fn guest_hostname(&self, domain: &str) -> Result<String> {
        let reply: types::GuestHostname = self.get(&domain_path(domain, "/guest/hostname")).await?;
        Ok(reply.hostname)
    }

    pub async fn guest_filesystems(&self, domain: &str) -> Result<Vec<types::GuestFilesystem>> {
        self.get(&domain_path(domain, "/guest/filesystems")).await
    }

    /// All file systems if `mountpoints` are none. How many are frozen.
    pub async fn freeze(&self, domain: &str, mountpoints: Vec<String>) -> Result<u64> {
        let body = json(&types::Freeze { mountpoints });
        let reply = self.call(Method::POST, &domain_path(domain, "/guest/freeze"), body).await?;
        self.answer(reply).map(|types::FilesystemCount { filesystems }| filesystems)
    }

    pub async fn thaw(&self, domain: &str) -> Result<u64> {
        let path = domain_path(domain, "/guest/thaw");
        let reply = self.call(Method::POST, &path, Payload::Nothing).await?;
        self.answer(reply).map(|types::FilesystemCount { filesystems }| filesystems)
    }

    pub async fn trim(&self, domain: &str, minimum_bytes: u64) -> Result<Vec<types::Trimmed>> {
        let body = json(&types::Trim { minimum_bytes });
        self.answer(self.call(Method::POST, &domain_path(domain, "/guest/trim"), body).await?)
    }

    pub async fn set_user_password(
        &self,
        domain: &str,
        user: &str,
        password: &types::Password,
    ) -> Result<()> {
        let path = domain_path(domain, &format!("/guest/users/{}/password", percent(user)));
        self.call(Method::PUT, &path, json(password)).await.map(drop)
    }

    pub async fn guest_time(&self, domain: &str) -> Result<types::GuestTime> {
        self.get(&domain_path(domain, "/guest/time")).await
    }

    pub async fn set_guest_time(&self, domain: &str, time: types::GuestTime) -> Result<()> {
        self.call(Method::PUT, &domain_path(domain, "/guest/time"), json(&time)).await.map(drop)
    }

    pub async fn guest_exec(&self, domain: &str, exec: &types::GuestExec) -> Result<i64> {
        let path = domain_path(domain, "/guest/exec");
        let reply = self.call(Method::POST, &path, json(exec)).await?;
        self.answer(reply).map(|types::GuestProcess { pid }| pid)
    }

    pub async fn guest_exec_status(
        &self,
        domain: &str,
        pid: i64,
    ) -> Result<types::GuestExecStatus> {
        self.get(&domain_path(domain, &format!("/guest/exec/{pid}"))).await
    }

    /// The agent's own answer.
    pub async fn agent_command(
        &self,
        domain: &str,
        command: &types::AgentCommand,
    ) -> Result<serde_json::Value> {
        let path = domain_path(domain, "/guest/agent-command");
        self.answer(self.call(Method::POST, &path, json(command)).await?)
    }
}
