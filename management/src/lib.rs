//! The management plane: definitions, running domains, events, for every front end alike.
//!
//! A front end turns a request into an [`Operation`] of [`ops`] and passes it to
//! [`Manager::call`] with the [`Caller`] its connection proves.

mod agent;
pub mod audit;
pub mod auth;
mod autostart;
mod checkpoints;
mod cloud_init;
pub mod config;
mod control;
mod device_watch;
pub mod domain;
mod domain_capabilities;
pub mod error;
pub mod events;
pub mod filters;
mod firmware;
pub mod foreground;
mod host;
mod host_interfaces;
pub mod import;
pub mod jobs;
mod journal;
mod key_codes;
mod keys;
mod manager;
pub mod network;
mod node_devices;
pub mod ops;
pub mod passwd;
mod plan;
mod registry;
mod saved;
pub mod secrets;
mod snapshots;
pub mod storage;
mod store;
pub mod torture;
mod translate;
mod users;
mod worker;

pub use auth::{Access, Caller, Role, Scope, Subject, Via};
pub use cloud_init::CloudInit;
pub use error::{Code, Error, Problem};
pub use host::{Driver, Host};
pub use manager::{Context, Manager, Operation};
pub use plan::{PlannedChange, When};
pub use store::DIRECTORIES as STORED;

#[cfg(test)]
mod tests;
