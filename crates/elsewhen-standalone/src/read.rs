//! Reading a clock off a data page: `do_hres()` and `do_coarse()` of the kernel's `lib/vdso/gettimeofday.c`.
//!
//! No reader waits for ever: a writer that does not come to its end, and one that has stopped, are found out.

use crate::data::{CLOCKS, COUNTER_TSC, DataPage, MAGIC, MODE_TIMENS, MODE_TSC, Source, VERSION, unpack};
use core::hint::{cold_path, spin_loop};
use core::sync::atomic::{Ordering, fence};

/// How often a reader looks at a page that is being written, before it makes a system call instead: some milliseconds.
const TRIES: u32 = 100_000;

const NSEC_PER_SEC: u64 = 1_000_000_000;

/// A time, or a distance between times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Whole seconds.
    pub sec: i64,
    /// Nanoseconds, below a second.
    pub nsec: u64,
}

impl Time {
    /// This and a distance.
    #[inline(always)]
    pub fn plus(self, other: Self) -> Self {
        let (sec, nsec) = (self.sec.wrapping_add(other.sec), self.nsec.wrapping_add(other.nsec));
        if nsec >= NSEC_PER_SEC {
            Self { sec: sec.wrapping_add(1), nsec: nsec - NSEC_PER_SEC }
        } else {
            Self { sec, nsec }
        }
    }
}

/// What came of looking at a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The time.
    Time(Time),
    /// The page is a namespace's: the data are elsewhere.
    Member,
    /// The page says nothing: ask somebody else.
    Unusable,
}

/// Why a page cannot be used, or that it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// It can be used.
    Good = 0,
    /// It is no data page.
    Magic = 1,
    /// It is one of another version.
    Version = 2,
    /// It goes by another counter than this machine's.
    Counter = 3,
    /// Nobody has written it for longer than it may be used.
    Stopped = 4,
    /// Somebody has begun to write it and does not come to an end.
    Unfinished = 5,
    /// It is a namespace's.
    Timens = 6,
}

/// A clock with the resolution of the counter.
#[inline(always)]
pub fn hres(source: &Source, clock: usize, counter: impl Fn() -> u64) -> Reading {
    let Some(base) = source.base.get(clock) else { return Reading::Unusable };
    settled(source, || {
        let mut delta = counter().wrapping_sub(source.cycle_last.load(Ordering::Relaxed));
        let max = source.max_cycles.load(Ordering::Relaxed);
        if delta > max {
            cold_path();
            if !is_behind(delta, max) {
                return None;
            }
            delta = 0;
        }
        let scaled = delta.wrapping_mul(source.mult.load(Ordering::Relaxed).into());
        let shift = u32::from(source.shift.load(Ordering::Relaxed));
        let nsec = base.nsec.load(Ordering::Relaxed).wrapping_add(scaled).wrapping_shr(shift);
        Some((base.sec.load(Ordering::Relaxed).cast_signed(), nsec))
    })
}

/// A clock as it was when the page was written. That is all it says: where the timekeeper has died, and not
/// retired, it stands still, as it would in a kernel whose ticks have ended.
#[inline(always)]
pub fn coarse(source: &Source, clock: usize) -> Reading {
    let Some(base) = source.base.get(clock) else { return Reading::Unusable };
    settled(source, || Some((base.sec.load(Ordering::Relaxed).cast_signed(), base.nsec.load(Ordering::Relaxed))))
}

/// What a look at a page finds that nobody has written meanwhile: seconds and nanoseconds, or that it is too old.
#[inline(always)]
fn settled(source: &Source, look: impl Fn() -> Option<(i64, u64)>) -> Reading {
    for _ in 0..TRIES {
        let sequence = source.sequence.load(Ordering::Acquire);
        if sequence & 1 != 0 {
            cold_path();
            if source.mode.load(Ordering::Relaxed) == MODE_TIMENS {
                return Reading::Member;
            }
            spin_loop();
            continue;
        }
        if source.mode.load(Ordering::Relaxed) != MODE_TSC {
            cold_path();
            return Reading::Unusable;
        }
        let found = look();
        if changed(source, sequence) {
            cold_path();
            continue;
        }
        let Some((sec, nsec)) = found else {
            cold_path();
            return Reading::Unusable;
        };
        // Only now: what is carried is no more than can be.
        return Reading::Time(carried(sec, nsec));
    }
    cold_path();
    Reading::Unusable
}

/// What a reader finds: for whoever wants to know why clocks are read by system calls.
pub fn status(source: &Source, counter: impl Fn() -> u64) -> Status {
    let mode = source.mode.load(Ordering::Relaxed);
    if mode as u16 != MAGIC {
        return Status::Magic;
    }
    if (mode >> 16) as u8 != VERSION {
        return Status::Version;
    }
    if mode == MODE_TIMENS {
        return Status::Timens;
    }
    if (mode >> 24) as u8 != COUNTER_TSC {
        return Status::Counter;
    }
    for _ in 0..TRIES {
        let sequence = source.sequence.load(Ordering::Acquire);
        if sequence & 1 == 0 {
            let delta = counter().wrapping_sub(source.cycle_last.load(Ordering::Relaxed));
            let max = source.max_cycles.load(Ordering::Relaxed);
            if !changed(source, sequence) {
                return if delta > max && !is_behind(delta, max) { Status::Stopped } else { Status::Good };
            }
        }
        spin_loop();
    }
    Status::Unfinished
}

/// The offset of a clock on a namespace's page.
#[inline(always)]
pub fn offset(page: &DataPage, clock: usize) -> Time {
    // No clock beyond is ever asked for.
    let Some(offset) = page.offsets.get(clock % CLOCKS) else { return Time { sec: 0, nsec: 0 } };
    let (sec, nsec) = unpack(offset.load(Ordering::Relaxed));
    Time { sec, nsec }
}

/// Whether a counter is a little behind, as another processor's may be, and has not begun anew.
#[inline(always)]
fn is_behind(delta: u64, max: u64) -> bool {
    delta.wrapping_neg() <= max
}

#[inline(always)]
fn changed(source: &Source, sequence: u32) -> bool {
    fence(Ordering::Acquire);
    source.sequence.load(Ordering::Relaxed) != sequence
}

/// With less than a second of nanoseconds. They are few seconds at most, as `max_cycles` has it.
#[inline(always)]
fn carried(mut sec: i64, mut nsec: u64) -> Time {
    while nsec >= NSEC_PER_SEC {
        nsec -= NSEC_PER_SEC;
        sec = sec.wrapping_add(1);
    }
    Time { sec, nsec }
}
