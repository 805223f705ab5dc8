//! `cargo xtask`: the single door for developer commands.

fn main() -> anyhow::Result<()> {
    anyhow::bail!("no command yet")
}
