//! A `ptrace(2)` session of one execution: seized before it, let go at the first instruction of the new program.
//!
//! A thread under trace is [`Running`] or [`Stopped`]; neither can be copied, and letting a stopped thread go
//! consumes it. If this process dies, the kernel ends the session and the thread goes on.

use crate::error::{Error, Result};
use crate::remote::Tid;
use std::io;
use std::mem::zeroed;
use std::ptr::{null_mut, without_provenance_mut};
use std::time::Duration;

/// The registers of a stopped thread.
pub type Registers = libc::user_regs_struct;

/// A traced thread that may be running.
#[derive(Debug)]
pub struct Running {
    tid: Tid,
    /// The leader of its thread group.
    group: Tid,
}

/// A traced thread that is stopped.
#[derive(Debug)]
pub struct Stopped {
    tid: Tid,
}

/// Why a traced thread stopped.
#[derive(Debug)]
pub enum Event {
    /// It is about to run the first instruction of a new program.
    Exec(Stopped),
    /// It stopped for another reason, with the signal to deliver when it goes on (0 for none).
    Stopped(Stopped, i32),
    /// It no longer exists.
    Gone,
}

impl Running {
    /// Begins a session without stopping the thread. Waiting must happen in the calling thread.
    ///
    /// # Errors
    /// Where another tracer has the thread, access is refused, or it is gone.
    pub fn seize(tid: Tid) -> Result<Self> {
        let options = libc::PTRACE_O_TRACEEXEC;
        // SAFETY: PTRACE_SEIZE takes no pointers: no address, and options as a number.
        let result = unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, pid(tid), null_mut::<u8>(), without_provenance_mut::<u8>(options as usize))
        };
        if result < 0 {
            return Err(Error::new(format!("trace process {}", tid.0), io::Error::last_os_error()));
        }
        Ok(Self { tid, group: status_field(tid, "Tgid:").map_or(tid, Tid) })
    }

    /// Stops the thread as soon as it returns to user mode.
    pub fn interrupt(&self) {
        // Fails only where the thread is gone, which `wait` tells.
        // SAFETY: PTRACE_INTERRUPT takes no pointers.
        unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid(self.tid), null_mut::<u8>(), null_mut::<u8>()) };
    }

    /// Waits for the thread's next stop, or its end.
    pub fn wait(self) -> Event {
        // A thread that is not its group's leader takes the leader's id at exec, and who waits for its old id
        // is not woken then: so both are looked at in turn.
        let mut pause = Duration::ZERO;
        loop {
            let states = [self.tid, self.group].map(look);
            for (id, state) in [self.tid, self.group].into_iter().zip(&states) {
                match state {
                    State::Stopped { signal, event } => {
                        collect(id, libc::WSTOPPED);
                        let stopped = Stopped { tid: id };
                        return match *event {
                            libc::PTRACE_EVENT_EXEC => Event::Exec(stopped),
                            0 => Event::Stopped(stopped, *signal),
                            _ => Event::Stopped(stopped, 0),
                        };
                    }
                    // A child of this process is left to whoever waits for it; others must be let go to their
                    // own parent.
                    State::Ended if id == self.group && is_our_child(id) => return Event::Gone,
                    State::Ended => {
                        collect(id, libc::WEXITED);
                        return Event::Gone;
                    }
                    State::Running | State::Absent => {}
                }
            }
            if states.iter().all(|state| matches!(state, State::Absent)) {
                return Event::Gone;
            }
            std::thread::sleep(pause);
            pause = (pause + Duration::from_micros(10)).min(Duration::from_millis(1));
        }
    }
}

/// What `waitid(2)` tells of a traced thread, without collecting it.
enum State {
    Running,
    Stopped { signal: i32, event: i32 },
    Ended,
    Absent,
}

fn look(id: Tid) -> State {
    // SAFETY: all zeros is a valid value of this plain struct.
    let mut info: libc::siginfo_t = unsafe { zeroed() };
    let options = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL | libc::__WNOTHREAD;
    // SAFETY: the kernel writes one `siginfo_t`.
    if unsafe { libc::waitid(libc::P_PID, id.0, &mut info, options) } != 0 {
        return State::Absent;
    }
    // SAFETY: `waitid` fills in the fields of a child's change, or leaves them zero.
    if unsafe { info.si_pid() } == 0 {
        return State::Running;
    }
    match info.si_code {
        libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED => State::Ended,
        _ => {
            // SAFETY: as above; of a traced stop this is the signal, with the event above it.
            let status = unsafe { info.si_status() };
            State::Stopped { signal: status & 0xff, event: status >> 8 }
        }
    }
}

fn collect(id: Tid, what: libc::c_int) {
    // SAFETY: all zeros is a valid value of this plain struct.
    let mut info: libc::siginfo_t = unsafe { zeroed() };
    let options = what | libc::WNOHANG | libc::__WALL | libc::__WNOTHREAD;
    // Fails only where nothing is left to collect.
    // SAFETY: the kernel writes one `siginfo_t`.
    unsafe { libc::waitid(libc::P_PID, id.0, &mut info, options) };
}

/// A number from `/proc/TID/status`.
pub(crate) fn status_field(tid: Tid, name: &str) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", tid.0)).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

fn is_our_child(tid: Tid) -> bool {
    status_field(tid, "PPid:") == Some(std::process::id())
}

impl Stopped {
    /// The thread.
    pub const fn tid(&self) -> Tid {
        self.tid
    }

    /// The thread's registers.
    ///
    /// # Errors
    /// Where the thread was killed meanwhile.
    pub fn registers(&self) -> Result<Registers> {
        // SAFETY: all zeros is a valid value of this plain struct.
        let mut registers: Registers = unsafe { zeroed() };
        // SAFETY: the kernel writes one `user_regs_struct`.
        let result = unsafe { get_registers(pid(self.tid), &mut registers) };
        self.check(result, "read")?;
        Ok(registers)
    }

    /// Changes the thread's registers.
    ///
    /// # Errors
    /// Where the thread was killed meanwhile.
    pub fn set_registers(&self, registers: &Registers) -> Result<()> {
        // SAFETY: the kernel reads one `user_regs_struct`.
        let result = unsafe { set_registers(pid(self.tid), registers) };
        self.check(result, "change")
    }

    /// Ends the session; the thread goes on, with a signal if that is not 0.
    pub fn detach(self, signal: i32) {
        // Fails only where the thread was killed, and then there is no session to end.
        // SAFETY: PTRACE_DETACH takes no pointers: no address, and a signal as a number.
        unsafe {
            libc::ptrace(
                libc::PTRACE_DETACH,
                pid(self.tid),
                null_mut::<u8>(),
                without_provenance_mut::<u8>(signal as usize),
            )
        };
    }

    fn check(&self, result: libc::c_long, what: &str) -> Result<()> {
        if result < 0 {
            return Err(Error::new(
                format!("{what} the registers of process {}", self.tid.0),
                io::Error::last_os_error(),
            ));
        }
        Ok(())
    }
}

/// `PTRACE_GETREGS`, which gives a 64-bit process all registers of a 32-bit one too.
#[cfg(target_arch = "x86_64")]
unsafe fn get_registers(pid: libc::pid_t, registers: &mut Registers) -> libc::c_long {
    // SAFETY: the kernel writes one `user_regs_struct`.
    unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, null_mut::<u8>(), std::ptr::from_mut(registers)) }
}

/// `PTRACE_SETREGS`.
#[cfg(target_arch = "x86_64")]
unsafe fn set_registers(pid: libc::pid_t, registers: &Registers) -> libc::c_long {
    // SAFETY: the kernel reads one `user_regs_struct`.
    unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid, null_mut::<u8>(), std::ptr::from_ref(registers)) }
}

/// Which registers: the general ones (`elf.h`).
#[cfg(target_arch = "aarch64")]
const NT_PRSTATUS: usize = 1;

/// `PTRACE_GETREGSET`, since there is no `PTRACE_GETREGS`.
#[cfg(target_arch = "aarch64")]
unsafe fn get_registers(pid: libc::pid_t, registers: &mut Registers) -> libc::c_long {
    let mut place = libc::iovec { iov_base: std::ptr::from_mut(registers).cast(), iov_len: size_of::<Registers>() };
    // SAFETY: the kernel writes one `user_regs_struct`, and how much that was.
    unsafe { libc::ptrace(libc::PTRACE_GETREGSET, pid, NT_PRSTATUS, &raw mut place) }
}

/// `PTRACE_SETREGSET`, since there is no `PTRACE_SETREGS`.
#[cfg(target_arch = "aarch64")]
unsafe fn set_registers(pid: libc::pid_t, registers: &Registers) -> libc::c_long {
    let registers = std::ptr::from_ref(registers).cast_mut();
    let mut place = libc::iovec { iov_base: registers.cast(), iov_len: size_of::<Registers>() };
    // SAFETY: the kernel reads one `user_regs_struct`.
    unsafe { libc::ptrace(libc::PTRACE_SETREGSET, pid, NT_PRSTATUS, &raw mut place) }
}

fn pid(tid: Tid) -> libc::pid_t {
    tid.0 as libc::pid_t
}

const _: () = assert!(libc::PTRACE_EVENT_EXEC == 4);
