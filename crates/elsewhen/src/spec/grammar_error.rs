//! The error of everything in [`spec`](super): what was typed, and what was expected instead.

use std::fmt;

/// Why a text that somebody typed is not what it should be.
///
/// Its `Display` form is one line that says what was read, what was expected and, where it helps, an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrammarError {
    message: String,
}

impl GrammarError {
    /// The message is one line: texts from outside go through [`Quoted`] before they become part of it.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for GrammarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for GrammarError {}

/// A text from outside, fit for a one-line message: in double quotes, escaped, and cut where it is long.
pub(super) struct Quoted<'a>(pub(super) &'a str);

/// Characters of a quoted text that are shown.
const SHOWN: usize = 60;

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars().take(SHOWN) {
            match c {
                '\'' => f.write_str("'")?,
                c => write!(f, "{}", c.escape_debug())?,
            }
        }
        f.write_str(if self.0.chars().nth(SHOWN).is_some() { "…\"" } else { "\"" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_stays_on_one_line() {
        assert_eq!(Quoted("it's 5\n pm").to_string(), "\"it's 5\\n pm\"");
    }

    #[test]
    fn a_long_text_is_cut() {
        let quoted = Quoted(&"é".repeat(1000)).to_string();
        assert_eq!(quoted.chars().count(), SHOWN + 3);
        assert!(quoted.ends_with("…\""));
        assert_eq!(Quoted(&"e".repeat(SHOWN)).to_string().len(), SHOWN + 2);
    }
}
