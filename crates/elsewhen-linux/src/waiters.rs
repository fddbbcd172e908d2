//! Members' threads that wait, found and made to look at the page again.
//!
//! A thread that waits for a translated deadline does so in the gate. The kernel tells where a waiting thread is and
//! with what it called (`/proc/TID/syscall`, `proc_pid_syscall(5)`). A queued `SIGSYS` with a value of ours interrupts
//! it, and the image translates its wait anew; the program notices nothing.

use crate::page::{IMAGE_ADDRESS, Mapping, PAGE_ADDRESS, PageFile, Place, STATE_ADDRESS, image_len};
use crate::remote::{RemoteAddr, RemoteMemory, Tid};
use crate::timers::{self, Change};
use elsewhen_vdso::state::{State, frame};
use elsewhen_vdso::surface::{WAKE_MARK, WAKE_TIMERS_MARK};
#[cfg(target_arch = "x86_64")]
use elsewhen_vdso::surface32::native;
use std::fs;
use std::io::{BufRead, BufReader};

/// The processes that are members of a page.
#[derive(Debug)]
pub struct Members(Vec<u32>);

impl Members {
    /// Looks for them.
    pub fn of(page: &PageFile) -> Self {
        let Some(wanted) = page.place() else { return Self(Vec::new()) };
        Self(with_page().filter(|(_, place)| *place == wanted).map(|found| found.0).collect())
    }

    /// Their process ids, in order.
    pub fn ids(mut self) -> Vec<u32> {
        self.0.sort_unstable();
        self.0
    }

    /// One process.
    pub fn only(pid: u32) -> Self {
        Self(vec![pid])
    }

    /// Sets their armed timers anew.
    pub fn rearm_timers(&self, change: Change<'_>) {
        timers::rearm_descriptors(&self.0, change);
        for pid in &self.0 {
            if has_timers(*pid) {
                // Whichever thread it is, its image sets the timers of the process.
                signal(*pid, *pid, WAKE_TIMERS_MARK);
            }
        }
    }

    /// Interrupts every thread that waits by a state of the page with another counter than `current`. Returns how many do.
    pub fn wake(&self, current: u32) -> usize {
        self.0.iter().map(|pid| wake_threads(*pid, current)).sum()
    }
}

/// Whether a process has timers that its image knows of.
fn has_timers(pid: u32) -> bool {
    let mut count = [0; 4];
    let at = RemoteAddr(STATE_ADDRESS + State::TIMERS_ARMED as u64);
    RemoteMemory::open(Tid(pid)).and_then(|memory| memory.read(at, &mut count)).is_ok() && count != [0; 4]
}

/// Every process that maps a page, with the place of that.
pub fn with_page() -> impl Iterator<Item = (u32, Place)> {
    let processes = fs::read_dir("/proc").into_iter().flatten();
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter_map(|pid| page_of(pid).map(|place| (pid, place)))
}

/// The place of the page that a process maps. No more of its mappings are looked at than lie below, which on
/// x86 are hardly any.
pub fn page_of(pid: u32) -> Option<Place> {
    let maps = fs::File::open(format!("/proc/{pid}/maps")).ok()?;
    for line in BufReader::with_capacity(1024, maps).lines() {
        let line = line.ok()?;
        let mapping = Mapping::parse(&line)?;
        if mapping.start >= PAGE_ADDRESS {
            // A page that changes nothing is no file.
            let found = mapping.start == PAGE_ADDRESS && mapping.inode != 0;
            return found.then(|| mapping.place());
        }
    }
    None
}

fn wake_threads(pid: u32, current: u32) -> usize {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let ids = threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|tid| waits_by_another_state(pid, *tid, current) && signal(pid, *tid, WAKE_MARK)).count()
}

/// Whether a thread is in the gate's own call, with a wait that was translated by another state of the page.
fn waits_by_another_state(pid: u32, tid: u32, current: u32) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")) else { return false };
    // The number, six arguments, the stack pointer and the instruction pointer, or "running".
    let mut words = text.split_ascii_whitespace();
    let Some(number) = words.next().and_then(|number| number.parse::<u64>().ok()) else { return false };
    let hexadecimal = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let rest: Vec<u64> = words.filter_map(hexadecimal).collect();
    let [.., stack, at] = rest[..] else { return false };
    if !(IMAGE_ADDRESS..IMAGE_ADDRESS + image_len()).contains(&at) {
        return false;
    }
    let Ok(memory) = RemoteMemory::open(Tid(tid)) else { return false };
    // The gate aligns its stack pointer to 16, so the frame is there or eight bytes above.
    [0, 8].into_iter().any(|pad| {
        let mut bytes = [0; frame::LEN];
        if memory.read(RemoteAddr(stack + pad), &mut bytes).is_err() {
            return false;
        }
        let word = |at: usize| bytes[at..at + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let counter = bytes[frame::TICKET..].iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        // A call that a stop has interrupted shows as the one that restarts it.
        let same_call = number == libc::SYS_restart_syscall as u64
            || (word(frame::CALL) == number && word(frame::CALL + 8) == rest[0])
            || is_made_as(word(frame::CALL), number);
        same_call && bytes[frame::KIND] != 0 && counter != current
    })
}

/// On arm64 the gate makes every call as it is.
#[cfg(target_arch = "aarch64")]
const fn is_made_as(_call: u64, _number: u64) -> bool {
    false
}

/// Whether the gate of 32-bit programs makes a 64-bit call as one of that number of their interface.
#[cfg(target_arch = "x86_64")]
fn is_made_as(call: u64, number: u64) -> bool {
    const RESTART_SYSCALL: u64 = 0;
    // `nanosleep` as `clock_nanosleep`, and `io_getevents` as `io_pgetevents`: theirs alone have 64-bit times.
    const OTHERS: [(u64, u64); 2] = [(35, 407), (208, 416)];
    let native = u32::try_from(number).ok().and_then(native).map(|(native, _)| u64::from(native));
    number == RESTART_SYSCALL || native == Some(call) || OTHERS.contains(&(call, number))
}

/// Queues the signal. False where the thread is gone or may not be signalled.
fn signal(pid: u32, tid: u32, mark: u64) -> bool {
    // SAFETY: all zeros is a valid value of this plain struct.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    info.si_signo = libc::SIGSYS;
    info.si_code = libc::SI_QUEUE;
    // SAFETY: the value lies within the struct, 24 bytes from its start on 64-bit machines (`sigaction(2)`).
    let value = unsafe { (&raw mut info).cast::<u64>().add(3) };
    // SAFETY: as above.
    unsafe { value.write(mark) };
    // SAFETY: the kernel reads one `siginfo_t`.
    unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, libc::SIGSYS, &raw const info) == 0 }
}
