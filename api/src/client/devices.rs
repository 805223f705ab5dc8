//! What domains have: disks, interfaces, other devices, screens and memory.

use bytes::Bytes;
use hyper::Method;

use super::{Client, Payload, Result, domain_path, json, path, percent};
use crate::types;

impl Client {
    pub async fn disks(&self, domain: &str, inactive: bool) -> Result<Vec<types::Disk>> {
        self.get(&domain_path(domain, &format!("/disks?inactive={inactive}"))).await
    }

    pub async fn interfaces(&self, domain: &str, inactive: bool) -> Result<Vec<types::Interface>> {
        self.get(&domain_path(domain, &format!("/interfaces?inactive={inactive}"))).await
    }

    /// `interface` is its MAC address, or the name of its tap.
    pub async fn set_link(
        &self,
        domain: &str,
        interface: &str,
        state: types::LinkState,
        affects: types::Affects,
    ) -> Result<()> {
        let place = format!("/interfaces/{}/link", percent(interface));
        let path = path(&domain_path(domain, &place), &affects);
        self.call(Method::PUT, &path, json(&types::Link { state })).await.map(drop)
    }

    /// `disk` is its target, or its image.
    pub async fn change_medium(
        &self,
        domain: &str,
        disk: &str,
        medium: &types::Medium,
        affects: types::Affects,
    ) -> Result<()> {
        let place = format!("/disks/{}/medium", percent(disk));
        let path = path(&domain_path(domain, &place), &affects);
        self.call(Method::PUT, &path, json(medium)).await.map(drop)
    }

    /// Put the device that `xml` describes into a domain.
    pub async fn attach_device(
        &self,
        domain: &str,
        xml: String,
        affects: types::Affects,
    ) -> Result<()> {
        let path = path(&domain_path(domain, "/devices"), &affects);
        self.call(Method::POST, &path, Payload::Xml(xml)).await.map(drop)
    }

    /// Change a device that stays.
    pub async fn update_device(
        &self,
        domain: &str,
        xml: String,
        affects: types::Affects,
    ) -> Result<()> {
        let path = path(&domain_path(domain, "/devices"), &affects);
        self.call(Method::PUT, &path, Payload::Xml(xml)).await.map(drop)
    }

    /// Take a device out, by its alias, target or MAC address.
    pub async fn detach_device(
        &self,
        domain: &str,
        device: &str,
        affects: types::Affects,
    ) -> Result<types::Detached> {
        let place = format!("/devices/{}", percent(device));
        let path = path(&domain_path(domain, &place), &affects);
        self.answer(self.call(Method::DELETE, &path, Payload::Nothing).await?)
    }

    /// Take out the device that `xml` describes.
    pub async fn detach_device_like(
        &self,
        domain: &str,
        xml: String,
        affects: types::Affects,
    ) -> Result<types::Detached> {
        let path = path(&domain_path(domain, "/devices/detach"), &affects);
        self.answer(self.call(Method::POST, &path, Payload::Xml(xml)).await?)
    }

    /// Make a disk larger while its domain runs.
    pub async fn resize_disk(&self, domain: &str, disk: &str, bytes: u64) -> Result<()> {
        let path = domain_path(domain, &format!("/disks/{}/size", percent(disk)));
        self.call(Method::PUT, &path, json(&types::DiskSize { bytes })).await.map(drop)
    }

    /// Where in its image's file; none: nobody wants to hear of it any more.
    pub async fn set_threshold(&self, domain: &str, disk: &str, bytes: Option<u64>) -> Result<()> {
        let path = domain_path(domain, &format!("/disks/{}/threshold", percent(disk)));
        self.call(Method::PUT, &path, json(&types::DiskThreshold { bytes })).await.map(drop)
    }

    pub async fn disk_sizes(&self, domain: &str, disk: &str) -> Result<types::DiskSizes> {
        self.get(&domain_path(domain, &format!("/disks/{}/size", percent(disk)))).await
    }

    /// A PNG file.
    pub async fn screenshot(&self, domain: &str) -> Result<Bytes> {
        self.call(Method::GET, &domain_path(domain, "/screenshot"), Payload::Nothing).await
    }

    pub async fn send_keys(&self, domain: &str, keys: &types::SendKeys) -> Result<()> {
        let path = domain_path(domain, "/send-keys");
        self.call(Method::POST, &path, json(keys)).await.map(drop)
    }

    /// What the guest is left with.
    pub async fn set_memory(
        &self,
        domain: &str,
        bytes: u64,
        affects: types::Affects,
    ) -> Result<()> {
        let path = path(&domain_path(domain, "/memory"), &affects);
        self.call(Method::PUT, &path, json(&types::Memory { bytes })).await.map(drop)
    }

    /// Seconds; 0: not at all.
    pub async fn set_stats_period(
        &self,
        domain: &str,
        period_s: u32,
        affects: types::Affects,
    ) -> Result<()> {
        let path = path(&domain_path(domain, "/memory/stats-period"), &affects);
        self.call(Method::PUT, &path, json(&types::StatsPeriod { period_s })).await.map(drop)
    }

    /// For so many seconds; counters tell it then.
    pub async fn measure_dirty_rate(&self, domain: &str, seconds: u32) -> Result<()> {
        let path = domain_path(domain, "/memory/dirty-rate");
        let body = json(&types::MeasureDirtyRate { seconds });
        self.call(Method::POST, &path, body).await.map(drop)
    }
}
