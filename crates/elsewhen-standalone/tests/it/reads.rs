//! What images read, in every design.

use crate::host::{Keeper, switch};
use elsewhen_standalone::flavour::{FLAVOURS, Switch};
use elsewhen_standalone::load::{Vdso, host_ns};
use elsewhen_standalone::read::{Status, Time};
use elsewhen_standalone::timekeeper::Clock;
use std::time::{Duration, Instant};

const HOUR_NS: i64 = 3_600_000_000_000;

fn ns(time: Time) -> i64 {
    time.sec * 1_000_000_000 + time.nsec as i64
}

/// Fails unless a clock of the image lies between two readings of the host's, but for the timekeeper's error.
#[track_caller]
fn check(keeper: &Keeper, vdso: &Vdso, clock: Clock, ahead: i64) {
    let before = host_ns(clock);
    let read = ns(vdso.clock_gettime(clock.id()).unwrap()) - ahead;
    let after = host_ns(clock);
    // Between updates it grows by what the host is slewed meanwhile.
    let error = 20_000 + 2 * keeper.worst_ns();
    assert!(
        before - error <= read && read <= after + error,
        "{} {clock:?}: {read} is not between {before} and {after} (error {error})",
        vdso.flavour().name
    );
}

#[test]
fn clocks_are_the_hosts_and_for_members_ahead() {
    let keeper = Keeper::start();
    for flavour in FLAVOURS {
        let vdso = Vdso::map(flavour, &keeper.page).unwrap();
        keeper.keep(vdso.data());
        assert_eq!(vdso.status(), Status::Good, "{}", flavour.name);
        for clock in Clock::ALL {
            vdso.set_offset(clock.id(), 3600, 0).unwrap();
            check(&keeper, &vdso, clock, 0);
        }
        if flavour.switch == Switch::Never {
            assert!(vdso.enter().is_err(), "{}", flavour.name);
            continue;
        }
        for _ in 0..3 {
            switch(&vdso, true);
            Clock::ALL.into_iter().for_each(|clock| check(&keeper, &vdso, clock, HOUR_NS));
            switch(&vdso, false);
            Clock::ALL.into_iter().for_each(|clock| check(&keeper, &vdso, clock, 0));
        }
    }
}

#[test]
fn coarse_clocks_lag_by_an_update_at_most_and_have_offsets_of_their_own() {
    let keeper = Keeper::start();
    for flavour in FLAVOURS {
        let vdso = Vdso::map(flavour, &keeper.page).unwrap();
        keeper.keep(vdso.data());
        for (coarse, fine, offset) in [(5, Clock::Realtime, 7), (6, Clock::Monotonic, 9)] {
            vdso.set_offset(coarse, offset, 999_999_999).unwrap();
            let lag = |ahead: i64| {
                let read = ns(vdso.clock_gettime(coarse).unwrap()) - ahead;
                host_ns(fine) - read
            };
            // The keeper may be kept from its work, but not for as long as readers go on.
            assert!((-20_000..8_000_000_000).contains(&lag(0)), "{} {coarse}: {}", flavour.name, lag(0));
            if flavour.switch != Switch::Never {
                switch(&vdso, true);
                let ahead = offset * 1_000_000_000 + 999_999_999;
                let lag = lag(ahead);
                assert!((-20_000..8_000_000_000).contains(&lag), "{} {coarse}: {lag}", flavour.name);
                switch(&vdso, false);
            }
        }
    }
}

#[test]
fn other_functions_are_as_the_hosts() {
    let keeper = Keeper::start();
    for flavour in FLAVOURS {
        let vdso = Vdso::map(flavour, &keeper.page).unwrap();
        keeper.keep(vdso.data());
        let function = |name| vdso.function(name).unwrap();
        // SAFETY: that is its signature.
        let gettimeofday: unsafe extern "C" fn(*mut libc::timeval, *mut [i32; 2]) -> i32 =
            unsafe { std::mem::transmute(function("__vdso_gettimeofday")) };
        // SAFETY: as above.
        let time: unsafe extern "C" fn(*mut i64) -> i64 = unsafe { std::mem::transmute(function("__vdso_time")) };
        // SAFETY: as above.
        let getres: unsafe extern "C" fn(u32, *mut libc::timespec) -> i32 =
            unsafe { std::mem::transmute(function("__vdso_clock_getres")) };
        // SAFETY: as above.
        let getcpu: unsafe extern "C" fn(*mut u32, *mut u32, usize) -> i64 =
            unsafe { std::mem::transmute(function("__vdso_getcpu")) };

        let mut tv = libc::timeval { tv_sec: 0, tv_usec: 0 };
        let mut zone = [7, 7];
        let before = host_ns(Clock::Realtime);
        // SAFETY: pointers to places for what is written.
        assert_eq!(unsafe { gettimeofday(&mut tv, &mut zone) }, 0);
        let after = host_ns(Clock::Realtime);
        let read = tv.tv_sec * 1_000_000_000 + tv.tv_usec * 1000;
        assert!(before - 100_000 <= read && read <= after + 100_000, "{}", flavour.name);
        assert_eq!(zone, [0, 0]);
        // SAFETY: null is allowed.
        assert_eq!(unsafe { gettimeofday(std::ptr::null_mut(), std::ptr::null_mut()) }, 0);

        let mut at = 0;
        // SAFETY: a pointer to a place for the result.
        let seconds = unsafe { time(&mut at) };
        assert_eq!(at, seconds);
        assert!((-9..=1).contains(&(seconds - host_ns(Clock::Realtime) / 1_000_000_000)), "{}", flavour.name);

        let mut resolution = libc::timespec { tv_sec: 7, tv_nsec: 7 };
        // Of processes' clocks too, which the system call knows, and of none that there is.
        for (clock, expected) in [(0, 1), (4, 1), (6, 10_000_000), (2, 1)] {
            // SAFETY: a pointer to a place for the result.
            assert_eq!(unsafe { getres(clock, &mut resolution) }, 0, "{} {clock}", flavour.name);
            assert_eq!((resolution.tv_sec, resolution.tv_nsec), (0, expected), "{} {clock}", flavour.name);
        }
        // SAFETY: null is allowed.
        assert_eq!(unsafe { getres(1, std::ptr::null_mut()) }, 0);
        // SAFETY: null is allowed.
        assert_eq!(unsafe { getres(99, std::ptr::null_mut()) }, -libc::EINVAL);

        let mut cpu = u32::MAX;
        // SAFETY: a pointer to a place for a result, and null, which is allowed.
        assert_eq!(unsafe { getcpu(&mut cpu, std::ptr::null_mut(), 0) }, 0);
        assert!(cpu < 8192);
    }
}

#[test]
fn clocks_that_the_page_does_not_have_are_the_kernels() {
    let keeper = Keeper::start();
    for flavour in FLAVOURS {
        let vdso = Vdso::map(flavour, &keeper.page).unwrap();
        for unknown in [10, 12, 16, 31, 32, 33, 64, 0x8000_0000, u32::MAX - 1] {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: a pointer to a place for the result.
            let native = unsafe { libc::syscall(libc::SYS_clock_gettime, unknown, &raw mut time) };
            let error = (native != 0).then(|| std::io::Error::last_os_error().raw_os_error().unwrap());
            let found = vdso.clock_gettime(unknown).err().map(|error| error.raw_os_error().unwrap());
            assert_eq!(found, error, "{} {unknown}", flavour.name);
        }
        // CLOCK_PROCESS_CPUTIME_ID and CLOCK_THREAD_CPUTIME_ID.
        for cpu in [2, 3] {
            assert!(vdso.clock_gettime(cpu).is_ok(), "{} {cpu}", flavour.name);
        }
    }
}

/// The law: readings by one way and another, in turn, are in order.
#[test]
fn readings_of_image_host_and_system_call_in_turn_are_in_order() {
    let keeper = Keeper::start();
    let vdso = Vdso::map(&FLAVOURS[0], &keeper.page).unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    let (mut own, mut worst) = (0, 0);
    while Instant::now() < end {
        for _ in 0..1000 {
            let before = host_ns(Clock::Monotonic);
            let read = ns(vdso.clock_gettime(1).unwrap());
            let mut called = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: a pointer to a place for the result.
            unsafe { libc::syscall(libc::SYS_clock_gettime, 1, &raw mut called) };
            let called = called.tv_sec * 1_000_000_000 + called.tv_nsec;
            assert!(read >= own, "went back from {own} to {read}");
            assert!(called >= before, "the host's went back");
            own = read;
            worst = worst.max((before - read).max(read - called));
        }
    }
    let error = 20_000 + 2 * keeper.worst_ns();
    assert!(worst <= error, "out of order by {worst} ns (allowed {error})");
}

#[test]
fn the_images_of_the_variants_have_every_function_at_one_place() {
    use elsewhen_image::elf::{Elf, STT_FUNC};
    let flavour = elsewhen_standalone::flavour::named("variants").unwrap();
    let places = |image: &'static [u8]| {
        let symbols = Elf::x86_64(image).unwrap().dynamic_symbols().filter(|symbol| symbol.kind == STT_FUNC);
        let mut places: Vec<_> = symbols.map(|symbol| (symbol.name, symbol.value)).collect();
        places.sort_unstable();
        places
    };
    let (host, member) = (places(flavour.image), places(flavour.member_image.unwrap()));
    assert_eq!(host, member);
    assert!(host.iter().any(|(name, _)| *name == b"elsewhen_hres"), "local functions are among them");
    assert_ne!(flavour.image, flavour.member_image.unwrap());
}
