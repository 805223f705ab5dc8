//! How many connections a socket admits: as many as leave the daemon descriptors for its own work.

use management::Access;
use rustix::process::{Resource, getrlimit};

/// Files, pipes, control sockets of VMMs and children: what the daemon opens for itself. Where few
/// may be open at all, it is half of them.
const OWN_WORK: u64 = 512;
/// At most four sockets of HTTP and four of libvirt's share what is left.
const SOCKETS: u64 = 8;
/// Of the connections to a socket that is for everybody, one user's at a time.
const MOST_OF_A_READER: u32 = 64;

/// Connections to a socket at a time, where nobody says how many: those who may only look, or come from
/// elsewhere, take no place from the others. Whoever comes when there is none waits in the listen queue.
pub(crate) const USUAL: usize = 2048;

/// Connections that a socket may have at a time: `most`, or less where the process may have few
/// files open.
pub(crate) fn of_a_socket(most: usize) -> usize {
    share(getrlimit(Resource::Nofile).current, most)
}

fn share(limit: Option<u64>, most: usize) -> usize {
    let Some(limit) = limit else { return most };
    let share = (limit - OWN_WORK.min(limit / 2)) / SOCKETS;
    usize::try_from(share).map_or(most, |share| share.clamp(1, most))
}

/// Connections of one user to a socket that has room for `all`. Who may change things is trusted
/// with half of it, and not with all: the other half is for whoever mends what went wrong.
pub(crate) fn of_a_user(access: Access, all: usize) -> u32 {
    let half = u32::try_from(all / 2).unwrap_or(u32::MAX).max(1);
    match access {
        Access::Read => half.min(MOST_OF_A_READER),
        _ => half,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_leave_descriptors_for_the_daemon() {
        assert_eq!(share(Some(65_536), 2048), 2048);
        assert_eq!(share(None, 2048), 2048);
        for limit in [0, 16, 256, 1024, 4096] {
            let all = share(Some(limit), 2048) as u64 * SOCKETS;
            let own = OWN_WORK.min(limit / 2);
            assert!(all + own <= limit || all == SOCKETS, "{all} and {own} of {limit}");
        }
    }

    #[test]
    fn no_user_has_all_the_room() {
        assert_eq!(of_a_user(Access::Read, 2048), 64);
        assert_eq!(of_a_user(Access::Admin, 2048), 1024);
        assert_eq!(of_a_user(Access::Read, 10), 5);
        assert_eq!(of_a_user(Access::Admin, 1), 1);
    }
}
