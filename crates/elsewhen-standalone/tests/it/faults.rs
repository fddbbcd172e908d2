//! Pages that say nothing: readers make system calls, soon, and say so.

use crate::host::{switch, timekeeper};
use elsewhen_standalone::data::{COUNTER_NONE, COUNTER_TIMENS, MODE_TSC, mode};
use elsewhen_standalone::flavour::{FLAVOURS, Switch, named};
use elsewhen_standalone::load::{PageFile, Vdso, host_ns, ticks};
use elsewhen_standalone::read::Status;
use elsewhen_standalone::timekeeper::Clock;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Every clock is the host's to the nanosecond, since a system call read it, and for members an hour ahead.
#[track_caller]
fn falls_back(vdso: &Vdso, status: Status) {
    assert_eq!(vdso.status(), status, "{}", vdso.flavour().name);
    let members: &[bool] = if vdso.flavour().switch == Switch::Never { &[false] } else { &[false, true] };
    for member in members {
        let ahead = if *member {
            switch(vdso, true);
            3_600_000_000_000
        } else {
            0
        };
        assert_eq!(vdso.status(), status, "{} member {member}", vdso.flavour().name);
        for clock in Clock::ALL {
            vdso.set_offset(clock.id(), 3600, 0).unwrap();
            let began = Instant::now();
            let before = host_ns(clock);
            let read = vdso.clock_gettime(clock.id()).unwrap();
            let after = host_ns(clock);
            let read = read.sec * 1_000_000_000 + read.nsec as i64 - ahead;
            let name = vdso.flavour().name;
            assert!(before <= read && read <= after, "{name} {clock:?}: {before} {read} {after}");
            assert!(began.elapsed() < Duration::from_secs(5), "{name}: spun");
        }
    }
    if members.len() > 1 {
        // What pages that change places wait for; nobody keeps this one.
        for source in [&vdso.data().hres, &vdso.data().raw] {
            source.sequence.fetch_add(2, Ordering::Relaxed);
        }
        switch(vdso, false);
        for source in [&vdso.data().hres, &vdso.data().raw] {
            source.sequence.fetch_add(2, Ordering::Relaxed);
        }
    }
}

#[test]
fn readers_of_a_page_that_says_nothing_make_system_calls() {
    for flavour in FLAVOURS {
        let page = Arc::new(PageFile::new().unwrap());
        let vdso = Vdso::map(flavour, &page).unwrap();
        let page = Arc::clone(vdso.data());
        // Of zeros.
        falls_back(&vdso, Status::Magic);
        timekeeper().publish(&[&page], ticks);
        assert_eq!(vdso.status(), Status::Good, "{}", flavour.name);
        for (bad, status) in [
            (0x0101_5858, Status::Magic),
            (MODE_TSC + 0x1_0000, Status::Version),
            (mode(COUNTER_NONE), Status::Counter),
            (mode(9), Status::Counter),
        ] {
            for source in [&page.hres, &page.raw] {
                source.mode.store(bad, Ordering::Relaxed);
            }
            falls_back(&vdso, status);
        }
        // A namespace's page where a data page should be: without a way to the data.
        if flavour.switch != Switch::Page {
            for source in [&page.hres, &page.raw] {
                source.mode.store(mode(COUNTER_TIMENS), Ordering::Relaxed);
            }
            falls_back(&vdso, Status::Timens);
        }
    }
}

#[test]
fn readers_of_a_page_whose_timekeeper_has_stopped_make_system_calls() {
    for flavour in FLAVOURS {
        let page = Arc::new(PageFile::new().unwrap());
        let vdso = Vdso::map(flavour, &page).unwrap();
        let page = Arc::clone(vdso.data());
        timekeeper().publish(&[&page], ticks);
        // As long ago as it takes.
        for source in [&page.hres, &page.raw] {
            source.max_cycles.store(1, Ordering::Relaxed);
        }
        falls_back(&vdso, Status::Stopped);
    }
}

#[test]
fn readers_of_a_page_whose_writer_has_died_make_system_calls() {
    for flavour in FLAVOURS {
        let page = Arc::new(PageFile::new().unwrap());
        let vdso = Vdso::map(flavour, &page).unwrap();
        let page = Arc::clone(vdso.data());
        let mut timekeeper = timekeeper();
        timekeeper.publish(&[&page], ticks);
        for source in [&page.hres, &page.raw] {
            source.sequence.fetch_add(1, Ordering::Relaxed);
        }
        falls_back(&vdso, Status::Unfinished);
        // The next writer goes on.
        timekeeper.publish(&[&page], ticks);
        assert_eq!(vdso.status(), Status::Good, "{}", flavour.name);
    }
}

const CHILD: &str = "ELSEWHEN_READ_TO_NOWHERE";

/// Not a test of its own: the child of [`a_bad_pointer_does_what_it_does_to_the_kernels_vdso`].
#[test]
fn child_that_reads_to_nowhere() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let (name, clock) = what.split_once(' ').unwrap();
    let clock: u32 = clock.parse().unwrap();
    if name == "host" {
        // SAFETY: none; that is the point.
        let result = unsafe { libc::clock_gettime(clock.cast_signed(), std::ptr::null_mut()) };
        std::process::exit(if result == 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap() });
    }
    let page = Arc::new(PageFile::new().unwrap());
    let vdso = Vdso::map(named(name).unwrap(), &page).unwrap();
    timekeeper().publish(&[vdso.data()], ticks);
    let address = vdso.function("__vdso_clock_gettime").unwrap();
    // SAFETY: the function's signature, but that it may get a null pointer.
    let function: unsafe extern "C" fn(u32, *mut libc::timespec) -> i32 = unsafe { std::mem::transmute(address) };
    // SAFETY: none; that is the point.
    std::process::exit(-unsafe { function(clock, std::ptr::null_mut()) });
}

#[test]
fn a_bad_pointer_does_what_it_does_to_the_kernels_vdso() {
    let status = |name: &str, clock: u32| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "faults::child_that_reads_to_nowhere", "--nocapture"])
            .env(CHILD, format!("{name} {clock}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
    };
    // Two fine clocks, a coarse one, one of the system call, none.
    for clock in [0, 4, 6, 3, 99] {
        let host = status("host", clock);
        for flavour in FLAVOURS {
            assert_eq!(status(flavour.name, clock), host, "{} {clock}", flavour.name);
        }
    }
}
