//! The kernel command line: as the user wrote it, with a NUL behind it.

use arch::layout::CMDLINE_MAX;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CmdlineError {
    #[error("it is {len} bytes long, and this kernel takes {max}")]
    TooLong { len: usize, max: usize },
    #[error("it has a {what} at byte {at}, where it would end")]
    Control { what: &'static str, at: usize },
}

/// The line with its NUL, if the kernel takes `max` bytes (without the NUL).
pub(crate) fn terminated(line: &str, max: u32) -> Result<Vec<u8>, CmdlineError> {
    let max = u64::from(max).min(CMDLINE_MAX - 1) as usize;
    if line.len() > max {
        return Err(CmdlineError::TooLong { len: line.len(), max });
    }
    if let Some(at) = line.find(['\0', '\n']) {
        let what = if line.as_bytes()[at] == 0 { "NUL" } else { "line break" };
        return Err(CmdlineError::Control { what, at });
    }
    let mut bytes = line.as_bytes().to_vec();
    bytes.push(0);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_may_be_as_long_as_the_kernel_takes_and_no_longer() {
        let line = "x".repeat(2047);
        assert_eq!(terminated(&line, 2047).unwrap().len(), 2048);
        assert_eq!(terminated(&line, 2046), Err(CmdlineError::TooLong { len: 2047, max: 2046 }));
        let long = "x".repeat(1 << 16);
        assert!(terminated(&long, u32::MAX).is_err(), "the reserved room is a limit too");
    }

    #[test]
    fn bytes_that_would_end_the_line_are_refused() {
        assert_eq!(
            terminated("quiet\0init=/bin/sh", 2047),
            Err(CmdlineError::Control { what: "NUL", at: 5 })
        );
        assert!(terminated("a\nb", 2047).is_err());
        assert_eq!(terminated("", 2047).unwrap(), [0]);
    }
}
