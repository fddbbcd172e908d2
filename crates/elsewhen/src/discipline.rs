//! Setting and disciplining a namespace's REALTIME from inside: `clock_settime(2)`, `settimeofday(2)`, `adjtimex(2)`.
//!
//! A member's call comes here by way of the supervisor. What the kernel keeps for the machine (`kernel/time/ntp.c`)
//! is kept here for the namespace: frequency and tick become the clock's rate, a step moves it, an offset is slewed
//! at 500 parts per million. Nothing of it reaches the host's clock, and MONOTONIC keeps its pace.

use crate::namespace::{Inner, LEAD_NS};
use crate::spec::{Family, Rate, Spec};
use elsewhen_linux::clock;
use elsewhen_vdso::clock::{ClockId, Timeline};
use elsewhen_vdso::page::Map;
use elsewhen_vdso::transform::{HostNs, NSEC_PER_SEC, Pivot, RATE_ONE, wait_to_host, wait_to_member};
use std::sync::{MutexGuard, PoisonError};

const EPERM: i32 = 1;
const EINVAL: i32 = 22;

/// Bytes of `struct timex`.
pub(crate) const TIMEX_LEN: usize = 208;

// Offsets in `struct timex`.
const MODES: usize = 0;
const OFFSET: usize = 8;
const FREQUENCY: usize = 16;
const MAXERROR: usize = 24;
const ESTERROR: usize = 32;
const STATUS: usize = 40;
const CONSTANT: usize = 48;
const PRECISION: usize = 56;
const TOLERANCE: usize = 64;
const SECONDS: usize = 72;
const FRACTION: usize = 80;
const TICK: usize = 88;
const TAI: usize = 160;

// `ADJ_*` of `adjtimex(2)`.
const ADJ_OFFSET: u32 = 0x1;
const ADJ_FREQUENCY: u32 = 0x2;
const ADJ_MAXERROR: u32 = 0x4;
const ADJ_ESTERROR: u32 = 0x8;
const ADJ_STATUS: u32 = 0x10;
const ADJ_TIMECONST: u32 = 0x20;
const ADJ_TAI: u32 = 0x80;
const ADJ_SETOFFSET: u32 = 0x100;
const ADJ_MICRO: u32 = 0x1000;
const ADJ_NANO: u32 = 0x2000;
const ADJ_TICK: u32 = 0x4000;
const ADJ_ADJTIME: u32 = 0x8000;
const ADJ_READONLY: u32 = 0x2000;

const STA_UNSYNC: i32 = 0x40;
const STA_NANO: i32 = 0x2000;
/// The bits of a status that only the kernel sets.
const STA_READ_ONLY: i32 = 0xff00;
/// What `adjtimex` returns for a clock that is synchronised, and for one that is not.
const TIME_OK: i64 = 0;
const TIME_ERROR: i64 = 5;

/// The largest frequency, in units of 2^-16 parts per million, and the largest offset to slew.
const MAX_FREQUENCY: i64 = 500 << 16;
const MAX_OFFSET_NS: i64 = NSEC_PER_SEC / 2;
/// `PPM_SCALE` of `include/linux/timex.h`: what a frequency must be able to be multiplied by.
const PPM_SCALE: i64 = 65_536_000;
/// The farthest distance of TAI, in seconds.
const MAX_TAI: i64 = 100_000;
/// Microseconds of a tick at `USER_HZ`.
const TICK_US: i64 = 10_000;
/// The largest error, in microseconds.
const MAX_ERROR: i64 = 16_000_000;

/// The state of a namespace's discipline.
#[derive(Debug)]
pub(crate) struct Discipline {
    frequency: i64,
    tick_us: i64,
    status: i32,
    max_error: i64,
    est_error: i64,
    constant: i64,
    /// The rate to which frequency and tick are applied.
    base: u64,
    /// The rate that was last put on the page; another one there was set from outside.
    applied: u64,
    /// The end of the slew in progress, by the host's REALTIME, and its sign.
    slew: (HostNs, i64),
}

impl Default for Discipline {
    fn default() -> Self {
        Self {
            frequency: 0,
            tick_us: TICK_US,
            status: STA_UNSYNC,
            max_error: MAX_ERROR,
            est_error: MAX_ERROR,
            constant: 2,
            base: RATE_ONE,
            applied: RATE_ONE,
            slew: (HostNs(i64::MIN), 0),
        }
    }
}

impl Discipline {
    fn rate(&self) -> u64 {
        // 2^16 parts per million, and a tick of 10,000 microseconds, make one.
        let parts = i128::from(self.tick_us) * ((1_000_000 << 16) + i128::from(self.frequency));
        (i128::from(self.base) * parts / (i128::from(TICK_US) * (1_000_000 << 16))) as u64
    }

    /// Forgets a slew, as a clock that is set does (`ntp_clear` in `kernel/time/ntp.c`).
    fn clear(&mut self) {
        self.slew.1 = 0;
        self.status |= STA_UNSYNC;
        self.max_error = MAX_ERROR;
        self.est_error = MAX_ERROR;
    }
}

/// A slew gains a nanosecond in so many.
const SLEW_PARTS: i64 = 2000;

/// The result of a system call: what it returns, or an error number.
pub(crate) type Answer = Result<i64, i32>;

impl Inner {
    /// Sets REALTIME, where members may; without a time, says whether they may.
    pub(crate) fn set_clock(&self, realtime_ns: Option<i64>) -> Answer {
        if !self.reach.settable {
            return Err(EPERM);
        }
        let Some(ns) = realtime_ns else { return Ok(0) };
        // As the kernel: the machine was not started before 1970.
        if ns < self.now_ns(Timeline::Monotonic) {
            return Err(EINVAL);
        }
        let date = jiff::Timestamp::from_nanosecond(i128::from(ns)).map_err(|_| EINVAL)?;
        self.change(&Spec::new().at(date)).map_err(|_| EINVAL)?;
        self.discipline().clear();
        Ok(0)
    }

    /// What is left of a slew, in nanoseconds.
    fn left_ns(&self, discipline: &Discipline) -> i64 {
        let (end, sign) = discipline.slew;
        if !self.is_slewing(discipline) {
            return 0;
        }
        let left = end.0.saturating_sub(clock::now(ClockId::Realtime).0).max(0);
        wait_to_member(left, discipline.applied) / SLEW_PARTS * sign
    }

    /// Whether the end of a slew lies ahead. Somebody outside may have changed the clock since.
    fn is_slewing(&self, discipline: &Discipline) -> bool {
        let pivot = self.page.page().maps()[Timeline::Realtime as usize].to_pivot();
        pivot.at_host_ns == discipline.slew.0.0 && pivot.at_host_ns > clock::now(ClockId::Realtime).0
    }

    /// `adjtimex(2)` on a `struct timex`, which is filled in.
    pub(crate) fn adjust_clock(&self, timex: &mut [u8; TIMEX_LEN]) -> Answer {
        let modes = get(timex, MODES) as u32;
        let single = modes & ADJ_ADJTIME != 0;
        let reads = modes == 0 || (single && modes & ADJ_READONLY != 0);
        if single && modes & ADJ_OFFSET == 0 {
            return Err(EINVAL);
        }
        if !reads && !self.reach.settable {
            return Err(EPERM);
        }
        let mut discipline = self.discipline();
        let mut reported = self.left_ns(&discipline);
        if !reads && single {
            // As `adjtime(3)`: microseconds, and the old rest is returned.
            self.slew(&mut discipline, get(timex, OFFSET).saturating_mul(1000))?;
        } else if !reads {
            self.adjust(&mut discipline, modes, timex)?;
            reported = self.left_ns(&discipline);
        }
        let nano = discipline.status & STA_NANO != 0;
        let unit = if nano && !single { 1 } else { 1000 };
        put(timex, OFFSET, reported / unit);
        put(timex, FREQUENCY, discipline.frequency);
        put(timex, MAXERROR, discipline.max_error);
        put(timex, ESTERROR, discipline.est_error);
        put_int(timex, STATUS, discipline.status);
        put(timex, CONSTANT, discipline.constant);
        put(timex, PRECISION, 1);
        put(timex, TOLERANCE, MAX_FREQUENCY);
        put(timex, TICK, discipline.tick_us);
        let now_ns = self.now_ns(Timeline::Realtime);
        put(timex, SECONDS, now_ns.div_euclid(NSEC_PER_SEC));
        put(timex, FRACTION, now_ns.rem_euclid(NSEC_PER_SEC) / if nano { 1 } else { 1000 });
        let tai_ns = self.now_ns(Timeline::Tai).saturating_sub(now_ns);
        put_int(timex, TAI, ((tai_ns + NSEC_PER_SEC / 2) / NSEC_PER_SEC) as i32);
        Ok(if discipline.status & STA_UNSYNC != 0 { TIME_ERROR } else { TIME_OK })
    }

    fn adjust(&self, discipline: &mut Discipline, modes: u32, timex: &[u8; TIMEX_LEN]) -> Result<(), i32> {
        if modes & ADJ_TICK != 0 && !(TICK_US * 9 / 10..=TICK_US * 11 / 10).contains(&get(timex, TICK)) {
            return Err(EINVAL);
        }
        if modes & ADJ_FREQUENCY != 0 && get(timex, FREQUENCY).checked_mul(PPM_SCALE).is_none() {
            return Err(EINVAL);
        }
        if modes & ADJ_SETOFFSET != 0 {
            let (unit, limit) = if modes & ADJ_NANO != 0 { (1, NSEC_PER_SEC) } else { (1000, NSEC_PER_SEC / 1000) };
            let fraction = get(timex, FRACTION);
            if !(0..limit).contains(&fraction) {
                return Err(EINVAL);
            }
            let step = jiff::SignedDuration::new(get(timex, SECONDS), (fraction * unit) as i32);
            self.change(&Spec::new().by(Family::Realtime, step)).map_err(|_| EINVAL)?;
            discipline.clear();
        }
        if modes & ADJ_STATUS != 0 {
            let kept = discipline.status & STA_READ_ONLY;
            discipline.status = kept | (get(timex, STATUS) as i32 & !STA_READ_ONLY);
        }
        if modes & ADJ_NANO != 0 {
            discipline.status |= STA_NANO;
        }
        if modes & ADJ_MICRO != 0 {
            discipline.status &= !STA_NANO;
        }
        if modes & ADJ_MAXERROR != 0 {
            discipline.max_error = get(timex, MAXERROR).clamp(0, MAX_ERROR);
        }
        if modes & ADJ_ESTERROR != 0 {
            discipline.est_error = get(timex, ESTERROR).clamp(0, MAX_ERROR);
        }
        if modes & ADJ_TIMECONST != 0 {
            let coarse = if discipline.status & STA_NANO != 0 { 0 } else { 4 };
            discipline.constant = get(timex, CONSTANT).saturating_add(coarse).clamp(0, 10);
        }
        if modes & ADJ_TAI != 0 && (0..=MAX_TAI).contains(&get(timex, CONSTANT)) {
            self.set_tai(get(timex, CONSTANT))?;
        }
        if modes & ADJ_FREQUENCY != 0 {
            discipline.frequency = get(timex, FREQUENCY).clamp(-MAX_FREQUENCY, MAX_FREQUENCY);
        }
        if modes & ADJ_TICK != 0 {
            discipline.tick_us = get(timex, TICK);
        }
        if modes & (ADJ_FREQUENCY | ADJ_TICK) != 0 {
            self.pace(discipline)?;
        }
        if modes & ADJ_OFFSET != 0 {
            let unit = if discipline.status & STA_NANO != 0 { 1 } else { 1000 };
            let offset_ns = get(timex, OFFSET).saturating_mul(unit);
            self.slew(discipline, offset_ns.clamp(-MAX_OFFSET_NS, MAX_OFFSET_NS))?;
        }
        Ok(())
    }

    /// Puts TAI so many seconds ahead of REALTIME.
    fn set_tai(&self, seconds: i64) -> Result<(), i32> {
        let ahead_ns = self.now_ns(Timeline::Tai).saturating_sub(self.now_ns(Timeline::Realtime));
        // The two were read one after the other.
        let found = (ahead_ns + NSEC_PER_SEC / 2).div_euclid(NSEC_PER_SEC);
        let step_ns = (seconds - found) * NSEC_PER_SEC;
        self.publish(|maps| {
            let mut pivot = maps[Timeline::Tai as usize].to_pivot();
            pivot.before.member_ns = pivot.before.member_ns.saturating_add(step_ns);
            pivot.after.member_ns = pivot.after.member_ns.saturating_add(step_ns);
            maps[Timeline::Tai as usize] = Map::from_pivot(pivot);
        })
        .map_err(|_| EINVAL)
    }

    /// Puts frequency and tick on the clock. A slew in progress ends.
    fn pace(&self, discipline: &mut Discipline) -> Result<(), i32> {
        let current = self.page.page().maps()[Timeline::Realtime as usize].to_pivot().after.mult;
        if current != discipline.applied {
            // Somebody outside has set another rate, to which the discipline applies from now on.
            discipline.base = current;
        }
        let mult = discipline.rate();
        if (mult != current || self.is_slewing(discipline))
            && let Some(rate) = Rate::from_mult(mult)
        {
            self.change(&Spec::new().rate_of(Family::Realtime, rate)).map_err(|_| EINVAL)?;
        }
        discipline.applied = mult;
        discipline.slew.1 = 0;
        Ok(())
    }

    /// Lets the clock gain or lose an offset at 500 parts per million, then run on as before.
    fn slew(&self, discipline: &mut Discipline, offset_ns: i64) -> Result<(), i32> {
        self.pace(discipline)?;
        if offset_ns == 0 || discipline.applied == 0 {
            return Ok(());
        }
        let (mult, sign) = (discipline.applied, offset_ns.signum());
        let slewing = mult.saturating_add_signed(sign * (mult / SLEW_PARTS.unsigned_abs()) as i64);
        let Some(rate) = Rate::from_mult(slewing) else { return Err(EINVAL) };
        self.change(&Spec::new().rate_of(Family::Realtime, rate)).map_err(|_| EINVAL)?;
        let lasts = wait_to_host(offset_ns.saturating_abs().saturating_mul(SLEW_PARTS), mult);
        let mut end = HostNs(i64::MIN);
        self.publish(|maps| {
            for timeline in [Timeline::Tai, Timeline::Realtime] {
                let before = maps[timeline as usize].to_pivot().after;
                let now_ns = clock::now(timeline.clock()).0;
                // It has been slewing since the change took effect, where its map begins; an offset has no beginning.
                let since_ns = now_ns.saturating_sub(before.host_ns);
                let since_ns = if (0..NSEC_PER_SEC).contains(&since_ns) { since_ns } else { 0 };
                let at = HostNs(now_ns.saturating_add((lasts - since_ns).max(LEAD_NS)));
                if before.mult != rate.mult() {
                    // Somebody outside has set another rate meanwhile, which is to last.
                    continue;
                }
                end = at;
                maps[timeline as usize] = Map::Pivot(Pivot::bend(before, at, mult));
            }
        })
        .map_err(|_| EINVAL)?;
        discipline.slew = (end, sign);
        Ok(())
    }

    fn discipline(&self) -> MutexGuard<'_, Discipline> {
        self.discipline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn get(timex: &[u8; TIMEX_LEN], at: usize) -> i64 {
    let mut word = [0; 8];
    word.copy_from_slice(&timex[at..at + 8]);
    i64::from_le_bytes(word)
}

fn put(timex: &mut [u8; TIMEX_LEN], at: usize, value: i64) {
    timex[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn put_int(timex: &mut [u8; TIMEX_LEN], at: usize, value: i32) {
    timex[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::Namespace;

    fn call(namespace: &Namespace, modes: u32, set: &[(usize, i64)]) -> (Answer, [u8; TIMEX_LEN]) {
        let mut timex = [0; TIMEX_LEN];
        for (at, value) in set {
            put(&mut timex, *at, *value);
        }
        timex[..4].copy_from_slice(&modes.to_le_bytes());
        (namespace.0.adjust_clock(&mut timex), timex)
    }

    #[test]
    fn a_namespace_that_is_not_settable_refuses_everyone_and_tells_its_time() {
        let namespace = Namespace::new(&Spec::new()).unwrap();
        assert_eq!(namespace.0.set_clock(Some(0)), Err(EPERM));
        assert_eq!(namespace.0.set_clock(None), Err(EPERM));
        assert_eq!(call(&namespace, ADJ_FREQUENCY, &[]).0, Err(EPERM));
        let (answer, timex) = call(&namespace, 0, &[]);
        assert_eq!(answer, Ok(TIME_ERROR));
        assert!((get(&timex, SECONDS) - clock::now(ClockId::Realtime).0 / NSEC_PER_SEC).abs() < 60);
    }

    #[test]
    fn a_frequency_is_a_rate_and_a_step_moves() {
        let namespace = Namespace::new(&Spec::new().settable()).unwrap();
        assert_eq!(namespace.0.set_clock(Some(1_000_000_000_000_000_000)), Ok(0));
        let set = [(FREQUENCY, 100 << 16), (TICK, 10_100)];
        assert_eq!(call(&namespace, ADJ_FREQUENCY | ADJ_TICK, &set).0, Ok(TIME_ERROR));
        let mult = namespace.0.page.page().maps()[0].to_pivot().after.mult as f64 / RATE_ONE as f64;
        assert!((mult - 1.01 * 1.0001).abs() < 1e-12, "{mult}");
        let before = namespace.now_ns(Family::Realtime);
        let step = [(SECONDS, -5), (FRACTION, 500_000)];
        assert_eq!(call(&namespace, ADJ_SETOFFSET, &step).0, Ok(TIME_ERROR));
        let moved = namespace.now_ns(Family::Realtime) - before;
        assert!((-4_500_000_000..0).contains(&moved), "{moved}");
        for (modes, at, value) in
            [(ADJ_TICK, TICK, 8_999), (ADJ_SETOFFSET, FRACTION, 1_000_000), (ADJ_SETOFFSET, FRACTION, -1)]
        {
            assert_eq!(call(&namespace, modes, &[(at, value)]).0, Err(EINVAL));
        }
    }

    #[test]
    fn an_offset_is_slewed_and_then_the_clock_runs_as_before() {
        let namespace = Namespace::new(&Spec::new().settable()).unwrap();
        let ahead = |namespace: &Namespace| namespace.realtime_offset_ns();
        let start = ahead(&namespace);
        // Fifty microseconds take a tenth of a second.
        assert_eq!(call(&namespace, ADJ_OFFSET | ADJ_NANO, &[(OFFSET, 50_000)]).0, Ok(TIME_ERROR));
        std::thread::sleep(std::time::Duration::from_millis(150));
        let gained = ahead(&namespace) - start;
        // Reading two clocks one after the other is late by whatever the machine does between.
        assert!(gained < 60_000_000 && gained > 40_000 - 10_000_000, "{gained}");
        assert_eq!(namespace.0.page.page().maps()[0].to_pivot().after.mult, RATE_ONE);
        let (_, timex) = call(&namespace, 0, &[]);
        assert_eq!(get(&timex, OFFSET), 0);
    }

    #[test]
    fn a_change_from_outside_ends_a_slew_and_is_kept() {
        let namespace = Namespace::new(&Spec::new().settable()).unwrap();
        let realtime = || namespace.0.page.page().maps()[0].to_pivot();
        // A slew of half a minute.
        assert_eq!(call(&namespace, ADJ_OFFSET | ADJ_NANO, &[(OFFSET, 15_000_000)]).0, Ok(TIME_ERROR));
        assert!(get(&call(&namespace, 0, &[]).1, OFFSET) > 10_000_000);
        let double = Rate::parse("2").unwrap();
        namespace.set(&Spec::new().rate_of(Family::Realtime, double)).unwrap();
        assert_eq!(get(&call(&namespace, 0, &[]).1, OFFSET), 0);
        assert_eq!(call(&namespace, ADJ_FREQUENCY, &[(FREQUENCY, 100 << 16)]).0, Ok(TIME_ERROR));
        let mult = realtime().after.mult as f64 / RATE_ONE as f64;
        assert!((mult - 2.0 * 1.0001).abs() < 1e-12, "{mult}");
        // A smooth change goes on beside it.
        let step = Spec::new().by(Family::Realtime, jiff::SignedDuration::from_secs(1));
        namespace.set(&step.smooth(std::time::Duration::from_secs(600))).unwrap();
        let smooth = realtime();
        assert!(smooth.at_host_ns > clock::now(ClockId::Realtime).0);
        assert_eq!(get(&call(&namespace, 0, &[]).1, OFFSET), 0);
        assert_eq!(call(&namespace, ADJ_FREQUENCY, &[(FREQUENCY, 100 << 16)]).0, Ok(TIME_ERROR));
        assert_eq!(realtime(), smooth);
    }
}
