//! The clock functions of libc, called the way programs call them: through the dynamic linker's table, so that
//! whatever stands in for them (the vDSO, a preloaded library, an image) is what is measured.

#![expect(unsafe_code, reason = "calls of libc, whose cost is what is measured")]

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::ptr;

/// A function that reads a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// `clock_gettime(CLOCK_MONOTONIC)`.
    Monotonic,
    /// `clock_gettime(CLOCK_REALTIME)`.
    Realtime,
    /// `clock_gettime(CLOCK_MONOTONIC_COARSE)`.
    MonotonicCoarse,
    /// `gettimeofday(2)`.
    Gettimeofday,
    /// `time(2)`.
    Time,
}

impl Clock {
    /// All of them, in the order of the report.
    pub(crate) const ALL: [Self; 5] =
        [Self::Monotonic, Self::Realtime, Self::MonotonicCoarse, Self::Gettimeofday, Self::Time];

    /// Name in reports and in the requests to workers.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Monotonic => "MONOTONIC",
            Self::Realtime => "REALTIME",
            Self::MonotonicCoarse => "MONOTONIC_COARSE",
            Self::Gettimeofday => "gettimeofday",
            Self::Time => "time",
        }
    }

    /// The function with a name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|clock| clock.name() == name)
    }

    /// Calls the function again and again.
    pub(crate) fn call(self, times: u32) {
        match self {
            Self::Monotonic => call_clock_gettime(libc::CLOCK_MONOTONIC, times),
            Self::Realtime => call_clock_gettime(libc::CLOCK_REALTIME, times),
            Self::MonotonicCoarse => call_clock_gettime(libc::CLOCK_MONOTONIC_COARSE, times),
            Self::Gettimeofday => call_gettimeofday(times),
            Self::Time => call_time(times),
        }
    }
}

/// A clock's reading through libc, in nanoseconds: the worker's own time, not the host's.
pub(crate) fn read_ns(id: libc::clockid_t) -> i128 {
    let mut reading = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives as long as the call.
    let result = unsafe { libc::clock_gettime(id, &raw mut reading) };
    assert_eq!(result, 0, "clock {id} cannot be read");
    i128::from(reading.tv_sec) * 1_000_000_000 + i128::from(reading.tv_nsec)
}

fn call_clock_gettime(id: libc::clockid_t, times: u32) {
    let mut reading = MaybeUninit::<libc::timespec>::uninit();
    for _ in 0..times {
        // SAFETY: the pointer is to memory for a timespec that lives as long as the call, which only writes it.
        let result = unsafe { libc::clock_gettime(id, reading.as_mut_ptr()) };
        black_box((result, &reading));
    }
}

fn call_gettimeofday(times: u32) {
    let mut reading = MaybeUninit::<libc::timeval>::uninit();
    for _ in 0..times {
        // SAFETY: the pointer is to memory for a timeval that lives as long as the call, which only writes it; the
        // time zone is not asked for.
        let result = unsafe { libc::gettimeofday(reading.as_mut_ptr(), ptr::null_mut()) };
        black_box((result, &reading));
    }
}

fn call_time(times: u32) {
    for _ in 0..times {
        // SAFETY: a null pointer asks for the return value alone.
        let result = unsafe { libc::time(ptr::null_mut()) };
        black_box(result);
    }
}
