//! Entering a namespace while threads read: the designs that allow it.

use crate::host::Keeper;
use elsewhen_standalone::flavour::{FLAVOURS, Switch};
use elsewhen_standalone::load::{Vdso, host_ns};
use elsewhen_standalone::timekeeper::Clock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const DAY_NS: i64 = 86_400_000_000_000;

/// Whether a reading lies between two others, but for `error`.
fn lies(read: i64, before: i64, after: i64, error: i64) -> bool {
    before - error <= read && read <= after + error
}

/// Reads until told to stop; returns how often it read the host's time, the member's, and neither.
fn read_on(vdso: &Vdso, stop: &AtomicBool) -> [u64; 3] {
    let mut seen = [0; 3];
    while !stop.load(Ordering::Relaxed) {
        for clock in [Clock::Monotonic, Clock::Realtime, Clock::Raw] {
            let before = host_ns(clock);
            let read = vdso.clock_gettime(clock.id()).unwrap();
            let after = host_ns(clock);
            let read = read.sec * 1_000_000_000 + read.nsec as i64;
            // The error of the timekeeper is far below what tells the sides apart.
            let error = 50_000_000;
            let kind = if lies(read, before, after, error) {
                0
            } else if lies(read - DAY_NS, before, after, error) {
                1
            } else {
                2
            };
            seen[kind] += 1;
        }
    }
    seen
}

/// How often a process enters and leaves. Where that is dearer than a store of data, a variable can ask for more.
fn least_switches(switch: Switch) -> u64 {
    let asked = std::env::var("ELSEWHEN_SWITCHES").ok().map(|number| number.parse().unwrap());
    match switch {
        // Stops every processor that runs a thread.
        Switch::Branch => asked.unwrap_or(200_000),
        // Changes mappings, and waits for publications.
        Switch::Page => asked.unwrap_or(20_000),
        _ => 1_000_000,
    }
}

#[test]
fn threads_read_one_time_or_the_other_while_the_process_enters_and_leaves() {
    // Pages change places once in a publication.
    let keeper = Keeper::start_publishing(Duration::from_micros(1));
    for flavour in FLAVOURS.iter().filter(|flavour| flavour.switch != Switch::Never && flavour.switch.is_safe()) {
        let vdso = Vdso::map(flavour, &keeper.page).unwrap();
        keeper.keep(vdso.data());
        for clock in Clock::ALL {
            vdso.set_offset(clock.id(), 86_400, 0).unwrap();
        }
        let least = least_switches(flavour.switch);
        let (stop, switches) = (AtomicBool::new(false), AtomicU64::new(0));
        let seen = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| read_on(&vdso, &stop))).collect();
            let began = Instant::now();
            // And until both sides have certainly been read.
            while switches.load(Ordering::Relaxed) < least || began.elapsed() < Duration::from_secs(1) {
                vdso.enter().unwrap();
                vdso.leave().unwrap();
                switches.fetch_add(2, Ordering::Relaxed);
            }
            // Each side once more, for long enough to be read.
            vdso.enter().unwrap();
            std::thread::sleep(Duration::from_millis(50));
            vdso.leave().unwrap();
            std::thread::sleep(Duration::from_millis(50));
            stop.store(true, Ordering::Relaxed);
            readers.into_iter().map(|reader| reader.join().unwrap()).fold([0; 3], |mut all, seen| {
                all.iter_mut().zip(seen).for_each(|(all, seen)| *all += seen);
                all
            })
        });
        println!("{}: {switches:?} switches, host {} member {} neither {}", flavour.name, seen[0], seen[1], seen[2]);
        assert_eq!(seen[2], 0, "{}: readings of neither side", flavour.name);
        assert!(seen[0] > 0 && seen[1] > 0, "{}: {seen:?}", flavour.name);
    }
}

#[test]
fn branches_lie_where_one_store_changes_them() {
    for flavour in FLAVOURS.iter().filter(|flavour| flavour.switch == Switch::Branch) {
        assert!(!flavour.sites.is_empty());
        assert!(flavour.sites.iter().all(|site| site.is_atomic()), "{:?}", flavour.sites);
    }
}
