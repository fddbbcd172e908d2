//! Cycles, instructions and branches of the calling thread in user mode. Mirrors `perf_event_open(2)`.

#![expect(unsafe_code, reason = "the system call has no safe wrapper")]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};

const PERF_TYPE_HARDWARE: u32 = 0;
const PERF_COUNT_HW_CPU_CYCLES: u64 = 0;
const PERF_COUNT_HW_INSTRUCTIONS: u64 = 1;
const PERF_COUNT_HW_BRANCH_INSTRUCTIONS: u64 = 4;
const PERF_FORMAT_GROUP: u64 = 1 << 3;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
/// `exclude_kernel` and `exclude_hv`.
const USER_ONLY: u64 = 1 << 5 | 1 << 6;

/// `struct perf_event_attr` as of `PERF_ATTR_SIZE_VER0` (`include/uapi/linux/perf_event.h`).
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    breakpoint_address: u64,
}

const _: () = assert!(size_of::<Attributes>() == 64);

/// Three counters that run together.
pub(crate) struct Counters {
    leader: File,
    _others: [File; 2],
}

/// What was counted since the counters were opened.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counted {
    /// Cycles in user mode.
    pub(crate) cycles: u64,
    /// Instructions in user mode.
    pub(crate) instructions: u64,
    /// Branches in user mode, taken or not.
    pub(crate) branches: u64,
}

impl Counters {
    /// Opens the counters for the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        let leader = open_event(PERF_COUNT_HW_CPU_CYCLES, None)?;
        let instructions = open_event(PERF_COUNT_HW_INSTRUCTIONS, Some(&leader))?;
        let branches = open_event(PERF_COUNT_HW_BRANCH_INSTRUCTIONS, Some(&leader))?;
        Ok(Self { leader, _others: [instructions, branches] })
    }

    /// Reads the counters.
    pub(crate) fn read(&mut self) -> io::Result<Counted> {
        // The number of counters and their values, as `PERF_FORMAT_GROUP` lays them out.
        let mut bytes = [0; 32];
        self.leader.read_exact(&mut bytes)?;
        let value = |at: usize| bytes[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        Ok(Counted { cycles: value(8), instructions: value(16), branches: value(24) })
    }
}

fn open_event(config: u64, leader: Option<&File>) -> io::Result<File> {
    let attributes = Attributes {
        kind: PERF_TYPE_HARDWARE,
        size: size_of::<Attributes>() as u32,
        config,
        sample_period: 0,
        sample_type: 0,
        read_format: PERF_FORMAT_GROUP,
        flags: USER_ONLY,
        wakeup_events: 0,
        breakpoint_type: 0,
        breakpoint_address: 0,
    };
    let group = leader.map_or(-1, AsRawFd::as_raw_fd);
    let attributes = &raw const attributes;
    // SAFETY: the kernel reads as many bytes as `size` says, which is the size of what the pointer points to; the
    // thread is the caller (0), the processor any (-1).
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, attributes, 0, -1, group, PERF_FLAG_FD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor, which nobody else owns.
    Ok(unsafe { File::from_raw_fd(fd as i32) })
}
