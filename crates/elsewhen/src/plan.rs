//! From what was asked to the maps of a page: pure, given the host's clocks.
//!
//! Every change takes effect at one host instant, a little in the future, for all members at once. Until then
//! the old map holds, so no reader can have used the old map for a time that belongs to the new one.

use crate::error::{Error, Result};
use crate::spec::{Pace, Position, Rate, Spec};
use elsewhen_vdso::clock::{Family, TIMELINES, Timeline};
use elsewhen_vdso::page::Map;
use elsewhen_vdso::transform::{Affine, HostNs, MemberNs, Pivot, RATE_ONE, RATE_SHIFT, Split};

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
        let runs = current[place].to_pivot().after.mult != 0;
        if position.is_none() && pace == Some(Pace::Thawed) && runs {
            // What it does, and what lies ahead of it, goes on.
            continue;
        }
        let before = current[place].to_pivot().at(now[place]);
        let lead_ns = if let Start::Running { lead_ns } = start { lead_ns } else { 0 };
        let at = HostNs(now[place].0.saturating_add(lead_ns));
        let mult = match pace {
            Some(Pace::Rate(rate)) => rate.mult(),
            Some(Pace::Frozen) => 0,
            Some(Pace::Thawed) => match current[place].to_pivot().after.mult {
                0 => RATE_ONE,
                mult => mult,
            },
            // What is to come, where a change of pace lies ahead.
            None => current[place].to_pivot().after.mult,
        };
        let pivot = match position {
            None => Pivot::bend(before, at, mult),
            Some(position) => {
                let member_ns = target(position, timeline, at, now, mult, before)?;
                check_range(family, member_ns)?;
                let after = Affine { host_ns: at.0, member_ns: member_ns as i64, mult };
                Pivot { at_host_ns: at.0, before, after }
            }
        };
        if let Start::Running { .. } = start
            && spec.smoothness().is_none()
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

/// The maps of a namespace made inside another: what `spec` asks is asked of the clocks that are read there.
///
/// # Errors
/// Where a clock would leave its range, or run slower than 1/1000 or faster than 1000.
pub(crate) fn nested(outer: &Maps, host: &[HostNs; TIMELINES], spec: &Spec) -> Result<Maps> {
    let outer: [Affine; TIMELINES] = std::array::from_fn(|place| outer[place].to_pivot().at(host[place]));
    let read = std::array::from_fn(|place| HostNs(outer[place].to_member(host[place]).0));
    let identity = [Map::Offset(Split { sec: 0, nsec: 0 }); TIMELINES];
    let mut inner = plan(&identity, &read, Start::Fresh, spec)?;
    for timeline in Timeline::ALL {
        let place = timeline as usize;
        let map = inner[place].to_pivot().after;
        let mult = (u128::from(map.mult) * u128::from(outer[place].mult)) >> RATE_SHIFT;
        let mult = match u64::try_from(mult).ok().filter(|mult| *mult == 0 || Rate::from_mult(*mult).is_some()) {
            Some(mult) => mult,
            None => {
                let family = timeline.family().name();
                return Err(Error::invalid(format!(
                    "{family} would run at {} times the host's pace, which is not within 1/1000 and 1000",
                    mult as f64 / RATE_ONE as f64
                )));
            }
        };
        let member_ns = map.to_member(read[place]).0;
        inner[place] = Map::from_pivot(Pivot::settled(Affine { host_ns: host[place].0, member_ns, mult }));
    }
    Ok(inner)
}

/// The maps that end a slew: those that were planned, unless it is too late for them. Then a clock that would be set back
/// goes on from where it is.
pub(crate) fn ended(settled: &Maps, now: &[HostNs; TIMELINES], lead_ns: i64) -> Maps {
    std::array::from_fn(|place| {
        let (pivot, at) = (settled[place].to_pivot(), HostNs(now[place].0.saturating_add(lead_ns)));
        if pivot.at_host_ns == i64::MIN || at.0 <= pivot.at_host_ns {
            return settled[place];
        }
        let Pivot { before, after, .. } = pivot;
        match after.to_member(at) >= before.to_member(at) {
            true => Map::Pivot(Pivot { at_host_ns: at.0, before, after }),
            false => Map::Pivot(Pivot::bend(before, at, after.mult)),
        }
    })
}

/// A planned change spread over some time: first the clocks that it moves run faster or slower, then the planned maps take
/// over where they have got to. Neither makes a clock jump.
///
/// # Errors
/// Where a clock would have to run slower than 1/1000 or faster than 1000 for that.
pub(crate) fn smooth(planned: &Maps, current: &Maps, duration_ns: i64) -> Result<(Maps, Maps)> {
    let (mut slewing, mut settled) = (*planned, *planned);
    for timeline in Timeline::ALL {
        let place = timeline as usize;
        if planned[place] == current[place] {
            continue;
        }
        let Pivot { at_host_ns, before, after } = planned[place].to_pivot();
        let (start, end) = (HostNs(at_host_ns), HostNs(at_host_ns.saturating_add(duration_ns)));
        let (from, to) = (before.to_member(start).0, after.to_member(end).0);
        // Rounded down, so that the last reading of the slew is none beyond the first of what follows.
        let passed = i128::from(to) - i128::from(from);
        let mult = (passed.max(0) << RATE_SHIFT) / i128::from(duration_ns);
        let rate = u64::try_from(mult).ok().and_then(Rate::from_mult).ok_or_else(|| {
            Error::invalid(format!(
                "{} would have to count {} s in {} s, which is not within 1/1000 and 1000 times that; give it more time",
                timeline.family().name(),
                passed as f64 / 1e9,
                duration_ns as f64 / 1e9
            ))
        })?;
        let slew = Affine { host_ns: start.0, member_ns: from, mult: rate.mult() };
        slewing[place] = Map::Pivot(Pivot { at_host_ns, before, after: slew });
        settled[place] = Map::Pivot(Pivot { at_host_ns: end.0, before: slew, after });
    }
    Ok((slewing, settled))
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
    before: Affine,
) -> Result<i128> {
    let lead_ns = at.0.saturating_sub(now[timeline as usize].0);
    Ok(match position {
        Position::Offset { ns } => i128::from(at.0) + i128::from(ns),
        Position::By { ns } => i128::from(before.to_member(at).0) + i128::from(ns),
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

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use proptest::prelude::*;

    const NOW: [HostNs; TIMELINES] = [HostNs(1_800_000_000_000_000_000); TIMELINES];

    fn running(current: &Maps, spec: &Spec) -> Result<Maps> {
        plan(current, &NOW, Start::Running { lead_ns: 500_000 }, spec)
    }

    #[test]
    fn a_distance_counts_from_where_the_clock_is() {
        let ahead = [Map::Offset(Split::from_ns(5_000)); TIMELINES];
        let spec = Spec::new().by(Family::Realtime, SignedDuration::from_nanos(-2_000));
        let planned = running(&ahead, &spec).unwrap()[Timeline::Realtime as usize].to_pivot();
        assert_eq!(planned.after.offset_ns(), Some(3_000));
        let spec = Spec::new().by(Family::Monotonic, SignedDuration::from_nanos(-2_000));
        assert!(running(&ahead, &spec).unwrap_err().is_invalid(), "MONOTONIC does not go back");
    }

    #[test]
    fn inside_another_a_namespace_starts_from_what_is_read_there() {
        let fast = Affine { host_ns: NOW[0].0, member_ns: 5_000_000_000, mult: 10 * RATE_ONE };
        let outer = [Map::Pivot(Pivot::settled(fast)); TIMELINES];
        let spec = Spec::new().offset(Family::Realtime, SignedDuration::from_secs(1));
        let spec = spec.rate_of(Family::Monotonic, Rate::parse("0.5").unwrap());
        let inner = nested(&outer, &NOW, &spec).unwrap();
        let at = |timeline: Timeline, later| inner[timeline as usize].to_pivot().to_member(HostNs(NOW[0].0 + later)).0;
        assert_eq!((at(Timeline::Realtime, 0), at(Timeline::Realtime, 7)), (6_000_000_000, 6_000_000_070));
        assert_eq!((at(Timeline::Monotonic, 0), at(Timeline::Monotonic, 8)), (5_000_000_000, 5_000_000_040));
        assert_eq!(at(Timeline::Boottime, 3), 5_000_000_030);
        let too_fast = Spec::new().rate(Rate::parse("500").unwrap());
        assert!(nested(&outer, &NOW, &too_fast).unwrap_err().is_invalid());
    }

    #[test]
    fn only_clocks_that_stand_are_thawed() {
        let frozen =
            running(&[Map::Offset(Split::from_ns(0)); TIMELINES], &Spec::new().freeze(Family::Realtime)).unwrap();
        let fast = running(&frozen, &Spec::new().rate_of(Family::Monotonic, Rate::parse("3").unwrap())).unwrap();
        let thawed = running(&fast, &Spec::new().thaw(crate::Clocks::ALL)).unwrap();
        assert_eq!(thawed[Timeline::Realtime as usize].to_pivot().after.mult, RATE_ONE);
        assert_eq!(thawed[Timeline::Monotonic as usize].to_pivot().after.mult, 3 * RATE_ONE);
    }

    proptest! {
        #[test]
        fn a_slew_that_ends_late_sets_nothing_back(step_ms in -900..3_600_000i64, late_ns in 0..1_000_000_000i64) {
            let current = [Map::Offset(Split::from_ns(0)); TIMELINES];
            let spec = Spec::new().by(Family::Realtime, SignedDuration::from_millis(step_ms));
            let spec = spec.smooth(std::time::Duration::from_secs(1));
            let planned = running(&current, &spec).unwrap();
            let Ok((_, settled)) = smooth(&planned, &current, 1_000_000_000) else { return Ok(()) };
            let end = settled[0].to_pivot();
            let now = NOW.map(|_| HostNs(end.at_host_ns + late_ns));
            let pivot = ended(&settled, &now, 500_000)[0].to_pivot();
            let at = HostNs(now[0].0 + 500_000);
            prop_assert_eq!(pivot.at_host_ns, at.0);
            prop_assert!(pivot.after.to_member(at) >= end.before.to_member(at));
            let early = NOW.map(|_| HostNs(end.at_host_ns - 1_000_000));
            prop_assert_eq!(ended(&settled, &early, 500_000), settled);
        }

        #[test]
        fn a_smooth_change_never_jumps_and_ends_where_the_step_does(
            step_ms in -3_600_000..3_600_000i64,
            duration_ms in 1..10_000_000i64,
            probes in prop::collection::vec(0..11_000_000_000_000i64, 16),
        ) {
            let current = [Map::Offset(Split::from_ns(77)); TIMELINES];
            let duration = duration_ms * 1_000_000;
            let spec = Spec::new().by(Family::Realtime, SignedDuration::from_millis(step_ms));
            let spec = spec.smooth(std::time::Duration::from_nanos(duration as u64));
            let planned = running(&current, &spec).unwrap();
            let place = Timeline::Realtime as usize;
            let Ok((slewing, settled)) = smooth(&planned, &current, duration) else {
                let rate = (duration_ms + step_ms) as f64 / duration_ms as f64;
                prop_assert!(!(0.00101..999.9).contains(&rate), "refused at rate {}", rate);
                return Ok(());
            };
            let (slewing, settled) = (slewing[place].to_pivot(), settled[place].to_pivot());
            let mut probes = probes;
            probes.sort_unstable();
            let start = slewing.at_host_ns;
            prop_assert_eq!(slewing.after.to_member(HostNs(start)), slewing.before.to_member(HostNs(start)));
            // What holds from the beginning of the slew on is the same in both.
            let mut last = slewing.to_member(HostNs(start - 1));
            for probe in probes {
                let reading = settled.to_member(HostNs(start + probe));
                prop_assert!(reading >= last);
                last = reading;
                if probe >= duration {
                    prop_assert_eq!(reading, planned[place].to_pivot().to_member(HostNs(start + probe)));
                }
            }
            let end = HostNs(settled.at_host_ns);
            let jump = settled.after.to_member(end).0 - settled.before.to_member(end).0;
            prop_assert!((0..=1_000).contains(&jump), "jumps by {} ns", jump);
        }
    }
}
