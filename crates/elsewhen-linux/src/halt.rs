//! A whole process stopped by `ptrace(2)`: every thread of it, wherever it is, for a moment.
//!
//! Threads are seized and interrupted, which no program can tell from being scheduled late: no signal is sent. What is
//! sent to them meanwhile waits. If this process dies, all of them go on.

use crate::error::{Error, Result};
use crate::remote::Tid;
use crate::trace::{Registers, status_field};
use std::collections::HashSet;
use std::io;
use std::mem::zeroed;
use std::ptr::{null_mut, without_provenance_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a thread is waited for, in each step. One that does not stop in this time is in an uninterruptible call.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// A process all of whose threads are stopped. Dropping it lets them go on.
///
/// The kernel ties it to the thread of this process that made it.
#[derive(Debug)]
pub(crate) struct Halted {
    pid: u32,
    pub(crate) threads: Vec<Halt>,
}

/// Collects threads that end while others are being seized: a thread that executes a program waits for that, holding what
/// seizing one of them takes.
#[derive(Clone, Default)]
struct Watch {
    seized: Arc<Mutex<Vec<Tid>>>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn collect(&self) {
        loop {
            std::thread::sleep(Duration::from_millis(20));
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            for tid in self.seized.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                collect_ended(*tid);
            }
        }
    }
}

/// A stopped thread.
#[derive(Debug)]
pub(crate) struct Halt {
    pub(crate) tid: Tid,
    pub(crate) registers: Registers,
    /// The signals that it blocks.
    pub(crate) mask: u64,
    /// Whether it goes on by itself, so that there is nothing left to do about it.
    released: bool,
}

impl Halted {
    /// Stops every thread of a process.
    ///
    /// # Errors
    /// Where the process is gone, another tracer has a thread, access is refused, or a thread does not stop within some
    /// seconds. All threads have been let go then.
    pub(crate) fn stop(pid: u32) -> Result<Self> {
        let end = Instant::now() + PATIENCE;
        let watch = Watch::default();
        let worker = watch.clone();
        // Nobody waits for this thread: the process that is being stopped would have to wait too.
        let spawned = std::thread::Builder::new().name("elsewhen-watch".into()).spawn(move || worker.collect());
        spawned.map_err(|error| Error::new("start a thread", error))?;
        let halted = Self::stop_all(pid, end, &watch.seized);
        watch.over.store(true, Ordering::Relaxed);
        halted
    }

    fn stop_all(pid: u32, end: Instant, seized: &Mutex<Vec<Tid>>) -> Result<Self> {
        let mut halted = Self { pid, threads: Vec::new() };
        let mut known = HashSet::new();
        let mut running: Vec<Tid> = Vec::new();
        loop {
            let found = tasks(pid)?;
            let new: Vec<Tid> = found.into_iter().filter(|tid| !known.contains(tid)).collect();
            if new.is_empty() && running.is_empty() {
                break;
            }
            for tid in new {
                match seize(tid) {
                    Ok(()) => {
                        seized.lock().unwrap_or_else(PoisonError::into_inner).push(tid);
                        interrupt(tid);
                        known.insert(tid);
                        running.push(tid);
                    }
                    // A thread that has ended stays in the list where it is the first.
                    Err(_) if has_ended(tid) => drop(known.insert(tid)),
                    Err(error) => {
                        halted.abandon(&running);
                        return Err(explain(pid, tid, error));
                    }
                }
            }
            let mut pause = Duration::from_micros(5);
            while !running.is_empty() {
                let mut failure = None;
                running.retain(|tid| match settle(*tid) {
                    State::Stopped => match Halt::of(*tid) {
                        Ok(halt) => {
                            halted.threads.push(halt);
                            false
                        }
                        Err(_) if has_ended(*tid) => false,
                        Err(error) => {
                            failure = Some(error);
                            true
                        }
                    },
                    State::Gone => false,
                    State::Running => true,
                });
                if let Some(error) = failure {
                    halted.abandon(&running);
                    return Err(error);
                }
                if running.is_empty() {
                    break;
                }
                if Instant::now() > end {
                    let stuck: Vec<String> = running.iter().map(|tid| describe(pid, *tid)).collect();
                    halted.abandon(&running);
                    return Err(Error::refused(format!("process {pid} cannot be stopped: {}", stuck.join(", "))));
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_micros(200));
            }
        }
        if halted.threads.is_empty() {
            return Err(Error::new(format!("stop process {pid}"), io::Error::from_raw_os_error(libc::ESRCH)));
        }
        Ok(halted)
    }

    /// Lets go of threads that have not stopped yet as well.
    fn abandon(&self, running: &[Tid]) {
        // A thread can be let go only where it is stopped; the kernel lets the others go when this thread ends, which
        // it does soon.
        for tid in running {
            detach(*tid);
        }
    }

    /// Lets every thread go on.
    pub(crate) fn release(mut self) {
        self.release_all();
    }

    fn release_all(&mut self) {
        let pid = self.pid;
        for halt in &mut self.threads {
            if !std::mem::replace(&mut halt.released, true) {
                if let Some(registers) = halt.undisturbed(pid) {
                    // Fails only where the thread has been killed.
                    let _ = halt.set_registers(registers);
                }
                detach(halt.tid);
            }
        }
    }

    /// The process.
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        self.release_all();
    }
}

impl Halt {
    fn of(tid: Tid) -> Result<Self> {
        // SAFETY: all zeros is a valid value of this plain struct.
        let mut registers: Registers = unsafe { zeroed() };
        // SAFETY: the kernel writes one `user_regs_struct`.
        let result = unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid_t(tid), null_mut::<u8>(), &raw mut registers) };
        check(result, tid, "read the registers of")?;
        let mut mask = 0u64;
        // SAFETY: the kernel writes eight bytes, as many as it is told.
        let result =
            unsafe { libc::ptrace(PTRACE_GETSIGMASK, pid_t(tid), without_provenance_mut::<u8>(8), &raw mut mask) };
        check(result, tid, "read the signal mask of")?;
        Ok(Self { tid, registers, mask, released: false })
    }

    /// The registers of a thread whose call the stop has ended with EINTR, as a signal does, which no program expects of
    /// nothing: it makes that call again. `None` for any other thread.
    pub(crate) fn undisturbed(&self, pid: u32) -> Option<Registers> {
        const EINTR: i64 = -4;
        const SYS_IO_PGETEVENTS: i64 = 333;
        let registers = self.registers;
        let ended = registers.rax as i64 == EINTR
            && matches!(
                registers.orig_rax as i64,
                libc::SYS_epoll_wait
                    | libc::SYS_epoll_pwait
                    | libc::SYS_epoll_pwait2
                    | libc::SYS_rt_sigtimedwait
                    | libc::SYS_semtimedop
                    | libc::SYS_semop
                    | libc::SYS_io_getevents
                    | SYS_IO_PGETEVENTS
            );
        (ended && !self.is_signalled(pid)).then(|| from_the_beginning(registers))
    }

    /// Whether a signal waits for the thread that it does not block.
    fn is_signalled(&self, pid: u32) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{pid}/task/{}/status", self.tid.0));
        let Ok(status) = status else { return true };
        let set = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
        };
        (set("SigPnd:") | set("ShdPnd:")) & !self.mask != 0
    }

    /// Gives the thread other registers.
    pub(crate) fn set_registers(&mut self, registers: Registers) -> Result<()> {
        // SAFETY: the kernel reads one `user_regs_struct`.
        let result =
            unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid_t(self.tid), null_mut::<u8>(), &raw const registers) };
        check(result, self.tid, "change the registers of")?;
        self.registers = registers;
        Ok(())
    }

    /// Gives the thread another signal mask.
    pub(crate) fn set_mask(&self, mask: u64) -> Result<()> {
        // SAFETY: the kernel reads eight bytes, as many as it is told.
        let result = unsafe {
            libc::ptrace(PTRACE_SETSIGMASK, pid_t(self.tid), without_provenance_mut::<u8>(8), &raw const mask)
        };
        check(result, self.tid, "change the signal mask of")
    }

    /// Lets the thread go on under trace. The kernel ends that when this thread of ours ends.
    pub(crate) fn go_on(&mut self) -> Result<()> {
        // SAFETY: PTRACE_CONT takes no pointers.
        let result = unsafe { libc::ptrace(libc::PTRACE_CONT, pid_t(self.tid), null_mut::<u8>(), null_mut::<u8>()) };
        check(result, self.tid, "let go on")?;
        self.released = true;
        Ok(())
    }

    /// Stops the thread again.
    pub(crate) fn stop_again(&mut self, end: Instant) -> Result<()> {
        interrupt(self.tid);
        let mut pause = Duration::from_micros(2);
        loop {
            match settle(self.tid) {
                State::Stopped => break,
                State::Gone => return Err(gone(self.tid)),
                State::Running if Instant::now() > end => {
                    return Err(Error::refused(format!("thread {} does not stop", self.tid.0)));
                }
                State::Running => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(Duration::from_micros(200));
        }
        *self = Self::of(self.tid)?;
        Ok(())
    }

    /// Lets the thread make its next system call, and returns that call's number and result.
    pub(crate) fn next_call(&mut self, end: Instant) -> Result<(u64, i64)> {
        self.next_stop(end)?;
        self.next_stop(end)?;
        let registers = Self::of(self.tid)?.registers;
        Ok((registers.orig_rax, registers.rax as i64))
    }

    /// Lets the thread go on to the beginning or the end of a system call.
    fn next_stop(&self, end: Instant) -> Result<()> {
        // SAFETY: PTRACE_SYSCALL takes no pointers.
        let result = unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid_t(self.tid), null_mut::<u8>(), null_mut::<u8>()) };
        check(result, self.tid, "let go on")?;
        loop {
            match look(self.tid) {
                Look::Stopped { event, signal } if event == 0 && signal == libc::SIGTRAP | 0x80 => {
                    collect(self.tid);
                    return Ok(());
                }
                // Signals are blocked, so this is a stop for everyone, of which the kernel tells again.
                Look::Stopped { .. } => {
                    collect(self.tid);
                    // SAFETY: as above.
                    unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid_t(self.tid), null_mut::<u8>(), null_mut::<u8>()) };
                }
                Look::Gone => return Err(gone(self.tid)),
                Look::Running if Instant::now() > end => {
                    return Err(Error::refused(format!("thread {} does not go on", self.tid.0)));
                }
                Look::Running => std::thread::sleep(Duration::from_micros(5)),
            }
        }
    }

    /// Takes the thread out of a restartable sequence (`rseq(2)`) as the kernel does where it is preempted in one.
    pub(crate) fn leave_sequence(&mut self, memory: &crate::remote::RemoteMemory) -> Result<()> {
        let mut configuration = [0u64; 3];
        // SAFETY: the kernel writes as many bytes as it is told, 24 at most.
        let result = unsafe {
            libc::ptrace(
                PTRACE_GET_RSEQ_CONFIGURATION,
                pid_t(self.tid),
                without_provenance_mut::<u8>(24),
                &raw mut configuration,
            )
        };
        // A kernel before 5.13, or a thread without sequences.
        if result < 0 || configuration[0] == 0 {
            return Ok(());
        }
        let mut word = [0; 8];
        let at = crate::remote::RemoteAddr(configuration[0] + 8);
        memory.read(at, &mut word)?;
        let sequence = u64::from_le_bytes(word);
        let mut bytes = [0; 32];
        if sequence == 0 || memory.read(crate::remote::RemoteAddr(sequence), &mut bytes).is_err() {
            return Ok(());
        }
        let field = |at: usize| bytes[at..at + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let (start, length, abort) = (field(8), field(16), field(24));
        if self.registers.rip.wrapping_sub(start) < length {
            memory.write(at, &[0; 8])?;
            self.registers.rip = abort;
        }
        Ok(())
    }
}

/// The registers of a thread in a system call, made such that it makes that again.
pub(crate) const fn from_the_beginning(mut registers: Registers) -> Registers {
    registers.rax = registers.orig_rax;
    registers.rip -= 2;
    registers.orig_rax = u64::MAX;
    registers
}

/// What C libraries take a request for.
#[cfg(target_env = "musl")]
type Request = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;

const PTRACE_GETSIGMASK: Request = 0x420a;
const PTRACE_SETSIGMASK: Request = 0x420b;
const PTRACE_GET_RSEQ_CONFIGURATION: Request = 0x420f;

/// The threads of a process.
///
/// # Errors
/// Where the process is gone.
fn tasks(pid: u32) -> Result<Vec<Tid>> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/task"));
    let folder = folder.map_err(|_| gone(Tid(pid)))?;
    Ok(folder.filter_map(|entry| Some(Tid(entry.ok()?.file_name().to_str()?.parse().ok()?))).collect())
}

fn seize(tid: Tid) -> io::Result<()> {
    // Should this process die at a stop for a system call, the kernel would send the thread the signal of that stop. With
    // this option it is no signal, and nothing is sent; without it SIGTRAP, which kills.
    let options = without_provenance_mut::<u8>(libc::PTRACE_O_TRACESYSGOOD as usize);
    // SAFETY: PTRACE_SEIZE takes no pointers: no address, and options as a number.
    let result = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid_t(tid), null_mut::<u8>(), options) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn interrupt(tid: Tid) {
    // Fails only where the thread is gone, which waiting tells.
    // SAFETY: PTRACE_INTERRUPT takes no pointers.
    unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid_t(tid), null_mut::<u8>(), null_mut::<u8>()) };
}

fn detach(tid: Tid) {
    // Fails where the thread is gone, and where it runs.
    // SAFETY: PTRACE_DETACH takes no pointers.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, pid_t(tid), null_mut::<u8>(), null_mut::<u8>()) };
}

/// Whether a seized thread has come to the stop that was asked for.
enum State {
    Running,
    Stopped,
    Gone,
}

fn settle(tid: Tid) -> State {
    match look(tid) {
        Look::Running => State::Running,
        Look::Gone => State::Gone,
        Look::Stopped { event: libc::PTRACE_EVENT_STOP, .. } => {
            collect(tid);
            State::Stopped
        }
        // A signal came first: the thread gets it, and stops at the first instruction of its handler.
        Look::Stopped { event, signal } => {
            collect(tid);
            let signal = if event == 0 { signal } else { 0 };
            // SAFETY: PTRACE_CONT takes no pointers: no address, and a signal as a number.
            unsafe {
                libc::ptrace(
                    libc::PTRACE_CONT,
                    pid_t(tid),
                    null_mut::<u8>(),
                    without_provenance_mut::<u8>(signal as usize),
                )
            };
            State::Running
        }
    }
}

enum Look {
    Running,
    Stopped { signal: i32, event: i32 },
    Gone,
}

fn look(tid: Tid) -> Look {
    // SAFETY: all zeros is a valid value of this plain struct.
    let mut info: libc::siginfo_t = unsafe { zeroed() };
    let options = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL;
    // SAFETY: the kernel writes one `siginfo_t`.
    if unsafe { libc::waitid(libc::P_PID, tid.0, &mut info, options) } != 0 {
        return Look::Gone;
    }
    // SAFETY: `waitid` fills in the fields of a child's change, or leaves them zero.
    if unsafe { info.si_pid() } == 0 {
        return Look::Running;
    }
    match info.si_code {
        libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED => {
            collect_ended(tid);
            Look::Gone
        }
        _ => {
            // SAFETY: as above; of a traced stop this is the signal, with the event above it.
            let status = unsafe { info.si_status() };
            Look::Stopped { signal: status & 0xff, event: status >> 8 }
        }
    }
}

fn collect(tid: Tid) {
    wait_for(tid, libc::WSTOPPED);
}

/// Collects a thread that has ended, but for a child of this process, which is its starter's to collect.
fn collect_ended(tid: Tid) {
    if has_ended(tid)
        && !(status_field(tid, "Tgid:") == Some(tid.0) && status_field(tid, "PPid:") == Some(std::process::id()))
    {
        wait_for(tid, libc::WEXITED);
    }
}

fn wait_for(tid: Tid, what: i32) {
    // SAFETY: all zeros is a valid value of this plain struct.
    let mut info: libc::siginfo_t = unsafe { zeroed() };
    // Fails only where nothing is left to collect.
    // SAFETY: the kernel writes one `siginfo_t`.
    unsafe { libc::waitid(libc::P_PID, tid.0, &mut info, what | libc::WNOHANG | libc::__WALL) };
}

/// The letter for a thread's state (`proc_pid_stat(5)`).
fn letter(tid: Tid) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", tid.0)).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

fn has_ended(tid: Tid) -> bool {
    matches!(letter(tid), None | Some('Z' | 'X'))
}

/// A thread that cannot be stopped, for people.
fn describe(pid: u32, tid: Tid) -> String {
    let name = if pid == tid.0 { "its main thread".into() } else { format!("thread {}", tid.0) };
    match letter(tid) {
        Some('D') => format!("{name} is in an uninterruptible sleep (waiting for a disk, or for a vfork child)"),
        _ => format!("{name} does not stop"),
    }
}

/// Why a thread cannot be seized.
fn explain(pid: u32, tid: Tid, error: io::Error) -> Error {
    let tracer = status_field(tid, "TracerPid:").filter(|tracer| *tracer != 0);
    match (error.raw_os_error(), tracer) {
        (Some(libc::EPERM), Some(tracer)) => {
            Error::refused(format!("process {pid} is traced by process {tracer} (strace, gdb?)"))
        }
        (Some(libc::EPERM), None) => {
            Error::new(format!("trace process {pid} (another user's, or forbidden by kernel.yama.ptrace_scope)"), error)
        }
        _ => Error::new(format!("trace process {pid}"), error),
    }
}

fn gone(tid: Tid) -> Error {
    Error::new(format!("stop process {}", tid.0), io::Error::from_raw_os_error(libc::ESRCH))
}

fn check(result: libc::c_long, tid: Tid, what: &str) -> Result<()> {
    if result < 0 {
        return Err(Error::new(format!("{what} thread {}", tid.0), io::Error::last_os_error()));
    }
    Ok(())
}

const fn pid_t(tid: Tid) -> libc::pid_t {
    tid.0 as libc::pid_t
}
