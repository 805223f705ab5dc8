//! `manor inspect FORMAT`: says what the image on stdin is. Started by the broker, never by a person.
//!
//! It reads the header of an image that anybody may have made, so before that it gives up everything
//! but reading and answering.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use image::{FileStorage, Format, Inspected, describe};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Seconds of processor time.
const TIME: u64 = 2;
/// Bytes of address space.
const SPACE: u64 = 512 << 20;

pub(crate) fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let format = arguments.into_iter().next().and_then(|word| word.into_string().ok());
    let Some(format) = format.and_then(|name| name.parse::<Format>().ok()) else {
        return ExitCode::FAILURE;
    };
    let Ok(file) = std::io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    if confine().is_err() {
        return ExitCode::FAILURE;
    }
    let answer = match FileStorage::new(File::from(file)) {
        Ok(file) => match describe(&file, format) {
            Ok(description) => Inspected::Image(Box::new(description.without_snapshots())),
            Err(error) => Inspected::Refused(error.in_full()),
        },
        Err(error) => Inspected::Refused(format!("cannot be looked at: {error}")),
    };
    let Ok(text) = serde_json::to_vec(&answer) else { return ExitCode::FAILURE };
    match std::io::stdout().write_all(&text).and_then(|()| std::io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn confine() -> Result<(), Box<dyn std::error::Error>> {
    for (resource, most) in [
        (Resource::Cpu, TIME),
        (Resource::As, SPACE),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Nofile, 0),
        (Resource::Nproc, 0),
    ] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    let filter = filter()?;
    seccompiler::apply_filter(&filter)?;
    Ok(())
}

/// Reading what is open, writing the answer, memory for data, the end.
fn filter() -> Result<seccompiler::BpfProgram, seccompiler::BackendError> {
    let calls = [
        libc::SYS_read,
        libc::SYS_preadv,
        libc::SYS_lseek,
        libc::SYS_fstat,
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigreturn,
        libc::SYS_rt_sigprocmask,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_close,
    ];
    let rule = |conditions: &[(u8, Op, u64)]| {
        let condition = |(argument, op, value): &(u8, Op, u64)| {
            SeccompCondition::new(*argument, Len::Dword, op.clone(), *value)
        };
        SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?)
    };
    let executable = libc::PROT_EXEC as u64;
    let anonymous = libc::MAP_ANONYMOUS as u64;
    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> =
        calls.into_iter().map(|call| (call, Vec::new())).collect();
    let map = rule(&[(2, Op::MaskedEq(executable), 0), (3, Op::MaskedEq(anonymous), anonymous)])?;
    rules.insert(libc::SYS_mmap, vec![map]);
    rules.insert(libc::SYS_mprotect, vec![rule(&[(2, Op::MaskedEq(executable), 0)])?]);
    rules.insert(libc::SYS_write, vec![rule(&[(0, Op::Eq, 1)])?]);
    // How the image was opened, and whether a descriptor still is.
    let flags = |what: i32| rule(&[(1, Op::Eq, what as u64)]);
    rules.insert(libc::SYS_fcntl, vec![flags(libc::F_GETFL)?, flags(libc::F_GETFD)?]);
    // What O_DIRECT asks for: of the open file alone, by an empty path, or of its device (BLKSSZGET).
    rules.insert(libc::SYS_ioctl, vec![flags(0x1268)?]);
    rules.insert(libc::SYS_statx, vec![rule(&[(2, Op::MaskedEq(0x1000), 0x1000)])?]);
    let (refuse, allow) = (SeccompAction::KillProcess, SeccompAction::Allow);
    SeccompFilter::new(rules, refuse, allow, TargetArch::x86_64)?.try_into()
}
