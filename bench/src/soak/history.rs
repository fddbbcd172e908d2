//! What is known of the clocks, and of a wait by that: when it had to end.

use crate::counter::ticks;
use elsewhen::Family;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a wait is to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Until a family's clock reads so much.
    Until(Family),
    /// For a duration.
    For,
    /// Until a family's clock reads so much, of which the C library makes a duration.
    About(Family),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    pub(super) kind: usize,
    pub(super) form: Form,
    pub(super) deadline_ns: i64,
    pub(super) began: u64,
    /// When somebody set about waking it, 0 for never.
    pub(super) woken: u64,
    /// The kernel counts, whether anybody waits or not.
    pub(super) is_timer: bool,
}

impl Wait {
    pub(super) fn new(what: u64, deadline_ns: i64, began: u64, woken: u64) -> Self {
        let family = match (what >> 16) as u8 {
            0 => Family::Realtime,
            1 => Family::Monotonic,
            _ => Family::Boottime,
        };
        let form = match (what >> 8) as u8 {
            0 => Form::Until(family),
            1 => Form::For,
            _ => Form::About(family),
        };
        Self { kind: what as u8 as usize, form, deadline_ns, began, woken, is_timer: what >> 32 & 1 == 1 }
    }
}

/// A wait that is over, with stamps of the counter and what the guest's own clock read before and after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) wait: Wait,
    pub(super) way: u8,
    pub(super) result: u64,
    pub(super) ended: u64,
    pub(super) before_ns: i64,
    pub(super) after_ns: i64,
    pub(super) read: u64,
}

pub(super) const OVER: u64 = 0;
pub(super) const WOKEN: u64 = 1;
pub(super) const SPURIOUS: u64 = 2;

/// How a clock ran from one change to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// What it read at a stamp.
    pub(super) anchor: (u64, i64),
    /// 0 where it stood.
    pub(super) pace: f64,
}

/// How all clocks ran from one change to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// The change took effect between these two.
    pub(super) from: u64,
    pub(super) settled: u64,
    /// By family.
    pub(super) runs: [Run; 3],
}

/// What is known of the clocks.
pub(super) struct History {
    pub(super) segments: Vec<Segment>,
    /// Where the length of a tick is measured from.
    pub(super) start: (u64, Instant),
    pub(super) tick_ns: f64,
}

impl History {
    pub(super) fn new() -> Self {
        let start = (ticks(), Instant::now());
        sleep(Duration::from_millis(500));
        let mut history = Self { segments: Vec::new(), start, tick_ns: 1.0 };
        history.measure();
        history
    }

    /// The longer the measurement, the better.
    pub(super) fn measure(&mut self) {
        let (now, elapsed) = (ticks(), self.start.1.elapsed());
        self.tick_ns = elapsed.as_nanos() as f64 / (now - self.start.0) as f64;
    }

    /// Nanoseconds from one stamp to another, 0 where that is earlier.
    pub(super) fn between(&self, from: u64, to: u64) -> f64 {
        to.saturating_sub(from) as f64 * self.tick_ns
    }

    pub(super) fn reading(&self, run: Run, at: u64) -> f64 {
        // The distance from the deadline matters, so that is what is kept exact: see `left`.
        (at as i64 - run.anchor.0 as i64) as f64 * self.tick_ns * run.pace
    }

    /// How far a clock is from a deadline at a stamp; negative behind it.
    pub(super) fn left(&self, run: Run, deadline_ns: i64, at: u64) -> f64 {
        (i128::from(deadline_ns) - i128::from(run.anchor.1)) as f64 - self.reading(run, at)
    }

    /// The segment in force at a stamp; the later one where a change may or may not have taken effect.
    pub(super) fn at(&self, stamp: u64) -> usize {
        self.segments.partition_point(|segment| segment.from <= stamp).saturating_sub(1)
    }

    /// When a segment was certainly over: the next change had returned.
    pub(super) fn until(&self, index: usize) -> u64 {
        self.segments.get(index + 1).map_or(u64::MAX, |next| next.settled)
    }

    /// The segments of which a stretch may have a part, with that part.
    pub(super) fn parts(&self, from: u64, to: u64) -> impl Iterator<Item = (&Segment, u64, u64)> {
        let last = self.at(to);
        let mut first = self.at(from);
        while first > 0 && self.until(first - 1) > from {
            first -= 1;
        }
        (first..=last).map(move |index| {
            let segment = &self.segments[index];
            (segment, segment.from.max(from), self.until(index).min(to))
        })
    }

    /// How long before its time a wait ended, in nanoseconds of its clock: not positive where it did not. A deadline
    /// has been reached if the clock ever read so much: who has been woken may be slow to look.
    pub(super) fn early_ns(&self, Record { wait, ended, read, before_ns, .. }: &Record, grace_ns: f64) -> f64 {
        let duration = |duration_ns: i64| {
            let (mut passed_ns, mut before) = (0.0, 0.0);
            for (segment, from, to) in self.parts(wait.began, *ended) {
                let pace = waiting_pace(segment.runs[Family::Monotonic as usize].pace);
                passed_ns += self.between(from, to) * pace;
                if segment.settled > wait.began {
                    // A thread that has not yet heard of the change counts on by the pace of before.
                    passed_ns += self.between(segment.settled, to).min(grace_ns) * f64::max(before - pace, 0.0);
                }
                before = pace;
            }
            duration_ns as f64 - passed_ns
        };
        let deadline = |family: Family| {
            let mut stood_ns = 0.0;
            let left = |(segment, from, to): (&Segment, u64, u64)| {
                let run = segment.runs[family as usize];
                // Who waits for a clock that stands does so at the host's pace, as long as it stands.
                stood_ns = if run.pace == 0.0 { stood_ns + self.between(from, to) } else { 0.0 };
                // A timer expires by the kernel's hand until it has been set anew.
                let late = self.between(to, *read).min(if wait.is_timer { grace_ns } else { 0.0 });
                self.left(run, wait.deadline_ns, to) - stood_ns - late * run.pace
            };
            self.parts(wait.began, *read).map(left).fold(f64::INFINITY, f64::min)
        };
        match wait.form {
            Form::For => duration(wait.deadline_ns),
            Form::Until(family) => deadline(family),
            Form::About(family) => deadline(family).min(duration(wait.deadline_ns - before_ns)),
        }
    }

    /// How much less than a duration the guest's own clock went on during the wait for it; `None` where that means
    /// nothing, as MONOTONIC has been stepped or has stood.
    pub(super) fn short_ns(&self, record: &Record) -> Option<i64> {
        if record.result != OVER || record.wait.form != Form::For {
            return None;
        }
        let mut previous: Option<Run> = None;
        for (segment, ..) in self.parts(record.wait.began, record.read) {
            let run = segment.runs[Family::Monotonic as usize];
            let step_ns = previous.map_or(0.0, |previous| self.left(previous, run.anchor.1, run.anchor.0).abs());
            let bend_ns = previous
                .map_or(0.0, |previous| (previous.pace - run.pace).abs() * self.between(segment.from, run.anchor.0));
            if run.pace == 0.0 || step_ns > bend_ns + 1e6 {
                return None;
            }
            previous = Some(run);
        }
        Some(record.wait.deadline_ns - (record.after_ns - record.before_ns))
    }

    /// How long a wait that has not been over before `now` has lasted too long, in nanoseconds of the host.
    pub(super) fn late_ns(&self, wait: &Wait, now: u64) -> f64 {
        let due = match wait.form {
            Form::Until(family) => self.deadline_passed(family, wait, now),
            Form::For => self.duration_passed(wait, now),
            // Where a change comes between two readings, nobody knows for how long the C library waits.
            Form::About(_) => None,
        };
        let woken = (wait.woken != 0).then(|| wait.woken.max(wait.began));
        let due = due.into_iter().chain(woken).min();
        due.map_or(0.0, |due| self.between(due, now))
    }

    /// Since when a clock has been past a deadline without a break.
    pub(super) fn deadline_passed(&self, family: Family, wait: &Wait, now: u64) -> Option<u64> {
        let mut since = None;
        for index in (0..=self.at(now)).rev() {
            let segment = &self.segments[index];
            let run = segment.runs[family as usize];
            // What happens while a change takes effect is nobody's fault.
            let end = self.segments.get(index + 1).map_or(now, |next| next.from.min(now));
            let start = segment.settled.max(wait.began);
            let left = self.left(run, wait.deadline_ns, start).max(0.0);
            let pace = waiting_pace(run.pace);
            let due = start.saturating_add((left / pace / self.tick_ns) as u64);
            if due > end && start <= end {
                break;
            }
            if start <= end {
                since = Some(due);
            }
            if due > start || start == wait.began {
                break;
            }
        }
        since
    }

    /// When a duration was over.
    pub(super) fn duration_passed(&self, wait: &Wait, now: u64) -> Option<u64> {
        let (mut left, mut at) = (wait.deadline_ns as f64, wait.began);
        let mut first = self.at(wait.began);
        // A change that had not returned by then may not have taken effect.
        if first > 0 && self.segments[first].settled > wait.began {
            first -= 1;
        }
        let pace = |segment: &Segment| waiting_pace(segment.runs[Family::Monotonic as usize].pace);
        for (index, segment) in self.segments.iter().enumerate().skip(first) {
            let next = self.segments.get(index + 1);
            // While a change takes effect, the slower pace counts.
            let stretches = [
                (pace(segment), next.map_or(u64::MAX, |next| next.from)),
                (next.map_or(1.0, |next| pace(segment).min(pace(next))), next.map_or(u64::MAX, |next| next.settled)),
            ];
            for (pace, until) in stretches {
                let passes_ns = self.between(at, until.min(now)) * pace;
                if passes_ns >= left {
                    return Some(at + (left / pace / self.tick_ns) as u64);
                }
                left -= passes_ns;
                at = at.max(until.min(now));
            }
            if at >= now {
                break;
            }
        }
        None
    }

    /// Whether the clocks ran, unchanged, throughout.
    pub(super) fn is_quiet(&self, family: Family, from: u64, to: u64) -> bool {
        let mut parts = self.parts(from, to);
        let runs = |(segment, ..): (&Segment, u64, u64)| segment.runs[family as usize].pace > 0.0;
        parts.next().is_some_and(runs) && parts.next().is_none()
    }
}

/// The pace of waits, by which time goes on where a clock stands.
pub(super) fn waiting_pace(pace: f64) -> f64 {
    if pace == 0.0 { 1.0 } else { pace }
}
