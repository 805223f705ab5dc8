//! Whom the process of a network becomes.

use std::path::Path;

use broker::Broker;
use network::config::User;

use crate::error::{Code, Error};

/// The user that the configuration names, or whose number it gives. `None` where the broker is not
/// root itself: what it starts cannot become somebody else, and need not.
pub(super) fn of(name: &str, broker: &dyn Broker) -> Result<Option<User>, Error> {
    if !broker.is_root() {
        return Ok(None);
    }
    find(name, Path::new(crate::passwd::PASSWD)).map(Some)
}

fn find(name: &str, passwd: &Path) -> Result<User, Error> {
    let refuse = |problem: &str| {
        let advice = "set networks.user in the daemon's configuration to an unprivileged user";
        let text = format!("networks cannot be served as the user {name:?}, {problem}: {advice}");
        Error::new(Code::InvalidArgument, text)
    };
    let user = crate::passwd::find(name, passwd)
        .ok_or_else(|| refuse(&format!("whom {} does not have", passwd.display())))?;
    if user.uid == 0 || user.gid == 0 {
        return Err(refuse("who may do too much"));
    }
    Ok(User { uid: user.uid, gid: user.gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_whole_names_and_by_number_and_root_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("passwd");
        let text = "root:x:0:0:root:/root:/bin/sh\nbroken\nnob:x:7:7::/:\n\
                    nobody:x:65534:65533:nobody:/nonexistent:/usr/sbin/nologin\n";
        std::fs::write(&file, text).unwrap();
        let nobody = User { uid: 65534, gid: 65533 };
        assert_eq!(find("nobody", &file).unwrap(), nobody);
        assert_eq!(find("65534", &file).unwrap(), nobody);
        for (name, said) in
            [("nobo", "does not have"), ("root", "too much"), ("0", "too much"), ("", "not have")]
        {
            let error = find(name, &file).unwrap_err().chain();
            assert!(error.contains(said) && error.contains("networks.user"), "{name}: {error}");
        }
    }
}
