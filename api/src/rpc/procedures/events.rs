//! Callbacks: what a client wants to hear of.

use super::super::events::{self, Callback, Topic};
use super::super::failure::{Area, Failure};
use super::super::protocol::object::{Domain, Network, NodeDevice, Pool, Secret};
use super::Client;

pub(crate) async fn domain(
    client: Client,
    (event, only): (i32, Option<Domain>),
) -> Result<i32, Failure> {
    let only = only.map(|domain| domain.uuid);
    events::register(&client, Callback { topic: Topic::Domain, event, only, old: false }).await
}

/// Of the old kind: each once on a connection, of all domains, and only what there was then.
pub(crate) async fn old_domain(client: Client, event: i32) -> Result<(), Failure> {
    const LAST: i32 = 15;
    let is_it = |callback: &Callback| callback.old && callback.event == event;
    if client.callbacks().iter().any(|(_, callback)| is_it(callback)) {
        let text = format!("event {event} is registered already");
        return Err(Failure::invalid_argument(Area::Domain, &text));
    }
    if event > LAST {
        let text = format!("event {event} is told to callbacks with numbers alone");
        return Err(Failure::invalid_argument(Area::Domain, &text));
    }
    let callback = Callback { topic: Topic::Domain, event, only: None, old: true };
    events::register(&client, callback).await.map(drop)
}

pub(crate) async fn no_more_old(client: Client, event: i32) -> Result<(), Failure> {
    events::deregister_old(&client, event)
}

/// Of lifecycle events alone. How many have registered.
pub(crate) async fn old_lifecycle(client: Client, (): ()) -> Result<i32, Failure> {
    old_domain(client, 0).await.map(|()| 1)
}

pub(crate) async fn no_more_old_lifecycle(client: Client, (): ()) -> Result<i32, Failure> {
    events::deregister_old(&client, 0).map(|()| 0)
}

pub(crate) async fn network(
    client: Client,
    (event, only): (i32, Option<Network>),
) -> Result<i32, Failure> {
    let only = only.map(|network| network.uuid);
    events::register(&client, Callback { topic: Topic::Network, event, only, old: false }).await
}

pub(crate) async fn pool(
    client: Client,
    (event, only): (i32, Option<Pool>),
) -> Result<i32, Failure> {
    let only = only.map(|pool| pool.uuid);
    events::register(&client, Callback { topic: Topic::Pool, event, only, old: false }).await
}

pub(crate) async fn node_device(
    client: Client,
    (event, only): (i32, Option<NodeDevice>),
) -> Result<i32, Failure> {
    let only = only.map(|device| events::device_id(&device.name));
    events::register(&client, Callback { topic: Topic::NodeDevice, event, only, old: false }).await
}

pub(crate) async fn secret(
    client: Client,
    (event, only): (i32, Option<Secret>),
) -> Result<i32, Failure> {
    let only = only.map(|secret| secret.uuid);
    events::register(&client, Callback { topic: Topic::Secret, event, only, old: false }).await
}

pub(crate) async fn no_more(client: Client, callback: i32) -> Result<(), Failure> {
    events::deregister(&client, callback)
}
