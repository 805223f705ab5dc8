//! `cargo xtask guest`: the stock guest's parts, for trying things by hand.

use std::process::ExitCode;

use manor_tests::guest;

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    println!("kernel={}", guest::kernel()?.display());
    println!("vmlinux={}", guest::vmlinux()?.display());
    println!("initrd={}", guest::initrd()?.display());
    Ok(ExitCode::SUCCESS)
}
