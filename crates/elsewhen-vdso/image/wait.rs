//! Deadlines and durations of a call, from the member's clocks to the host's and back.

use crate::clock::{ClockId, RawClockId, TIMELINES, Timeline};
use crate::gate::Frame;
use crate::host::{now, opaque};
use crate::latch::Ticket;
use crate::page::{AFFINE, Map};
use crate::read::page;
use crate::transform::{
    Affine, HostDeadline, HostNs, MemberNs, NSEC_PER_SEC, Pivot, RATE_ONE, Split, wait_to_host, wait_to_member,
};
use core::mem::offset_of;

/// The largest number of seconds that the kernel's times hold; what lies beyond never comes.
const KTIME_SEC_MAX: i64 = 9_223_372_036;

/// A wait in progress, kept with its frame so that it can be translated again when the namespace changes.
#[repr(C)]
pub(crate) struct Wait {
    pub(crate) kind: Kind,
    pub(crate) form: Form,
    /// The clock of a deadline.
    clock: i32,
    /// The page as it was when this was translated.
    ticket: Ticket,
    /// Not of the wait, but where there is place: the caller's number, as it is.
    pub(crate) original: u32,
    /// The deadline, or what is left of a duration, by the member's clock.
    member_ns: i64,
    /// When the duration began, by the host's MONOTONIC; of a deadline, where its clock stands.
    began_ns: i64,
    /// The pace of the duration.
    mult: u64,
}

impl Wait {
    /// Offset of the kind.
    pub(crate) const KIND: usize = offset_of!(Self, kind);
    /// Offset of the ticket.
    pub(crate) const TICKET: usize = offset_of!(Self, ticket);
}

/// What a call waits for.
#[repr(u16)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing that has been translated.
    Untimed = 0,
    /// A deadline.
    Absolute = 1,
    /// A duration.
    Relative = 2,
}

/// How a time is written.
#[repr(u16)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `struct timespec`.
    Timespec = 0,
    /// `struct timeval`, which may have more than a second of microseconds.
    Timeval = 1,
    /// `struct timespec` whose two words are added up unchecked.
    Sum = 2,
    /// An int of milliseconds, in the first word.
    Millis = 3,
}

impl Form {
    /// Nanoseconds in the unit of the second word.
    const fn unit(self) -> u64 {
        match self {
            Self::Timespec | Self::Sum => 1,
            Self::Timeval => 1000,
            Self::Millis => 1_000_000,
        }
    }

    /// Nanoseconds from two words; `i64::MAX` is for ever. `None` where the kernel refuses them or takes them for
    /// the past.
    pub(crate) fn to_ns(self, sec: u64, fraction: u64) -> Option<i64> {
        let (sec, fraction) = (sec as i64, fraction as i64);
        if matches!(self, Self::Millis) {
            return Some(sec * 1_000_000);
        }
        let valid = match self {
            Self::Timespec => sec >= 0 && fraction >= 0 && fraction < NSEC_PER_SEC,
            Self::Timeval => fraction >= 0,
            Self::Sum | Self::Millis => true,
        };
        if !valid {
            return None;
        }
        if sec >= KTIME_SEC_MAX {
            return Some(i64::MAX);
        }
        let total = sec.checked_mul(NSEC_PER_SEC)?.checked_add(fraction.saturating_mul(self.unit() as i64))?;
        if total < 0 { None } else { Some(total) }
    }

    /// Two words from nanoseconds, rounded up; never negative.
    pub(crate) fn words(self, ns: i64) -> (u64, u64) {
        let ns = if ns < 0 { 0 } else { ns as u64 };
        let ns = ns.saturating_add(self.unit() - 1).min(i64::MAX as u64);
        if matches!(self, Self::Millis) {
            return ((ns / 1_000_000).min(i32::MAX as u64), 0);
        }
        (ns / NSEC_PER_SEC as u64, ns % NSEC_PER_SEC as u64 / self.unit())
    }

    /// Two words from nanoseconds, rounded down.
    pub(crate) fn words_down(self, ns: i64) -> (u64, u64) {
        let ns = if ns < 0 { 0 } else { ns as u64 };
        (ns / NSEC_PER_SEC as u64, ns % NSEC_PER_SEC as u64 / self.unit())
    }
}

/// The map of a timeline, and the page's state that it belongs to.
#[inline(never)]
pub(crate) fn map(place: usize, pivot: &mut Pivot) -> Ticket {
    let page = page();
    loop {
        let ticket = page.begin();
        let Some((sec, nsec)) = page.offset(ticket, place) else { return ticket };
        if nsec == AFFINE {
            if let Some(found) = page.pivot(ticket, place) {
                *pivot = found;
            }
        } else {
            *pivot = Map::Offset(Split { sec, nsec }).to_pivot();
        }
        if page.holds(ticket) {
            return ticket;
        }
    }
}

/// A pivot to be filled in.
pub(crate) fn blank() -> Pivot {
    Pivot::settled(Affine { host_ns: opaque(0) as i64, member_ns: opaque(0) as i64, mult: opaque(RATE_ONE) })
}

/// The pace of waits: MONOTONIC's, or the host's where that is frozen.
#[inline(never)]
pub(crate) fn pace() -> u64 {
    pace_of(Timeline::Monotonic as usize)
}

/// The pace of a timeline, or the host's where that is frozen.
#[inline(never)]
pub(crate) fn pace_of(place: usize) -> u64 {
    let mut pivot = blank();
    map(place, &mut pivot);
    if pivot.after.mult == 0 { RATE_ONE } else { pivot.after.mult }
}

/// What a member's wait has taken between two readings of the host's MONOTONIC: at the one pace until that changed, at
/// the other since.
fn elapsed_ns(from: i64, to: i64, before: u64, after: u64) -> i64 {
    let changed = page().paced_at_ns(page().begin());
    let changed = if changed < from { from } else if changed > to { to } else { changed };
    wait_to_member(changed.wrapping_sub(from), before).saturating_add(wait_to_member(to.wrapping_sub(changed), after))
}

/// The host's nanoseconds since the pace of waits last changed.
#[inline(never)]
pub(crate) fn since_change_ns() -> i64 {
    let passed = now(ClockId::Monotonic as i32).wrapping_sub(page().paced_at_ns(page().begin()));
    if passed < 0 { 0 } else { passed }
}

/// The host's time at which a member's clock, in its place, reaches a reading; the host's pace where it is frozen.
#[inline(never)]
pub(crate) fn to_host(clock: i32, member_ns: i64, ticket: &mut Ticket) -> i64 {
    let mut pivot = blank();
    loop {
        *ticket = map(RawClockId(clock).place(), &mut pivot);
        if let HostDeadline::At(host) = pivot.to_host(MemberNs(member_ns))
            && pivot.after.mult != 0
        {
            return host.0;
        }
        // It stands, now or from an instant that is about to come.
        let host_ns = now(clock);
        if page().holds(*ticket) {
            return host_ns.max(pivot.at_host_ns).saturating_add(member_ns.saturating_sub(pivot.after.member_ns));
        }
    }
}

/// A member's reading of a clock.
#[inline(never)]
pub(crate) fn member_now(clock: i32) -> i64 {
    let mut pivot = blank();
    map(RawClockId(clock).place(), &mut pivot);
    pivot.to_member(HostNs(now(clock))).0
}

impl Frame {
    /// Begins a wait for a deadline. False where it is to be left to the kernel.
    #[inline(never)]
    pub(crate) fn wait_until(&mut self, clock: i32, sec: u64, nsec: u64) -> bool {
        let Some(deadline) = Form::Timespec.to_ns(sec, nsec) else { return false };
        if RawClockId(clock).place() >= TIMELINES || deadline == i64::MAX {
            return false;
        }
        self.wait.kind = Kind::Absolute;
        self.wait.form = Form::Timespec;
        self.wait.clock = clock;
        self.wait.member_ns = deadline;
        self.wait.began_ns = i64::MIN;
        self.aim();
        true
    }

    /// Begins a wait for a duration. False where it is to be left to the kernel.
    #[inline(never)]
    pub(crate) fn wait_for(&mut self, form: Form, sec: u64, fraction: u64) -> bool {
        let Some(duration) = form.to_ns(sec, fraction) else { return false };
        if duration == i64::MAX {
            return false;
        }
        self.wait.kind = Kind::Relative;
        self.wait.form = form;
        self.wait.began_ns = now(ClockId::Monotonic as i32);
        self.wait.ticket = page().begin();
        self.wait.mult = pace();
        self.aim_for(duration);
        true
    }

    /// Translates a wait, for the first time or again, into the first two words of the scratch.
    #[inline(never)]
    pub(crate) fn aim(&mut self) {
        match self.wait.kind {
            Kind::Untimed => {}
            Kind::Absolute => {
                let mut pivot = blank();
                let ticket = map(RawClockId(self.wait.clock).place(), &mut pivot);
                let standing = pivot.after.mult == 0;
                let standing_at = if standing { pivot.after.member_ns } else { i64::MIN };
                if standing && self.wait.began_ns == standing_at {
                    // It still stands where it stood: the wait goes on by the host's pace.
                    self.wait.ticket = ticket;
                    return;
                }
                self.wait.began_ns = standing_at;
                let host_ns = to_host(self.wait.clock, self.wait.member_ns, &mut self.wait.ticket);
                let (sec, nsec) = Form::Timespec.words(host_ns);
                self.scratch[0] = sec;
                self.scratch[1] = nsec;
            }
            Kind::Relative => {
                let host_now = now(ClockId::Monotonic as i32);
                let ticket = page().begin();
                let mult = pace();
                let left = self.left_ns(host_now, mult);
                self.wait.began_ns = host_now;
                self.wait.ticket = ticket;
                self.wait.mult = mult;
                self.aim_for(left);
            }
        }
    }

    /// Sets a duration's rest at the pace that has been read.
    fn aim_for(&mut self, member_ns: i64) {
        self.wait.member_ns = member_ns;
        let (sec, fraction) = self.wait.form.words(wait_to_host(member_ns, self.wait.mult));
        self.scratch[0] = sec;
        self.scratch[1] = fraction;
    }

    /// What is left of a duration, by the member's clock, at a reading of the host's MONOTONIC and the pace then.
    fn left_ns(&self, host_now: i64, mult: u64) -> i64 {
        let elapsed = elapsed_ns(self.wait.began_ns, host_now, self.wait.mult, mult);
        self.wait.member_ns.saturating_sub(elapsed).max(0)
    }

    /// Whether a wait that has timed out did so too early, because its clock was set back, slowed down or stopped
    /// meanwhile.
    #[inline(never)]
    pub(crate) fn is_early(&self) -> bool {
        // What the roundings of two scalings make.
        const NOTHING_NS: i64 = 1000;
        if self.wait.kind == Kind::Untimed || page().holds(self.wait.ticket) {
            return false;
        }
        if self.wait.kind == Kind::Relative {
            return self.left_ns(now(ClockId::Monotonic as i32), pace()) > NOTHING_NS;
        }
        let mut pivot = blank();
        map(RawClockId(self.wait.clock).place(), &mut pivot);
        let host = now(self.wait.clock);
        if pivot.after.mult != 0 || host < pivot.at_host_ns {
            return pivot.to_member(HostNs(host)).0 < self.wait.member_ns;
        }
        let left = self.wait.member_ns.saturating_sub(pivot.after.member_ns);
        self.wait.began_ns != pivot.after.member_ns && host < pivot.at_host_ns.saturating_add(left)
    }

    /// What the kernel left of a duration in two words of the scratch, by the member's clock.
    #[inline(never)]
    pub(crate) fn remaining(&self, at: usize) -> (u64, u64) {
        if !page().holds(self.wait.ticket) {
            // It was set by another page than the one in force.
            return self.wait.form.words_down(self.left_ns(now(ClockId::Monotonic as i32), pace()));
        }
        let (sec, fraction) = match at {
            0 => (self.scratch[0], self.scratch[1]),
            _ => (self.scratch[2], self.scratch[3]),
        };
        let Some(host_ns) = self.wait.form.to_ns(sec, fraction) else { return (sec, fraction) };
        self.wait.form.words_down(wait_to_member(host_ns, self.wait.mult))
    }
}
