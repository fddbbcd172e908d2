//! Clock ids: the closed set that elsewhen moves, and which of the page's timelines each one reads.
//!
//! Used by the image (for every clock read) and by the host side (for naming clocks to people). Mirrors
//! `include/uapi/linux/time.h` and `clock_gettime(2)`.

/// What a user names: the clocks of one family move together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum Family {
    /// `CLOCK_REALTIME`, its coarse and alarm variants, and `CLOCK_TAI`.
    Realtime = 0,
    /// `CLOCK_MONOTONIC`, its coarse variant, and `CLOCK_MONOTONIC_RAW`.
    Monotonic = 1,
    /// `CLOCK_BOOTTIME` and its alarm variant.
    Boottime = 2,
}

impl Family {
    /// Every family, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Realtime, Self::Monotonic, Self::Boottime];

    /// The lower-case name that the command line and the documentation use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Monotonic => "monotonic",
            Self::Boottime => "boottime",
        }
    }
}

/// Host clocks that run apart from each other, and so need a map each.
///
/// A coarse or alarm clock lies on the timeline of its fine clock. `CLOCK_TAI` and `CLOCK_MONOTONIC_RAW` have
/// timelines of their own, because under a rate an anchor taken from another clock would make them jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Timeline {
    /// The timeline of `CLOCK_REALTIME`.
    Realtime = 0,
    /// The timeline of `CLOCK_TAI`.
    Tai = 1,
    /// The timeline of `CLOCK_MONOTONIC`.
    Monotonic = 2,
    /// The timeline of `CLOCK_MONOTONIC_RAW`.
    Raw = 3,
    /// The timeline of `CLOCK_BOOTTIME`.
    Boottime = 4,
}

/// How many timelines a page holds.
pub const TIMELINES: usize = 5;

impl Timeline {
    /// Every timeline, in the order of their places in the page.
    pub const ALL: [Self; TIMELINES] = [Self::Realtime, Self::Tai, Self::Monotonic, Self::Raw, Self::Boottime];

    /// The family that a user moves to move this timeline.
    pub const fn family(self) -> Family {
        match self {
            Self::Realtime | Self::Tai => Family::Realtime,
            Self::Monotonic | Self::Raw => Family::Monotonic,
            Self::Boottime => Family::Boottime,
        }
    }

    /// The clock from which the host side samples this timeline.
    pub const fn clock(self) -> ClockId {
        match self {
            Self::Realtime => ClockId::Realtime,
            Self::Tai => ClockId::Tai,
            Self::Monotonic => ClockId::Monotonic,
            Self::Raw => ClockId::MonotonicRaw,
            Self::Boottime => ClockId::Boottime,
        }
    }
}

/// The clocks that a namespace can move. Anything else a program may pass is a [`RawClockId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum ClockId {
    /// Seconds since 1970-01-01 UTC.
    #[doc(alias = "CLOCK_REALTIME")]
    Realtime = 0,
    /// Time since an unspecified start, not counting suspend.
    #[doc(alias = "CLOCK_MONOTONIC")]
    Monotonic = 1,
    /// Like `CLOCK_MONOTONIC`, not slewed by NTP.
    #[doc(alias = "CLOCK_MONOTONIC_RAW")]
    MonotonicRaw = 4,
    /// `CLOCK_REALTIME` as of the last tick.
    #[doc(alias = "CLOCK_REALTIME_COARSE")]
    RealtimeCoarse = 5,
    /// `CLOCK_MONOTONIC` as of the last tick.
    #[doc(alias = "CLOCK_MONOTONIC_COARSE")]
    MonotonicCoarse = 6,
    /// Like `CLOCK_MONOTONIC`, counting suspend.
    #[doc(alias = "CLOCK_BOOTTIME")]
    Boottime = 7,
    /// `CLOCK_REALTIME` for timers that wake the machine.
    #[doc(alias = "CLOCK_REALTIME_ALARM")]
    RealtimeAlarm = 8,
    /// `CLOCK_BOOTTIME` for timers that wake the machine.
    #[doc(alias = "CLOCK_BOOTTIME_ALARM")]
    BoottimeAlarm = 9,
    /// International atomic time: `CLOCK_REALTIME` without leap seconds.
    #[doc(alias = "CLOCK_TAI")]
    Tai = 11,
}

impl ClockId {
    /// Every clock that a namespace can move.
    pub const ALL: [Self; 9] = [
        Self::Realtime,
        Self::Monotonic,
        Self::MonotonicRaw,
        Self::RealtimeCoarse,
        Self::MonotonicCoarse,
        Self::Boottime,
        Self::RealtimeAlarm,
        Self::BoottimeAlarm,
        Self::Tai,
    ];

    /// The timeline that this clock reads.
    pub const fn timeline(self) -> Timeline {
        match self {
            Self::Realtime | Self::RealtimeCoarse | Self::RealtimeAlarm => Timeline::Realtime,
            Self::Tai => Timeline::Tai,
            Self::Monotonic | Self::MonotonicCoarse => Timeline::Monotonic,
            Self::MonotonicRaw => Timeline::Raw,
            Self::Boottime | Self::BoottimeAlarm => Timeline::Boottime,
        }
    }
}

/// A clock id as a program passed it: any value, valid or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawClockId(pub i32);

/// Place of each id's timeline in the page, four bits an id, 15 for ids that pass through. Built from the
/// two closed sets above, so there is no second list to keep in step.
pub(crate) const PLACES: u64 = {
    let mut places = u64::MAX;
    let mut i = 0;
    while i < ClockId::ALL.len() {
        let shift = 4 * ClockId::ALL[i] as u32;
        places = places & !(0xf << shift) | (ClockId::ALL[i].timeline() as u64) << shift;
        i += 1;
    }
    places
};

impl RawClockId {
    /// The index of this clock's timeline in the page; [`TIMELINES`] or more where the clock passes through
    /// (CPU-time, dynamic, AUX, and ids that do not exist).
    #[inline(always)]
    pub const fn place(self) -> usize {
        let id = self.0 as u32;
        if id < 16 { ((PLACES >> (4 * id)) & 0xf) as usize } else { usize::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moved_clock_finds_its_timeline_and_no_other_does() {
        for raw in -100..100_000 {
            let known = ClockId::ALL.into_iter().find(|clock| *clock as i32 == raw);
            match known {
                Some(clock) => assert_eq!(RawClockId(raw).place(), clock.timeline() as usize, "{clock:?}"),
                None => assert!(RawClockId(raw).place() >= TIMELINES, "clock {raw} must pass through"),
            }
        }
        for raw in [i32::MIN, i32::MAX, -6, 0x1_0000] {
            assert!(RawClockId(raw).place() >= TIMELINES);
        }
    }

    #[test]
    fn timelines_are_numbered_by_their_place() {
        for (place, timeline) in Timeline::ALL.into_iter().enumerate() {
            assert_eq!(timeline as usize, place);
            assert_eq!(timeline.clock().timeline(), timeline);
        }
    }
}
