//! The one binary: command line, daemon, and the hidden roles of one domain's processes.

fn main() -> anyhow::Result<()> {
    anyhow::bail!("no command yet")
}
