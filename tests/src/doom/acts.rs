//! Which system calls change the world outside the process.

#![expect(non_upper_case_globals, reason = "the kernel's names")]

use libc::*;

use super::sys::Call;

/// Its name, if it is an act: files and names made, filled, made durable; messages sent; processes made
/// and killed; devices made; locks taken.
pub(super) fn name(pid: i32, call: &Call) -> Option<&'static str> {
    let Call { number, arguments: [first, second, third, ..] } = *call;
    let name = ACTS.iter().find(|(known, _)| *known == number)?.1;
    let counts = match number {
        SYS_openat => third & O_CREAT as u64 != 0,
        // Wake-ups of its own threads are none.
        SYS_write | SYS_writev | SYS_pwrite64 => reaches_out(pid, first),
        SYS_clone => first & CLONE_THREAD as u64 == 0,
        SYS_fcntl => second == F_OFD_SETLK as u64,
        SYS_ioctl => IOCTLS.contains(&second),
        _ => true,
    };
    counts.then_some(name)
}

/// A file or a socket, and no eventfd or pipe.
fn reaches_out(pid: i32, fd: u64) -> bool {
    std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).is_ok_and(|target| {
        let target = target.to_string_lossy();
        !target.starts_with("anon_inode:") && !target.starts_with("pipe:")
    })
}

/// `FICLONE`, `TUNSETIFF`, `TUNSETPERSIST`.
const IOCTLS: [u64; 3] = [0x4004_9409, 0x4004_54ca, 0x4004_54cb];

const ACTS: &[(c_long, &str)] = &[
    (SYS_openat, "openat"),
    (SYS_rename, "rename"),
    (SYS_renameat, "renameat"),
    (SYS_renameat2, "renameat2"),
    (SYS_link, "link"),
    (SYS_linkat, "linkat"),
    (SYS_symlink, "symlink"),
    (SYS_symlinkat, "symlinkat"),
    (SYS_unlink, "unlink"),
    (SYS_unlinkat, "unlinkat"),
    (SYS_mkdir, "mkdir"),
    (SYS_mkdirat, "mkdirat"),
    (SYS_rmdir, "rmdir"),
    (SYS_ftruncate, "ftruncate"),
    (SYS_fallocate, "fallocate"),
    (SYS_fsync, "fsync"),
    (SYS_fdatasync, "fdatasync"),
    (SYS_write, "write"),
    (SYS_writev, "writev"),
    (SYS_pwrite64, "pwrite64"),
    (SYS_copy_file_range, "copy_file_range"),
    (SYS_sendfile, "sendfile"),
    (SYS_sendto, "sendto"),
    (SYS_sendmsg, "sendmsg"),
    (SYS_bind, "bind"),
    (SYS_connect, "connect"),
    (SYS_clone, "clone"),
    (SYS_clone3, "clone3"),
    (SYS_fork, "fork"),
    (SYS_vfork, "vfork"),
    (SYS_kill, "kill"),
    (SYS_pidfd_send_signal, "pidfd_send_signal"),
    (SYS_chmod, "chmod"),
    (SYS_fchmod, "fchmod"),
    (SYS_fchmodat, "fchmodat"),
    (SYS_chown, "chown"),
    (SYS_fchown, "fchown"),
    (SYS_fchownat, "fchownat"),
    (SYS_mount, "mount"),
    (SYS_umount2, "umount2"),
    (SYS_move_mount, "move_mount"),
    (SYS_fcntl, "fcntl"),
    (SYS_ioctl, "ioctl"),
];
