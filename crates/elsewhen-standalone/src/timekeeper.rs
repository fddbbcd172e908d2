//! Keeping a data page right: a small counterpart of the kernel's `kernel/time/timekeeping.c`, which follows clocks that
//! somebody else keeps, such as a hypervisor or the host of a library OS.
//!
//! `CLOCK_MONOTONIC` and `CLOCK_MONOTONIC_RAW` are slewed and never go back. The other clocks keep their distance from the
//! former, until the clocks that are followed are set.

use crate::data::{COUNTER_NONE, DataPage, MODE_TSC, Source, mode};
use core::fmt;
use core::sync::atomic::{Ordering, fence};

const NSEC_PER_SEC: i128 = 1_000_000_000;
/// Least distance of two samples that tell a pace: shorter, and the error of each tells more.
const LEAST_NS: i64 = 1_000_000;
/// Most that the clocks are slewed by: one part in this many.
const SLEW: i128 = 2_000;
/// An error from which on a clock steps forward.
const STEP_NS: i128 = 1_000_000;
/// A change of a clock's distance that cannot be noise: somebody has set it.
const SET_NS: u64 = 50_000;
/// A change of a clock's distance that may well be noise.
const NOISE_NS: u64 = 500;
/// The clocks that keep their distance from MONOTONIC.
const DISTANT: [Clock; 3] = [Clock::Realtime, Clock::Boottime, Clock::Tai];
/// Longest that readers may go on alone; beyond, their products would not fit in 64 bits.
const LONGEST_NS: u64 = 8_000_000_000;

/// The clocks that are followed. The coarse ones follow from these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// `CLOCK_MONOTONIC`
    Monotonic,
    /// `CLOCK_REALTIME`
    Realtime,
    /// `CLOCK_BOOTTIME`
    Boottime,
    /// `CLOCK_TAI`
    Tai,
    /// `CLOCK_MONOTONIC_RAW`
    Raw,
}

impl Clock {
    /// All of them, in the order of their variants.
    pub const ALL: [Self; 5] = [Self::Monotonic, Self::Realtime, Self::Boottime, Self::Tai, Self::Raw];

    /// The id, as of `clock_gettime(2)`.
    pub const fn id(self) -> u32 {
        match self {
            Self::Realtime => 0,
            Self::Monotonic => 1,
            Self::Raw => 4,
            Self::Boottime => 7,
            Self::Tai => 11,
        }
    }
}

const REALTIME_COARSE: usize = 5;
const MONOTONIC_COARSE: usize = 6;

/// A clock and the counter at one instant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observation {
    /// The counter.
    pub cycles: u64,
    /// The clock, in ns.
    pub ns: i64,
    /// How many cycles the reading took: the instant is not known better.
    pub width: u64,
}

/// All clocks, each at an instant of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// By the order of [`Clock::ALL`].
    pub clocks: [Observation; 5],
}

impl Sample {
    /// Reads every clock some times between two readings of the counter, and keeps the narrowest of each.
    pub fn take(cycles: impl Fn() -> u64, read: impl Fn(Clock) -> i64, tries: u32) -> Self {
        let clocks = Clock::ALL.map(|clock| {
            let mut best = Observation { width: u64::MAX, ..Observation::default() };
            for _ in 0..tries.max(1) {
                let before = cycles();
                let ns = read(clock);
                let width = cycles().wrapping_sub(before);
                if width < best.width {
                    best = Observation { cycles: before.wrapping_add(width / 2), ns, width };
                }
            }
            best
        });
        Self { clocks }
    }

    const fn of(&self, clock: Clock) -> Observation {
        self.clocks[clock as usize]
    }
}

/// How the page is kept.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How often [`Timekeeper::update`] and [`publish`](Timekeeper::publish) are called, in ns: the coarse clocks'
    /// resolution.
    pub interval_ns: u32,
    /// How long readers go on by a page that nobody has written anew, in ns: then they make system calls. 8 s at most.
    pub patience_ns: u64,
    /// How long the reading of a clock that is followed may take, in ns: somebody who was interrupted in it has learnt
    /// nothing.
    pub widest_ns: u64,
}

impl Default for Config {
    /// Every 10 ms, a second, and 20 µs.
    fn default() -> Self {
        Self { interval_ns: 10_000_000, patience_ns: 1_000_000_000, widest_ns: 20_000 }
    }
}

/// Why there is no timekeeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCalibrated;

impl fmt::Display for NotCalibrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("calibrate the counter: the samples are less than a millisecond apart, or it does not count")
    }
}

impl core::error::Error for NotCalibrated {}

/// What an update has found.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// How far `CLOCK_MONOTONIC` of the page was behind the one it follows, in ns; negative where it was ahead.
    pub error_ns: i64,
    /// By how much it is slewed until the next update, in parts per thousand million.
    pub slew_ppb: i64,
    /// Whether it steps forward: nobody has kept it for long, or the counter stood still.
    pub stepped: bool,
    /// Whether one of the clocks that are followed has been set.
    pub set: bool,
    /// Whether reading `CLOCK_MONOTONIC` took so long that nothing was learnt.
    pub ignored: bool,
}

/// A clock that is steered: nanoseconds times two to the power of `shift`, and paces.
#[derive(Clone, Copy, Debug)]
struct Line {
    scaled: i128,
    /// Until the next publication.
    mult: i128,
    /// From it on.
    next: i128,
    /// To be added with the next publication.
    step: i128,
    /// Of the clock that is followed, smoothed.
    pace: i128,
    /// The observation of that clock by which this was steered last.
    last: Observation,
}

/// What a line has found.
struct Followed {
    /// How far it was behind, in ns.
    error_ns: i64,
    /// By how much it is slewed.
    slew: i128,
    stepped: bool,
}

impl Line {
    /// The line through an observation, continued to another instant of the counter.
    fn through(seen: Observation, at: u64, pace: i128, shift: u16) -> Self {
        let since = i128::from(at.wrapping_sub(seen.cycles).cast_signed());
        let scaled = (i128::from(seen.ns) << shift) + since * pace;
        Self { scaled, mult: pace, next: pace, step: 0, pace, last: seen }
    }

    /// Where it is, by the counter, when it was right at another.
    fn at(&self, at: u64, cycles: u64) -> i128 {
        self.scaled + i128::from(cycles.wrapping_sub(at).cast_signed()) * self.mult
    }

    /// Learns the pace from what was seen before and is seen now, and steers so that half of an error is gone after an
    /// interval, or all of it at once where it is too far behind.
    fn follow(&mut self, seen: Observation, at: u64, shift: u16, interval: i128) -> Followed {
        let error = (i128::from(seen.ns) << shift) - self.at(at, seen.cycles);
        let error_ns = error >> shift;
        let stepped = error_ns > STEP_NS;
        let (step, left) = if stepped { (error, 0) } else { (0, error) };
        let cycles = i128::from(seen.cycles.wrapping_sub(self.last.cycles).cast_signed());
        if cycles > 0 && seen.ns.saturating_sub(self.last.ns) >= LEAST_NS {
            let measured = (i128::from(seen.ns - self.last.ns) << shift) / cycles;
            // Slowly: each sample has an error of its own.
            self.pace += (measured - self.pace).clamp(-self.pace / SLEW, self.pace / SLEW) / 16;
        }
        let slew = (left / 2 / interval.max(1)).clamp(-self.pace / SLEW, self.pace / SLEW);
        (self.next, self.step, self.last) = (self.pace + slew, step, seen);
        let error_ns = i64::try_from(error_ns).unwrap_or(if error_ns < 0 { i64::MIN } else { i64::MAX });
        Followed { error_ns, slew, stepped }
    }

    /// Goes on from an instant of the counter.
    fn turn(&mut self, at: u64, now: u64) {
        self.scaled = self.at(at, now) + self.step;
        (self.mult, self.step) = (self.next, 0);
    }
}

/// What is known of the clocks.
#[derive(Clone, Debug)]
pub struct Timekeeper {
    config: Config,
    shift: u16,
    max_cycles: u64,
    /// The counter where the lines are right.
    at: u64,
    monotonic: Line,
    raw: Line,
    /// REALTIME, BOOTTIME and TAI, from MONOTONIC.
    distances: [i64; 3],
    worst_ns: i64,
}

impl Timekeeper {
    /// Learns the counter's pace from two samples; ten milliseconds or more between them make a good one.
    ///
    /// # Errors
    /// Where it cannot be told.
    pub fn calibrate(first: &Sample, second: &Sample, config: Config) -> Result<Self, NotCalibrated> {
        let pace_of = |clock, shift: u16| {
            let (from, to): (Observation, Observation) = (first.of(clock), second.of(clock));
            let (cycles, ns) = (to.cycles.wrapping_sub(from.cycles), to.ns.saturating_sub(from.ns));
            let counts = cycles > 0 && cycles < u64::MAX / 2 && ns >= LEAST_NS;
            counts.then(|| (i128::from(ns) << shift) / i128::from(cycles)).ok_or(NotCalibrated)
        };
        // As fine as fits, with room for slewing.
        let fits = |shift: &u16| pace_of(Clock::Monotonic, *shift).is_ok_and(|mult| mult < i128::from(u32::MAX) / 2);
        let shift = (0..=30).rev().find(fits).ok_or(NotCalibrated)?;
        let (pace, raw_pace) = (pace_of(Clock::Monotonic, shift)?, pace_of(Clock::Raw, shift)?);
        if pace == 0 || raw_pace == 0 || raw_pace > i128::from(u32::MAX) {
            return Err(NotCalibrated);
        }
        let patience = i128::from(config.patience_ns.min(LONGEST_NS));
        let at = second.of(Clock::Monotonic).cycles;
        let mut timekeeper = Self {
            config,
            shift,
            max_cycles: ((patience << shift) / pace) as u64,
            at,
            monotonic: Line::through(second.of(Clock::Monotonic), at, pace, shift),
            raw: Line::through(second.of(Clock::Raw), at, raw_pace, shift),
            distances: [0; 3],
            worst_ns: 0,
        };
        timekeeper.distances = timekeeper.measured(second);
        Ok(timekeeper)
    }

    /// Compares with the clocks that are followed, and decides how to go on from the next publication on. Observations that
    /// took too long tell nothing.
    pub fn update(&mut self, sample: &Sample) -> Update {
        let seen = sample.of(Clock::Monotonic);
        let cycles = i128::from(seen.cycles.wrapping_sub(self.monotonic.last.cycles).cast_signed());
        // Until the next update: as long as it was until this one, and not shorter than has been said.
        let interval =
            ((i128::from(self.config.interval_ns.max(1)) << self.shift) / self.monotonic.pace.max(1)).max(cycles);
        let mut update = Update { error_ns: 0, slew_ppb: 0, stepped: false, set: false, ignored: true };
        if let Some(followed) = self.follow(sample, Clock::Monotonic, interval) {
            update.slew_ppb = (followed.slew * NSEC_PER_SEC / self.monotonic.pace.max(1)) as i64;
            (update.error_ns, update.stepped, update.ignored) = (followed.error_ns, followed.stepped, false);
            update.set = self.follow_distances(sample);
        }
        self.follow(sample, Clock::Raw, interval);
        update
    }

    /// Has a line follow its clock. `None` where nothing was learnt: then it goes on at its pace.
    fn follow(&mut self, sample: &Sample, clock: Clock, interval: i128) -> Option<Followed> {
        let seen = sample.of(clock);
        let is_good = self.is_good(seen);
        let line = if clock == Clock::Raw { &mut self.raw } else { &mut self.monotonic };
        if !is_good {
            line.next = line.pace;
            return None;
        }
        let followed = line.follow(seen, self.at, self.shift, interval);
        if !followed.stepped {
            self.worst_ns = self.worst_ns.max(followed.error_ns.saturating_abs());
        }
        Some(followed)
    }

    /// Writes what is known to pages, which get the same instant. Nobody else writes them.
    ///
    /// The counter is read while readers wait: so no reader has been further by the old pace than where the new one begins,
    /// and clocks do not go back.
    pub fn publish(&mut self, pages: &[&DataPage], counter: impl FnOnce() -> u64) {
        for page in pages {
            page.hres.begin();
            page.raw.begin();
        }
        // No reader finds the page as it was and the counter later than this.
        fence(Ordering::SeqCst);
        let now = counter();
        for line in [&mut self.monotonic, &mut self.raw] {
            line.turn(self.at, now);
        }
        self.at = now;
        for page in pages {
            self.write(page);
        }
        for page in pages {
            page.raw.end();
            page.hres.end();
        }
    }

    /// Ends it: readers of the pages make system calls from now on, and those of coarse clocks too, which do not find out by
    /// themselves that nobody writes any more.
    pub fn retire(self, pages: &[&DataPage]) {
        for source in pages.iter().flat_map(|page| [&page.hres, &page.raw]) {
            source.mode.store(mode(COUNTER_NONE), Ordering::Relaxed);
        }
    }

    /// The largest error of `CLOCK_MONOTONIC` and `CLOCK_MONOTONIC_RAW` that an update has found, steps aside, in ns.
    pub const fn worst_ns(&self) -> i64 {
        self.worst_ns
    }

    /// The counter's frequency, in Hz.
    pub const fn frequency(&self) -> u64 {
        ((NSEC_PER_SEC << self.shift) / self.monotonic.pace) as u64
    }

    /// Whether an observation tells anything.
    fn is_good(&self, seen: Observation) -> bool {
        let widest = (i128::from(self.config.widest_ns) << self.shift) / self.monotonic.pace.max(1);
        i128::from(seen.width) <= widest
    }

    /// Follows the clocks that keep their distance from MONOTONIC; whether one of them has been set.
    fn follow_distances(&mut self, sample: &Sample) -> bool {
        let mut any = false;
        for (at, (clock, new)) in DISTANT.into_iter().zip(self.measured(sample)).enumerate() {
            let old = self.distances[at];
            let moved = new.saturating_sub(old);
            if !self.is_good(sample.of(clock)) || moved.unsigned_abs() <= NOISE_NS {
                continue;
            }
            let is_set = moved.unsigned_abs() > SET_NS;
            any |= is_set;
            let next = if is_set { new } else { old + moved / 8 };
            // BOOTTIME cannot be set, and does not go back.
            self.distances[at] = if clock == Clock::Boottime { next.max(old) } else { next };
        }
        any
    }

    /// The distances of REALTIME, BOOTTIME and TAI in a sample.
    fn measured(&self, sample: &Sample) -> [i64; 3] {
        let monotonic = sample.of(Clock::Monotonic);
        DISTANT.map(|clock| {
            let seen = sample.of(clock);
            let since = i128::from(seen.cycles.wrapping_sub(monotonic.cycles).cast_signed());
            let passed = (since * self.monotonic.pace) >> self.shift;
            (i128::from(seen.ns) - i128::from(monotonic.ns) - passed) as i64
        })
    }

    fn write(&self, page: &DataPage) {
        let [realtime, boottime, tai] = self.distances.map(|distance| i128::from(distance) << self.shift);
        let monotonic = self.monotonic.scaled;
        for (clock, scaled) in [
            (Clock::Monotonic, monotonic),
            (Clock::Realtime, monotonic + realtime),
            (Clock::Boottime, monotonic + boottime),
            (Clock::Tai, monotonic + tai),
        ] {
            self.write_clock(&page.hres, clock.id() as usize, scaled, 0);
        }
        self.write_clock(&page.hres, MONOTONIC_COARSE, monotonic, self.shift);
        self.write_clock(&page.hres, REALTIME_COARSE, monotonic + realtime, self.shift);
        self.write_clock(&page.raw, Clock::Raw.id() as usize, self.raw.scaled, 0);
        for (source, line) in [(&page.hres, &self.monotonic), (&page.raw, &self.raw)] {
            source.cycle_last.store(self.at, Ordering::Relaxed);
            source.max_cycles.store(self.max_cycles, Ordering::Relaxed);
            source.mult.store(u32::try_from(line.mult).unwrap_or(u32::MAX), Ordering::Relaxed);
            source.shift.store(self.shift, Ordering::Relaxed);
            source.mode.store(MODE_TSC, Ordering::Relaxed);
        }
        page.coarse_ns.store(self.config.interval_ns, Ordering::Relaxed);
    }

    /// Whole seconds, and what is left, shifted back by `shift`.
    fn write_clock(&self, source: &Source, clock: usize, scaled: i128, shift: u16) {
        let second = NSEC_PER_SEC << self.shift;
        let (sec, rest) = (scaled.div_euclid(second), scaled.rem_euclid(second));
        source.base[clock].store(sec as i64, (rest >> shift) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{self, Reading};
    use core::cell::Cell;
    use proptest::prelude::*;

    /// Clocks that run at a pace of their own by a counter of 2 GHz.
    struct World {
        cycles: Cell<u64>,
        /// Of MONOTONIC, in parts per million.
        fast_ppm: Cell<i64>,
        monotonic: Cell<f64>,
        realtime: Cell<i64>,
        /// How far RAW is ahead of the counter.
        raw: Cell<i64>,
    }

    impl World {
        fn new() -> Self {
            let (cycles, monotonic) = (Cell::new(1 << 40), Cell::new(5e12));
            Self {
                cycles,
                fast_ppm: Cell::new(0),
                monotonic,
                realtime: Cell::new(1_700_000_000_000_000_000),
                raw: Cell::new(0),
            }
        }

        fn pass(&self, ns: u64) {
            self.cycles.set(self.cycles.get() + 2 * ns);
            self.monotonic.set(self.monotonic.get() + ns as f64 * (1.0 + self.fast_ppm.get() as f64 / 1e6));
        }

        fn sample(&self) -> Sample {
            Sample::take(
                || self.cycles.get(),
                |clock| match clock {
                    Clock::Raw => self.raw.get() + (self.cycles.get() / 2) as i64,
                    Clock::Monotonic => self.monotonic.get() as i64,
                    Clock::Realtime => self.realtime.get() + self.monotonic.get() as i64,
                    Clock::Boottime => 77_000_000_000 + self.monotonic.get() as i64,
                    Clock::Tai => 37_000_000_000 + self.realtime.get() + self.monotonic.get() as i64,
                },
                3,
            )
        }

        fn read(&self, page: &DataPage, clock: Clock) -> i64 {
            let source = if clock == Clock::Raw { &page.raw } else { &page.hres };
            match read::hres(source, clock.id() as usize, || self.cycles.get()) {
                Reading::Time(time) => time.sec * 1_000_000_000 + time.nsec as i64,
                other => panic!("{clock:?}: {other:?}"),
            }
        }

        fn keeper(&self) -> Timekeeper {
            let first = self.sample();
            self.pass(20_000_000);
            Timekeeper::calibrate(&first, &self.sample(), Config::default()).expect("the world goes on")
        }
    }

    #[test]
    fn pages_show_the_clocks_that_are_followed() {
        let (world, page) = (World::new(), DataPage::default());
        let mut keeper = world.keeper();
        keeper.publish(&[&page], || world.cycles.get());
        for _ in 0..100 {
            world.pass(10_000_000);
            let sample = world.sample();
            for clock in Clock::ALL {
                let distance = world.read(&page, clock) - sample.of(clock).ns;
                assert!(distance.abs() < 10, "{clock:?}: {distance}");
            }
            keeper.update(&sample);
            keeper.publish(&[&page], || world.cycles.get());
        }
        assert!(keeper.worst_ns() < 10 && keeper.frequency().abs_diff(2_000_000_000) < 10, "{keeper:?}");
    }

    #[test]
    fn clocks_are_slewed_and_do_not_go_back() {
        let (world, page) = (World::new(), DataPage::default());
        let mut keeper = world.keeper();
        keeper.publish(&[&page], || world.cycles.get());
        let mut last = world.read(&page, Clock::Monotonic);
        for (ppm, rounds) in [(100, 400), (-300, 400), (0, 400)] {
            world.fast_ppm.set(ppm);
            let mut error = i64::MAX;
            for _ in 0..rounds {
                world.pass(10_000_000);
                let update = keeper.update(&world.sample());
                assert!(!update.stepped && update.slew_ppb.abs() <= 500_000, "{update:?}");
                // Somebody reads until the page is written.
                world.pass(50_000);
                let before = world.read(&page, Clock::Monotonic);
                keeper.publish(&[&page], || world.cycles.get());
                let after = world.read(&page, Clock::Monotonic);
                assert!(last < before && before <= after + 1, "{last} {before} {after}");
                (last, error) = (after, update.error_ns);
            }
            assert!(error.abs() < 200, "at {ppm} ppm the error stays at {error} ns");
        }
    }

    #[test]
    fn clocks_that_are_set_step_and_monotonic_does_not() {
        let (world, page) = (World::new(), DataPage::default());
        let mut keeper = world.keeper();
        for set in [3_600_000_000_000, -7_200_000_000_000_i64] {
            world.pass(10_000_000);
            world.realtime.set(world.realtime.get() + set);
            let update = keeper.update(&world.sample());
            assert!(update.set && !update.stepped && update.error_ns.abs() < 10, "{update:?}");
            keeper.publish(&[&page], || world.cycles.get());
            for clock in [Clock::Realtime, Clock::Tai, Clock::Monotonic, Clock::Boottime] {
                let distance = world.read(&page, clock) - world.sample().of(clock).ns;
                assert!(distance.abs() < 10, "{clock:?}: {distance}");
            }
        }
    }

    #[test]
    fn what_has_not_been_kept_steps_forward() {
        let (world, page) = (World::new(), DataPage::default());
        let mut keeper = world.keeper();
        // The counter stood still, as in a machine that was suspended.
        world.monotonic.set(world.monotonic.get() + 3e9);
        world.raw.set(3_000_000_000);
        assert!(keeper.update(&world.sample()).stepped);
        keeper.publish(&[&page], || world.cycles.get());
        for clock in Clock::ALL {
            let distance = world.read(&page, clock) - world.sample().of(clock).ns;
            assert!(distance.abs() < 10, "{clock:?}: {distance}");
        }
    }

    #[test]
    fn every_clock_stays_right_for_long_though_what_is_learnt_is_late_and_noisy() {
        let (world, page) = (World::new(), DataPage::default());
        let mut keeper = world.keeper();
        let mut noise = 12345_u64;
        for round in 0..60_000 {
            world.pass(10_000_000);
            let mut sample = world.sample();
            for clock in &mut sample.clocks {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                clock.ns += (noise >> 60) as i64 - 8;
            }
            // Somebody who was interrupted for two milliseconds.
            if round % 100 == 0 {
                sample.clocks[round / 100 % 5].ns += 1_900_000;
                sample.clocks[round / 100 % 5].width = 4_000_000;
            }
            let update = keeper.update(&sample);
            assert!(!update.stepped && !update.set, "round {round}: {update:?}");
            world.pass(5_000 + noise % 45_000);
            keeper.publish(&[&page], || world.cycles.get());
            for clock in Clock::ALL {
                let distance = world.read(&page, clock) - world.sample().of(clock).ns;
                // What is learnt is up to 8 ns off; the distances are not learnt anew for noise.
                assert!(distance.abs() < 60, "round {round}: {clock:?} is off by {distance}");
            }
        }
        assert!(keeper.worst_ns() < 60, "{}", keeper.worst_ns());
    }

    #[test]
    fn a_page_without_a_timekeeper_is_not_used() {
        let (world, page) = (World::new(), DataPage::default());
        let mut keeper = world.keeper();
        keeper.publish(&[&page], || world.cycles.get());
        // A counter that began anew, as in a machine that was suspended.
        let begun = || 5;
        assert_eq!(read::hres(&page.hres, 1, begun), Reading::Unusable);
        assert_eq!(read::status(&page.hres, begun), read::Status::Stopped);
        // One that is a little behind.
        assert!(matches!(read::hres(&page.hres, 1, || world.cycles.get() - 100), Reading::Time(_)));
        keeper.retire(&[&page]);
        assert_eq!(read::hres(&page.hres, 1, || world.cycles.get()), Reading::Unusable);
        assert_eq!(read::coarse(&page.hres, MONOTONIC_COARSE), Reading::Unusable);
        assert_eq!(read::status(&page.hres, || world.cycles.get()), read::Status::Counter);
    }

    #[test]
    fn a_page_that_is_named_twice_can_be_read() {
        let (world, page) = (World::new(), DataPage::default());
        let mut keeper = world.keeper();
        for times in 1..4 {
            keeper.publish(&vec![&page; times], || world.cycles.get());
            assert!((world.read(&page, Clock::Monotonic) - world.monotonic.get() as i64).abs() < 10, "{times} times");
        }
    }

    #[test]
    fn a_counter_that_stands_still_is_refused() {
        let world = World::new();
        let sample = world.sample();
        let refused = Timekeeper::calibrate(&sample, &sample, Config::default());
        assert_eq!(refused.err(), Some(NotCalibrated));
    }

    proptest! {
        #[test]
        fn any_frequency_fits(hz in 1_000_000_u64..20_000_000_000, ms in 1_u64..10_000, patience: u64) {
            let mut samples = [Sample::default(); 2];
            for clock in &mut samples[0].clocks {
                *clock = Observation { cycles: 7, ns: 1, width: 1 };
            }
            for clock in &mut samples[1].clocks {
                *clock = Observation { cycles: 7 + hz * ms / 1000, ns: 1 + ms as i64 * 1_000_000, width: 1 };
            }
            let config = Config { patience_ns: patience, ..Config::default() };
            let mut keeper = Timekeeper::calibrate(&samples[0], &samples[1], config).expect("it counts");
            let page = DataPage::default();
            let at = samples[1].clocks[0].cycles;
            keeper.publish(&[&page], || at);
            // As late as readers go on.
            let late = page.hres.max_cycles.load(Ordering::Relaxed);
            let reading = read::hres(&page.hres, 1, || at + late);
            let Reading::Time(time) = reading else { panic!("{reading:?}") };
            let expected = samples[1].clocks[0].ns as f64 + late as f64 * 1e9 / (hz * ms / 1000) as f64 * (ms as f64 / 1000.0);
            let found = time.sec as f64 * 1e9 + time.nsec as f64;
            prop_assert!((found - expected).abs() <= 100.0 + expected * 1e-5, "{found} {expected}");
            prop_assert_eq!(read::hres(&page.hres, 1, || at + late + 1), Reading::Unusable);
        }
    }
}
