//! The law, for as long as one likes: readings of the self-contained vDSO, the host's and a system call, in turn, on every
//! processor, are in order but for the timekeeper's error.

#![expect(unsafe_code, reason = "the system call itself, not libc's function")]

use crate::Result;
use crate::designs::{calibrated, sample};
use elsewhen_standalone::flavour::FLAVOURS;
use elsewhen_standalone::load::{self, PageFile, Vdso, host_ns};
use elsewhen_standalone::timekeeper::Clock;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The clocks that are slewed: they never go back.
const CLOCKS: [Clock; 2] = [Clock::Monotonic, Clock::Raw];

/// How long, and how well.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Nanoseconds that readings may be out of order by
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    bound_ns: i64,
}

/// What a processor has seen.
#[derive(Default)]
struct Seen {
    rounds: u64,
    /// Readings of the image before an earlier one of the same.
    back: u64,
    /// Furthest that the image was behind a host's reading before it.
    behind_ns: i64,
    /// Furthest that it was ahead of a system call's behind it.
    ahead_ns: i64,
}

/// `bench order`
pub(crate) fn run(options: &Options) -> Result<()> {
    let page = Arc::new(PageFile::new()?);
    let mut timekeeper = calibrated(Duration::from_millis(300))?;
    timekeeper.publish(&[&page], load::ticks);
    let vdso = Vdso::map(&FLAVOURS[0], &page)?;
    let (stop, latest) = (AtomicBool::new(false), CLOCKS.map(|_| AtomicI64::new(i64::MIN)));
    let allowed = sched_getaffinity(None)?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    let (seen, updates) = thread::scope(|scope| {
        let readers: Vec<_> = cpus.iter().map(|cpu| scope.spawn(|| read_on(*cpu, &vdso, &stop, &latest))).collect();
        let end = Instant::now() + Duration::from_secs(options.seconds);
        let mut updates = 0;
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
            timekeeper.update(&sample());
            timekeeper.publish(&[&page], load::ticks);
            updates += 1;
        }
        stop.store(true, Ordering::Relaxed);
        let seen: Vec<_> = readers.into_iter().map(|reader| reader.join().expect("a reader does not panic")).collect();
        (seen, updates)
    });
    let mut failed = false;
    for (cpu, seen) in cpus.iter().zip(seen) {
        let Seen { rounds, back, behind_ns, ahead_ns } = seen?;
        println!(
            "cpu {cpu}: {rounds} rounds, went back {back} times, at most {behind_ns} ns behind and {ahead_ns} ns ahead"
        );
        failed |= back > 0 || behind_ns.max(ahead_ns) > options.bound_ns || rounds == 0;
    }
    let (hz, worst_ns) = (timekeeper.frequency(), timekeeper.worst_ns());
    println!("timekeeper: {updates} updates, {hz} Hz, largest error {worst_ns} ns");
    if failed { Err(format!("out of order by more than {} ns", options.bound_ns).into()) } else { Ok(()) }
}

fn read_on(cpu: usize, vdso: &Vdso, stop: &AtomicBool, latest: &[AtomicI64; CLOCKS.len()]) -> std::io::Result<Seen> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)?;
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        for (clock, latest) in CLOCKS.iter().zip(latest).cycle().take(1000) {
            // What any processor has read before.
            let floor = latest.load(Ordering::Acquire);
            let before = host_ns(*clock);
            let read = vdso.clock_gettime(clock.id())?;
            let read = read.sec * 1_000_000_000 + read.nsec.cast_signed();
            let mut called = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: the pointer is to a place for the time.
            unsafe { libc::syscall(libc::SYS_clock_gettime, clock.id(), &raw mut called) };
            let called = called.tv_sec * 1_000_000_000 + called.tv_nsec;
            seen.back += u64::from(read < floor);
            latest.fetch_max(read, Ordering::Release);
            seen.behind_ns = seen.behind_ns.max(before - read);
            seen.ahead_ns = seen.ahead_ns.max(read - called);
        }
        seen.rounds += 1000;
    }
    Ok(seen)
}
