//! The host's clocks.

use crate::inside;
use elsewhen_vdso::clock::{ClockId, TIMELINES, Timeline};
use elsewhen_vdso::transform::{HostNs, NSEC_PER_SEC};
use std::fs;
use std::sync::LazyLock;

/// Reads one of the host's clocks, also in a process that is itself a member. Mirrors `clock_gettime(2)`.
pub fn now(clock: ClockId) -> HostNs {
    match inside::host_time(clock as i32) {
        Some(time) => HostNs(time.tv_sec.saturating_mul(NSEC_PER_SEC).saturating_add(time.tv_nsec)),
        None => now_here(clock),
    }
}

/// Reads one of this process's clocks, which are a namespace's where it is a member.
pub fn now_here(clock: ClockId) -> HostNs {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    let result = unsafe { libc::clock_gettime(clock as i32, &mut time) };
    // The alarm clocks are the only ones that a machine may lack, and nothing here reads them.
    debug_assert_eq!(result, 0, "every kernel has {clock:?}");
    HostNs(time.tv_sec.saturating_mul(NSEC_PER_SEC).saturating_add(time.tv_nsec))
}

/// Reads a clock by the system call itself, past the vDSO.
pub fn now_by_call(clock: ClockId) -> HostNs {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock as i32, &raw mut time) };
    debug_assert_eq!(result, 0, "every kernel has {clock:?}");
    HostNs(time.tv_sec.saturating_mul(NSEC_PER_SEC).saturating_add(time.tv_nsec))
}

/// Reads the clock of every timeline, within about a microsecond.
pub fn sample() -> [HostNs; TIMELINES] {
    Timeline::ALL.map(|timeline| now(timeline.clock()))
}

/// Whether the host's vDSO makes system calls to read clocks, as it does where it cannot read the clock source itself; also
/// where nobody says which that is. `VDSO_CLOCKMODES` of the kernel's architectures.
pub(crate) static VDSO_MAKES_CALLS: LazyLock<bool> = LazyLock::new(|| {
    const READ_BY_VDSOS: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];
    let source = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    source.map_or(true, |source| !READ_BY_VDSOS.contains(&source.trim()))
});
