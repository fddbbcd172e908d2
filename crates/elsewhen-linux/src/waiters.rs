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
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::time::Duration;
use std::{fs, mem, thread};

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

    /// Has every thread translate its wait again that waits by a state of the page with another counter than `current`, or is
    /// on its way there.
    pub fn wake(&self, current: u32) {
        // Threads that are ready to run and have not run since the first look, by how long they had run then.
        let mut starved = HashMap::new();
        let mut woken = HashSet::new();
        let mut is_first = true;
        // One that runs shows only when it has got into its wait.
        for pause_ms in [0, 2, 8, 20, 40, 80] {
            thread::sleep(Duration::from_millis(pause_ms));
            let before = mem::take(&mut starved);
            let mut is_over = !is_first;
            for thread in self.threads() {
                let (pid, tid) = thread;
                match Doing::of(tid, current) {
                    Doing::Waits | Doing::Stands => {
                        // One that stays stopped has been told for when it goes on.
                        let is_told = signal(pid, tid, WAKE_MARK);
                        is_over &= !(is_told && woken.insert(thread));
                    }
                    Doing::Runs => {
                        if let Some(ran) = ran_ns(tid)
                            && (is_first || before.get(&thread) == Some(&ran))
                        {
                            starved.insert(thread, ran);
                        }
                    }
                    Doing::Else => {}
                }
            }
            if is_over && starved.is_empty() {
                return;
            }
            is_first = false;
        }
    }

    /// Their threads.
    fn threads(&self) -> impl Iterator<Item = (u32, u32)> {
        self.0.iter().flat_map(|pid| {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
            threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).map(|tid| (*pid, tid))
        })
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

/// What a thread does.
enum Doing {
    /// It is in the gate's own call, with a wait that was translated by another state of the page.
    Waits,
    /// It has been stopped in the image, not in a call.
    Stands,
    /// It runs, or is ready to.
    Runs,
    /// Anything else.
    Else,
}

impl Doing {
    fn of(tid: u32, current: u32) -> Self {
        // The number, six arguments, the stack pointer and the instruction pointer; -1 and the two; or "running".
        let Ok(text) = fs::read_to_string(format!("/proc/{tid}/syscall")) else { return Self::Else };
        let mut words = text.split_ascii_whitespace();
        let number = match words.next() {
            Some("running") => return Self::Runs,
            Some(number) => number.parse::<i64>().ok(),
            None => None,
        };
        let hexadecimal = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
        let rest: Vec<u64> = words.filter_map(hexadecimal).collect();
        let (Some(number), [.., stack, at]) = (number, &rest[..]) else { return Self::Else };
        if !(IMAGE_ADDRESS..IMAGE_ADDRESS + image_len()).contains(at) {
            return Self::Else;
        }
        match u64::try_from(number) {
            Err(_) => Self::Stands,
            Ok(number) if waits_by_another_state(tid, number, rest[0], *stack, current) => Self::Waits,
            Ok(_) => Self::Else,
        }
    }
}

/// How long a thread has run: the first number of `/proc/TID/schedstat`, of kernels that count it.
fn ran_ns(tid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{tid}/schedstat")).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok().filter(|ran| *ran != 0)
}

/// Whether a thread that has made a call from the image, with that number and first argument, waits by another state of the
/// page.
fn waits_by_another_state(tid: u32, number: u64, argument: u64, stack: u64, current: u32) -> bool {
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
            || (word(frame::CALL) == number && word(frame::CALL + 8) == argument)
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
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    info.si_signo = libc::SIGSYS;
    info.si_code = libc::SI_QUEUE;
    // SAFETY: the value lies within the struct, 24 bytes from its start on 64-bit machines (`sigaction(2)`).
    let value = unsafe { (&raw mut info).cast::<u64>().add(3) };
    // SAFETY: as above.
    unsafe { value.write(mark) };
    // SAFETY: the kernel reads one `siginfo_t`.
    unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, libc::SIGSYS, &raw const info) == 0 }
}
