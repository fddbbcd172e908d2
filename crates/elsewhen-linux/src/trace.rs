//! A `ptrace(2)` session of one execution: seized before it, let go at the first instruction of the new program.
//!
//! A thread under trace is [`Running`] or [`Stopped`]; neither can be copied, and letting a stopped thread go
//! consumes it. If this process dies, the kernel ends the session and the thread goes on.

use crate::error::{Error, Result};
use crate::remote::Tid;
use std::io;
use std::mem::zeroed;
use std::ptr::{null_mut, without_provenance_mut};

/// The registers of a stopped thread.
pub type Registers = libc::user_regs_struct;

/// A traced thread that may be running.
#[derive(Debug)]
pub struct Running {
    tid: Tid,
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
        Ok(Self { tid })
    }

    /// Stops the thread as soon as it returns to user mode.
    pub fn interrupt(&self) {
        // Fails only where the thread is gone, which `wait` tells.
        // SAFETY: PTRACE_INTERRUPT takes no pointers.
        unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid(self.tid), null_mut::<u8>(), null_mut::<u8>()) };
    }

    /// Waits for the thread's next stop, or its end. The calling thread must have no other session.
    pub fn wait(self) -> Event {
        loop {
            let mut status = 0;
            // A thread that is not its group's leader takes the leader's id at exec, so any id is waited for; the
            // calling thread has this session only.
            // SAFETY: the kernel writes one int.
            let tid = unsafe { libc::waitpid(-1, &mut status, libc::__WALL | libc::__WNOTHREAD) };
            if tid < 0 {
                if io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) {
                    continue;
                }
                return Event::Gone;
            }
            if !libc::WIFSTOPPED(status) {
                if tid == pid(self.tid) {
                    return Event::Gone;
                }
                continue;
            }
            let stopped = Stopped { tid: Tid(tid as u32) };
            let signal = libc::WSTOPSIG(status);
            return match status >> 16 {
                libc::PTRACE_EVENT_EXEC => Event::Exec(stopped),
                0 => Event::Stopped(stopped, signal),
                _ => Event::Stopped(stopped, 0),
            };
        }
    }
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
        let result = unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid(self.tid), null_mut::<u8>(), &raw mut registers) };
        self.check(result, "read")?;
        Ok(registers)
    }

    /// Changes the thread's registers.
    ///
    /// # Errors
    /// Where the thread was killed meanwhile.
    pub fn set_registers(&self, registers: &Registers) -> Result<()> {
        let registers = std::ptr::from_ref(registers);
        // SAFETY: the kernel reads one `user_regs_struct`.
        let result = unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid(self.tid), null_mut::<u8>(), registers) };
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

fn pid(tid: Tid) -> libc::pid_t {
    tid.0 as libc::pid_t
}

const _: () = assert!(libc::PTRACE_EVENT_EXEC == 4);
