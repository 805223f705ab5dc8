//! Processors, keys and sleep of guests.

use hyper::Method;

use super::{Client, Payload, Result, domain_path, json, path, percent};
use crate::types;

impl Client {
    pub async fn guest_vcpus(&self, domain: &str) -> Result<Vec<types::GuestVcpu>> {
        self.get(&domain_path(domain, "/guest/vcpus")).await
    }

    pub async fn set_guest_vcpus(
        &self,
        domain: &str,
        change: &types::GuestVcpuChange,
    ) -> Result<()> {
        let path = domain_path(domain, "/guest/vcpus");
        self.call(Method::PUT, &path, json(change)).await.map(drop)
    }

    /// vCPUs of its machine, by their numbers.
    pub async fn set_vcpus(
        &self,
        domain: &str,
        change: &types::VcpuChange,
        affects: types::Affects,
    ) -> Result<()> {
        let path = path(&domain_path(domain, "/vcpus"), &affects);
        self.call(Method::PUT, &path, json(change)).await.map(drop)
    }

    pub async fn set_agent_timeout(
        &self,
        domain: &str,
        timeout: types::AgentTimeout,
    ) -> Result<()> {
        let path = domain_path(domain, "/guest/timeout");
        self.call(Method::PUT, &path, json(&timeout)).await.map(drop)
    }

    pub async fn ssh_keys(&self, domain: &str, user: &str) -> Result<Vec<String>> {
        let reply: types::SshKeys = self.get(&ssh_keys_path(domain, user)).await?;
        Ok(reply.keys)
    }

    pub async fn set_ssh_keys(
        &self,
        domain: &str,
        user: &str,
        change: &types::SshKeyChange,
    ) -> Result<()> {
        self.call(Method::PUT, &ssh_keys_path(domain, user), json(change)).await.map(drop)
    }

    /// It writes itself to its own disk, and powers off.
    pub async fn guest_sleep(&self, domain: &str) -> Result<()> {
        let path = domain_path(domain, "/guest/sleep");
        self.call(Method::POST, &path, Payload::Nothing).await.map(drop)
    }
}

fn ssh_keys_path(domain: &str, user: &str) -> String {
    domain_path(domain, &format!("/guest/users/{}/ssh-keys", percent(user)))
}
