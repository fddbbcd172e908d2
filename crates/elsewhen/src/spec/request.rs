//! What was asked of a namespace: pure data, per family of clocks.

use super::{Clocks, Family, GrammarError, Rate};
use elsewhen_vdso::page::{Identity, NAME_MAX};
use elsewhen_vdso::surface::Reach;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// Where the clocks of a new namespace are to be and how fast they run, or what to change of a live one.
///
/// Each family of clocks has a position (a date, or an offset from the host) and a pace (a rate, or frozen), and
/// each of the two can be left alone. A later call for the same family replaces an earlier one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spec {
    families: [(Option<Position>, Option<Pace>); 3],
    name: Option<String>,
    adjustable: bool,
    settable: bool,
    files: bool,
    persistent: bool,
    delegated: bool,
    smooth: Option<Duration>,
}

/// Where a clock is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// REALTIME at this many nanoseconds since 1970.
    At { realtime_ns: i64 },
    /// This far from the host's clock.
    Offset { ns: i64 },
    /// This far from where it is.
    By { ns: i64 },
}

/// How fast a clock runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// So many seconds a second.
    Rate(Rate),
    /// Not at all.
    Frozen,
    /// At the host's pace where it stands still, else as it does.
    Thawed,
}

impl Spec {
    /// Asks for nothing: every clock as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts REALTIME (and TAI, at its usual distance) at a date, from 1970 to 2262.
    #[must_use]
    pub fn at(mut self, date: Timestamp) -> Self {
        // A date that nanoseconds cannot hold saturates, and is refused with the range when it is applied.
        let realtime_ns = i64::try_from(date.as_nanosecond()).unwrap_or(i64::MIN);
        self.families[Family::Realtime as usize].0 = Some(Position::At { realtime_ns });
        self
    }

    /// Puts clocks at a distance from the host's.
    #[must_use]
    pub fn offset(mut self, clocks: impl Into<Clocks>, offset: SignedDuration) -> Self {
        let limit = if offset.is_negative() { i64::MIN } else { i64::MAX };
        let ns = i64::try_from(offset.as_nanos()).unwrap_or(limit);
        self.each(clocks.into(), |family| family.0 = Some(Position::Offset { ns }));
        self
    }

    /// Moves clocks from where they are. REALTIME can be set back, the others cannot.
    #[must_use]
    pub fn by(mut self, clocks: impl Into<Clocks>, distance: SignedDuration) -> Self {
        let limit = if distance.is_negative() { i64::MIN } else { i64::MAX };
        let ns = i64::try_from(distance.as_nanos()).unwrap_or(limit);
        self.each(clocks.into(), |family| family.0 = Some(Position::By { ns }));
        self
    }

    /// Runs every clock at a rate. A rate that differs between clocks breaks programs that use several, so this is
    /// what is usually wanted.
    #[must_use]
    pub fn rate(self, rate: Rate) -> Self {
        self.rate_of(Clocks::ALL, rate)
    }

    /// Runs some clocks at a rate.
    #[must_use]
    pub fn rate_of(mut self, clocks: impl Into<Clocks>, rate: Rate) -> Self {
        self.each(clocks.into(), |family| family.1 = Some(Pace::Rate(rate)));
        self
    }

    /// Stops clocks where they are. A program that waits by reading a stopped MONOTONIC clock over and over waits
    /// for ever, so stop REALTIME alone unless you mean that.
    #[must_use]
    pub fn freeze(mut self, clocks: impl Into<Clocks>) -> Self {
        self.each(clocks.into(), |family| family.1 = Some(Pace::Frozen));
        self
    }

    /// Lets clocks that stand still go on, at the host's pace; others run as they do.
    #[must_use]
    pub fn thaw(mut self, clocks: impl Into<Clocks>) -> Self {
        self.each(clocks.into(), |family| family.1 = Some(Pace::Thawed));
        self
    }

    /// Spreads a change of position over some time of the host's, in which the clock runs faster or slower, instead of
    /// making it at once. Only for a namespace that exists: a new one has nothing to be smooth from.
    #[must_use]
    pub const fn smooth(mut self, duration: Duration) -> Self {
        self.smooth = Some(duration);
        self
    }

    /// Keeps a named namespace until it is removed, also without members.
    #[must_use]
    pub const fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// Has supervisors wake members on a change, whoever makes it: for a named namespace with members of other users than the
    /// one who changes it, as a container's.
    #[must_use]
    pub const fn delegated(mut self) -> Self {
        self.delegated = true;
        self
    }

    pub(crate) const fn smoothness(&self) -> Option<Duration> {
        self.smooth
    }

    /// What the page of a new namespace begins with that is made in one with that reach.
    pub(crate) fn identity(&self, outer: Reach) -> Identity<'_> {
        let (name, persistent, delegated) = (self.name().unwrap_or(""), self.persistent, self.delegated);
        let reach = Reach::from_bits(self.reach().to_bits() | outer.to_bits());
        Identity { name, reach, persistent, delegated, seed: elsewhen_linux::process::random() }
    }

    /// Names the namespace, by which other processes of the same user find it.
    ///
    /// # Errors
    /// Where the name is not 1 to 32 letters, digits, `.`, `_` or `-`, the first a letter or digit.
    pub fn with_name(mut self, name: &str) -> Result<Self, GrammarError> {
        let fits = (1..=NAME_MAX).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !fits {
            return Err(GrammarError::new(format!(
                "invalid name {name:?}: expected 1 to {NAME_MAX} letters, digits, '.', '_' or '-', the first a letter or digit"
            )));
        }
        self.name = Some(name.to_owned());
        Ok(self)
    }

    /// Prepares members for any later change.
    ///
    /// A namespace can always move REALTIME, and what its first request moves or paces. For anything more its
    /// members must be prepared when they start, since every timed wait of theirs then has to be caught, which
    /// costs some microseconds each.
    #[must_use]
    pub fn adjustable(mut self) -> Self {
        self.adjustable = true;
        self
    }

    /// Lets members set the namespace's REALTIME (`clock_settime(2)`, `date -s`, `chronyd`), with or without
    /// `CAP_SYS_TIME`. Without this they get `EPERM`. The host's clock is never set from inside.
    #[must_use]
    pub fn settable(mut self) -> Self {
        self.settable = true;
        self
    }

    /// Lets file times follow: members see and set them by their own REALTIME. Without this they are the host's, as
    /// is what other programs see of files that members write.
    ///
    /// Every program is then entered at its first instruction, by a short trace, which another tracer of it prevents.
    #[must_use]
    pub fn files_follow(mut self) -> Self {
        self.files = true;
        self
    }

    /// What a namespace needs to be able to do for this.
    pub(crate) fn reach(&self) -> Reach {
        let (settable, files) = (self.settable, self.files);
        if self.adjustable {
            return Reach { settable, files, ..Reach::ALL };
        }
        // Only a clock that could be stopped can be let go on.
        let paced = |family: Family| !matches!(self.of(family).1, None | Some(Pace::Thawed));
        let moves = |family: Family| self.of(family).0.is_some() || paced(family);
        Reach {
            monotonic: moves(Family::Monotonic),
            boottime: moves(Family::Boottime),
            rate: paced(Family::Monotonic),
            settable,
            files,
        }
    }

    /// The name, if one was given.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether no clock is asked to differ.
    pub fn is_empty(&self) -> bool {
        self.families.iter().all(|family| *family == (None, None))
    }

    pub(crate) fn of(&self, family: Family) -> (Option<Position>, Option<Pace>) {
        self.families[family as usize]
    }

    fn each(&mut self, clocks: Clocks, mut change: impl FnMut(&mut (Option<Position>, Option<Pace>))) {
        for family in Family::ALL {
            if clocks.contains(family) {
                change(&mut self.families[family as usize]);
            }
        }
    }
}
