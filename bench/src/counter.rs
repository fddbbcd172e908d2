//! The time stamp counter: the one clock that reads the same in every time namespace.

#![expect(unsafe_code, reason = "the instruction has no safe wrapper")]

use std::time::{Duration, Instant};

/// A reading of the time stamp counter, in ticks.
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux leaves it to user space unless a process
    // gave it up with `PR_SET_TSC`, which this one never does.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Length of a tick in nanoseconds, measured against the host's monotonic clock.
///
/// For the parent only: its clocks are the host's.
pub(crate) fn tick_ns() -> f64 {
    let (started, from) = (Instant::now(), ticks());
    std::thread::sleep(Duration::from_millis(300));
    let (elapsed, to) = (started.elapsed(), ticks());
    elapsed.as_nanos() as f64 / to.wrapping_sub(from) as f64
}
