//! The host's clocks.

use crate::inside;
use elsewhen_vdso::clock::{ClockId, TIMELINES, Timeline};
use elsewhen_vdso::transform::{HostNs, NSEC_PER_SEC};
use std::sync::{Mutex, PoisonError};
use std::{fs, mem};

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

/// Whether the host's vDSO makes system calls to read clocks, as it does where it cannot read the clock source itself
/// (`VDSO_CLOCKMODE_*` of the kernel's architectures).
pub(crate) fn vdso_makes_calls() -> bool {
    /// The clock source that was found last, and what its vDSO does.
    static KNOWN: Mutex<Option<(String, bool)>> = Mutex::new(None);

    let source =
        fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource").unwrap_or_default();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((before, calls)) = &*known
        && *before == source
    {
        return *calls;
    }
    let calls = match source.trim() {
        "tsc" | "hyperv_clocksource_tsc_page" => false,
        _ => match is_read_by_call() {
            Some(calls) => calls,
            // Calls of one's own always work.
            None => return true,
        },
    };
    *known = Some((source, calls));
    calls
}

/// Whether reading a clock by the C library takes a system call: tried in a process in which such calls fail. `None` where
/// that process cannot be made or asked.
fn is_read_by_call() -> Option<bool> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let instruction = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let mut filter = [
        instruction(LOAD, 0, 0),
        instruction(JUMP_IF_EQUAL, 1, libc::SYS_clock_gettime as u32),
        instruction(RETURN, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        instruction(RETURN, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: as `fork(2)`, but nobody is told of the end of the process, who waits for others. All that it does is allowed in
    // a process that is forked from one with several threads.
    match unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) } {
        -1 => None,
        0 => {
            // SAFETY: all zeros is a valid value of this plain struct.
            let mut time: libc::timespec = unsafe { mem::zeroed() };
            // SAFETY: sets an attribute of the calling process.
            let is_read = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0
                // SAFETY: the kernel reads the program.
                && unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } == 0
                // SAFETY: the kernel writes one timespec.
                && unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) } == 0;
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(i32::from(!is_read)) }
        }
        process => {
            let mut status = 0;
            loop {
                // SAFETY: the kernel writes one int.
                let waited = unsafe { libc::waitpid(process as i32, &mut status, libc::__WALL) };
                if waited == process as i32 {
                    return Some(!libc::WIFEXITED(status) || libc::WEXITSTATUS(status) != 0);
                }
                if std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vdso_that_reads_the_clock_source_makes_no_calls() {
        let source = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource").unwrap();
        match source.trim() {
            "tsc" => assert_eq!(is_read_by_call(), Some(false)),
            "hpet" | "acpi_pm" | "jiffies" => assert_eq!(is_read_by_call(), Some(true)),
            other => println!("{other}: {:?}", is_read_by_call()),
        }
        assert_eq!(Some(vdso_makes_calls()), is_read_by_call());
    }
}
