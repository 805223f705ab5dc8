//! Callbacks: what a client wants to hear of.

use super::super::events::{self, Callback, Topic};
use super::super::failure::Failure;
use super::super::protocol::object::{Domain, Network, NodeDevice, Pool, Secret};
use super::Client;

pub(crate) async fn domain(
    client: Client,
    (event, only): (i32, Option<Domain>),
) -> Result<i32, Failure> {
    let only = only.map(|domain| domain.uuid);
    events::register(&client, Callback { topic: Topic::Domain, event, only }).await
}

pub(crate) async fn network(
    client: Client,
    (event, only): (i32, Option<Network>),
) -> Result<i32, Failure> {
    let only = only.map(|network| network.uuid);
    events::register(&client, Callback { topic: Topic::Network, event, only }).await
}

pub(crate) async fn pool(
    client: Client,
    (event, only): (i32, Option<Pool>),
) -> Result<i32, Failure> {
    let only = only.map(|pool| pool.uuid);
    events::register(&client, Callback { topic: Topic::Pool, event, only }).await
}

pub(crate) async fn node_device(
    client: Client,
    (event, only): (i32, Option<NodeDevice>),
) -> Result<i32, Failure> {
    let only = only.map(|device| events::device_id(&device.name));
    events::register(&client, Callback { topic: Topic::NodeDevice, event, only }).await
}

pub(crate) async fn secret(
    client: Client,
    (event, only): (i32, Option<Secret>),
) -> Result<i32, Failure> {
    let only = only.map(|secret| secret.uuid);
    events::register(&client, Callback { topic: Topic::Secret, event, only }).await
}

pub(crate) async fn no_more(client: Client, callback: i32) -> Result<(), Failure> {
    events::deregister(&client, callback)
}
