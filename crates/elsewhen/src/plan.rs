//! From what was asked to the maps of a page: pure, given the host's clocks.
//!
//! Every change takes effect at one host instant, a little in the future, for all members at once. Until then
//! the old map holds, so no reader can have used the old map for a time that belongs to the new one.

use crate::error::{Error, Result};
use crate::spec::{Pace, Position, Spec};
use elsewhen_vdso::clock::{Family, TIMELINES, Timeline};
use elsewhen_vdso::page::Map;
use elsewhen_vdso::transform::{Affine, HostNs, MemberNs, Pivot};

/// The maps of every timeline, in the order of their places.
pub(crate) type Maps = [Map; TIMELINES];

/// How a plan treats the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// No member has read a clock yet: the maps hold from the beginning of time.
    Fresh,
    /// Members are running: the maps take over `lead_ns` nanoseconds from now, and no clock but REALTIME's may
    /// step back.
    Running {
        /// Nanoseconds of host time from the sample to the change.
        lead_ns: i64,
    },
}

/// The maps that `spec` asks for, given those in force and a sample of the host's clocks.
///
/// # Errors
/// Where a clock would leave its range, or step back though it must not.
pub(crate) fn plan(current: &Maps, now: &[HostNs; TIMELINES], start: Start, spec: &Spec) -> Result<Maps> {
    let mut planned = *current;
    for timeline in Timeline::ALL {
        let family = timeline.family();
        let (position, pace) = spec.of(family);
        if position.is_none() && pace.is_none() {
            continue;
        }
        let place = timeline as usize;
        let before = current[place].to_pivot().at(now[place]);
        let lead_ns = if let Start::Running { lead_ns } = start { lead_ns } else { 0 };
        let at = HostNs(now[place].0.saturating_add(lead_ns));
        let mult = match pace {
            Some(Pace::Rate(rate)) => rate.mult(),
            Some(Pace::Frozen) => 0,
            // What is to come, where a change of pace lies ahead.
            None => current[place].to_pivot().after.mult,
        };
        let pivot = match position {
            None => Pivot::bend(before, at, mult),
            Some(position) => {
                let member_ns = target(position, timeline, at, now, mult, lead_ns)?;
                check_range(family, member_ns)?;
                let after = Affine { host_ns: at.0, member_ns: member_ns as i64, mult };
                Pivot { at_host_ns: at.0, before, after }
            }
        };
        if let Start::Running { .. } = start
            && family != Family::Realtime
            && pivot.after.to_member(at) < pivot.before.to_member(at)
        {
            return Err(Error::invalid(format!(
                "{} cannot be set back: it reads {} and would read {}; members rely on it never going backwards",
                family.name(),
                seconds(pivot.before.to_member(at)),
                seconds(pivot.after.to_member(at))
            )));
        }
        planned[place] = match start {
            Start::Fresh => Map::from_pivot(Pivot::settled(pivot.after)),
            Start::Running { .. } => Map::Pivot(pivot),
        };
    }
    Ok(planned)
}

/// The same maps, those that differ from `current` without what lies before their change. The others may have a change
/// ahead.
pub(crate) fn settled(planned: &Maps, current: &Maps) -> Maps {
    std::array::from_fn(|place| match planned[place] == current[place] {
        true => planned[place],
        false => Map::from_pivot(Pivot::settled(planned[place].to_pivot().after)),
    })
}

/// Where a position puts a timeline at the host instant `at`.
fn target(
    position: Position,
    timeline: Timeline,
    at: HostNs,
    now: &[HostNs; TIMELINES],
    mult: u64,
    lead_ns: i64,
) -> Result<i128> {
    Ok(match position {
        Position::Offset { ns } => i128::from(at.0) + i128::from(ns),
        Position::At { realtime_ns } => {
            // TAI keeps its distance from REALTIME, and the date is asked for the moment of the sample.
            let distance = i128::from(now[timeline as usize].0) - i128::from(now[Timeline::Realtime as usize].0);
            let passed = Affine { host_ns: 0, member_ns: 0, mult }.to_member(HostNs(lead_ns)).0;
            i128::from(realtime_ns) + distance + i128::from(passed)
        }
    })
}

fn check_range(family: Family, member_ns: i128) -> Result<()> {
    if (0..=i128::from(i64::MAX)).contains(&member_ns) {
        return Ok(());
    }
    Err(Error::invalid(match family {
        Family::Realtime => "the date would lie outside 1970 to 2262 (2262-04-11T23:47:16Z)".into(),
        _ if member_ns < 0 => {
            format!("{} would lie below zero; it counts from the start of the machine", family.name())
        }
        _ => format!("{} would lie beyond 292 years", family.name()),
    }))
}

fn seconds(time: MemberNs) -> String {
    format!("{:.3} s", time.0 as f64 / 1e9)
}
