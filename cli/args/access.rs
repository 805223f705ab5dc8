//! Verbs about who may do what, and who did.

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// How many of the last records
    #[arg(short = 'n', long, value_name = "NUM", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) lines: u32,
    /// Go on with those to come
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token and print its secret, this once
    Create(TokenCreate),
    /// List tokens
    List,
    /// Let nobody in by a token any more
    Revoke {
        /// Its name or id
        token: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreate {
    /// What it is called in lists and in the audit log
    pub(crate) name: String,
    /// What it may do: look; start, stop and use consoles; everything
    #[arg(long)]
    pub(crate) role: Role,
    /// Confine it to this domain, by name or UUID; may be given several times
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) domain: Vec<String>,
    /// It expires after so long: 30d, 12h, 90m
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    pub(crate) expires: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Make a user, or give one another password, role and confinement. The password is the first line of stdin
    Set(UserSet),
    /// List users
    List,
    /// Let a user in no more
    Remove { name: String },
}

#[derive(Debug, Args)]
pub(crate) struct UserSet {
    /// What it comes in by, and how the audit log calls it
    pub(crate) name: String,
    /// What it may do: look; start, stop and use consoles; everything
    #[arg(long)]
    pub(crate) role: Role,
    /// Confine it to this domain, by name or UUID; may be given several times
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) domain: Vec<String>,
    /// Take the password from the first line of this file
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<std::path::PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    Reader,
    Operator,
    Admin,
}

/// Seconds.
fn lifetime(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err("write a number and s, m, h, d or w, such as 30d".to_owned()),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    number.ok_or_else(|| format!("{digits:?} is no number of that"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_have_a_unit() {
        assert_eq!(lifetime("30d"), Ok(30 * 86_400));
        assert_eq!(lifetime("90m"), Ok(5400));
        for wrong in
            ["", "30", "d", "-1d", "1y", "1.5h", "99999999999999999999d", "999999999999999999w"]
        {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }
}
