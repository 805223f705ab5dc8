//! What confines the processes that read images of strangers: `manor inspect` and `manor work-on-images`.

use seccompiler::{
    SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// From now on this process makes these system calls, and `more`, and dies of any other.
pub(crate) fn enter(more: &[i64]) -> Result<(), Box<dyn std::error::Error>> {
    let filter = filter(more)?;
    seccompiler::apply_filter(&filter)?;
    Ok(())
}

/// Reading what is open, writing the answer, memory for data, the end.
fn filter(more: &[i64]) -> Result<seccompiler::BpfProgram, seccompiler::BackendError> {
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
        calls.iter().chain(more).map(|call| (*call, Vec::new())).collect();
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
