//! `manor vol-users`: who needs an image.

use api::types::{ImageUser, ImageUserType};

use crate::args;
use crate::failure::Failure;
use crate::table::Table;
use crate::terminal::printable;
use crate::verbs::Session;

pub(in crate::verbs) async fn users(session: &Session, args: args::Volume) -> Result<(), Failure> {
    // A path is that of any image, in a pool or not.
    let path = match (&args.pool, args.vol.starts_with('/')) {
        (None, true) => args.vol,
        (pool, _) => session.volume(&args.vol, pool.as_deref()).await?.path,
    };
    let found = session.client.image_users(&path).await?;
    if session.terminal.json {
        session.terminal.print_json(&found);
        return Ok(());
    }
    let mut table = Table::new(["Type", "User", "Disk", "Relation"]);
    for user in found.users {
        let relation = match user.depth {
            0 => "its image".to_owned(),
            depth => format!("{depth} below its image"),
        };
        let disk = user.disk.clone().unwrap_or_else(|| "-".to_owned());
        let (kind, name) = told(&user);
        table.push(vec![kind.to_owned(), printable(&name), printable(&disk), relation]);
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
    Ok(())
}

fn told(user: &ImageUser) -> (&'static str, String) {
    let domain = user.domain.clone().unwrap_or_default();
    match user.kind {
        ImageUserType::RunningDomain => ("running", domain),
        ImageUserType::SavedState => ("saved state", domain),
        ImageUserType::Domain => ("domain", domain),
        ImageUserType::Snapshot => {
            let snapshot = user.snapshot.as_deref().unwrap_or_default();
            ("snapshot", format!("{domain}/{snapshot}"))
        }
        ImageUserType::Volume => {
            let (pool, volume) = (user.pool.as_deref(), user.volume.as_deref());
            ("volume", format!("{}/{}", pool.unwrap_or_default(), volume.unwrap_or_default()))
        }
    }
}
