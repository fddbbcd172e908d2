//! Which clocks a setting is for: `realtime`, `monotonic`, `boottime` or `all`.

use std::fmt;

pub use elsewhen_vdso::clock::Family;

use super::grammar_error::{GrammarError, Quoted};

/// A set of clock families. The clocks of one family move together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Clocks {
    members: [bool; Family::ALL.len()],
}

impl Clocks {
    /// No family.
    pub const NONE: Self = Self { members: [false; Family::ALL.len()] };

    /// Every family.
    pub const ALL: Self = Self { members: [true; Family::ALL.len()] };

    /// Reads `realtime`, `monotonic`, `boottime` or `all`, in any case, with or without `CLOCK_` before it; or
    /// several of them with commas between.
    ///
    /// # Errors
    ///
    /// When a name is none of these. A clock of the kernel that moves with a family is refused by naming that
    /// family, because setting it alone is not possible.
    pub fn parse(text: &str) -> Result<Self, GrammarError> {
        let mut clocks = Self::NONE;
        for name in text.split(',') {
            clocks = clocks.union(one_name(name)?);
        }
        Ok(clocks)
    }

    /// Whether the set holds a family.
    pub const fn contains(self, family: Family) -> bool {
        self.members[family as usize]
    }

    /// Whether the set holds no family.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// The families of both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Family::ALL.into_iter().filter(|family| self.contains(*family) || other.contains(*family)).collect()
    }

    /// The families of the set, in the order of [`Family::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(move |family| self.contains(*family))
    }
}

impl From<Family> for Clocks {
    fn from(family: Family) -> Self {
        [family].into_iter().collect()
    }
}

impl FromIterator<Family> for Clocks {
    fn from_iter<I: IntoIterator<Item = Family>>(families: I) -> Self {
        let mut clocks = Self::NONE;
        for family in families {
            clocks.members[family as usize] = true;
        }
        clocks
    }
}

/// `all`, or names with commas between, as [`Clocks::parse`] reads them; `none` for the empty set.
impl fmt::Display for Clocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Family::name).collect();
        match names.len() {
            0 => f.pad("none"),
            n if n == Family::ALL.len() => f.pad("all"),
            _ => f.pad(&names.join(",")),
        }
    }
}

impl std::str::FromStr for Clocks {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        Self::parse(text)
    }
}

/// Splits `[CLOCK=]VALUE` into the clocks that it names, if it names any, and the value.
///
/// # Errors
///
/// When there is a name before the `=` and [`Clocks::parse`] refuses it.
pub fn split_clock(text: &str) -> Result<(Option<Clocks>, &str), GrammarError> {
    match text.split_once('=') {
        // A bracket is the start of an RFC 9557 suffix, such as [u-ca=gregory].
        Some((name, value)) if !name.contains('[') => Ok((Some(Clocks::parse(name)?), value)),
        _ => Ok((None, text)),
    }
}

fn one_name(typed: &str) -> Result<Clocks, GrammarError> {
    let lower = typed.trim_matches(|c: char| c.is_ascii_whitespace()).to_ascii_lowercase();
    let name = lower.strip_prefix("clock_").unwrap_or(&lower);
    if let Some(family) = Family::ALL.into_iter().find(|family| family.name() == name) {
        return Ok(family.into());
    }
    match name {
        "all" => Ok(Clocks::ALL),
        "tai" | "realtime_coarse" | "realtime_alarm" => Err(moves_with(name, Family::Realtime)),
        "monotonic_raw" | "monotonic_coarse" => Err(moves_with(name, Family::Monotonic)),
        "boottime_alarm" => Err(moves_with(name, Family::Boottime)),
        _ => Err(GrammarError::new(format!(
            "unknown clock {}: expected realtime, monotonic, boottime or all",
            Quoted(typed)
        ))),
    }
}

fn moves_with(name: &str, family: Family) -> GrammarError {
    let family = family.name();
    GrammarError::new(format!("clock {name} cannot be set alone: {name} moves with {family}; name {family} instead"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_type() {
        for (text, expected) in [
            ("realtime", Clocks::from(Family::Realtime)),
            ("MONOTONIC", Clocks::from(Family::Monotonic)),
            ("CLOCK_BOOTTIME", Clocks::from(Family::Boottime)),
            ("clock_realtime", Clocks::from(Family::Realtime)),
            ("All", Clocks::ALL),
            ("monotonic, boottime", [Family::Monotonic, Family::Boottime].into_iter().collect()),
            ("realtime,realtime", Clocks::from(Family::Realtime)),
        ] {
            assert_eq!(Clocks::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_clock_that_moves_with_another_names_it() {
        for (text, family) in [
            ("tai", "realtime"),
            ("CLOCK_TAI", "realtime"),
            ("realtime_coarse", "realtime"),
            ("realtime_alarm", "realtime"),
            ("CLOCK_MONOTONIC_RAW", "monotonic"),
            ("monotonic_coarse", "monotonic"),
            ("boottime_alarm", "boottime"),
        ] {
            let error = Clocks::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("moves with {family};")), "{text}: {error}");
        }
    }

    #[test]
    fn an_unknown_clock_is_refused() {
        for text in ["", "wall", "process_cputime_id", "clock_", "realtime,", "1", "none"] {
            let error = Clocks::parse(text).unwrap_err().to_string();
            assert!(error.ends_with("expected realtime, monotonic, boottime or all"), "{text}: {error}");
        }
    }

    #[test]
    fn a_value_may_name_its_clock() {
        assert_eq!(split_clock("+5s"), Ok((None, "+5s")));
        assert_eq!(split_clock("all=+5s"), Ok((Some(Clocks::ALL), "+5s")));
        assert_eq!(split_clock("CLOCK_BOOTTIME=-1h"), Ok((Some(Family::Boottime.into()), "-1h")));
        assert_eq!(split_clock("realtime="), Ok((Some(Family::Realtime.into()), "")));
        let dated = "2024-03-10T02:30[America/New_York][u-ca=gregory]";
        assert_eq!(split_clock(dated), Ok((None, dated)));
        assert!(split_clock("=5").is_err());
        assert!(split_clock("tai=5").is_err());
    }

    proptest! {
        #[test]
        fn a_written_set_reads_back(members: [bool; 3]) {
            let clocks = Clocks { members };
            // Nothing that people type names the empty set.
            prop_assert_eq!(Clocks::parse(&clocks.to_string()).ok(), Some(clocks).filter(|clocks| !clocks.is_empty()));
            prop_assert_eq!(clocks.iter().collect::<Clocks>(), clocks);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = Clocks::parse(&text);
            let _ = split_clock(&text);
        }
    }
}
