//! Variables: what an interface that names a filter gives it a value for.
//!
//! ```text
//! $NAME        every value of the list, in step with all variables that are written so ($NAME[@0])
//! $NAME[@2]    every value, in step with those that have the same number
//! $NAME[1]     the second value
//! ```

/// A variable where a rule has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    pub pick: Pick,
}

/// Which values of its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The one at this place.
    At(u16),
    /// Each, with those of the same number side by side.
    Each(u16),
}

impl Variable {
    /// Behind the dollar sign.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches(' ');
        let (name, pick) = match text.split_once('[') {
            None => (text, Pick::Each(0)),
            Some((name, rest)) => {
                let inside = rest.strip_suffix(']')?.trim_matches(' ');
                let pick = match inside.strip_prefix('@') {
                    Some(number) => Pick::Each(digits(number)?),
                    None => Pick::At(digits(inside)?),
                };
                (name, pick)
            }
        };
        is_name(name).then(|| Self { name: name.to_owned(), pick })
    }
}

fn digits(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// libvirt's rule for names of variables.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
