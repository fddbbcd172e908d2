//! Signals as a descriptor, and the few that a front passes on or acts out.

use crate::error::{Error, Result};
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// All signals of this process, blocked and read from a descriptor instead (`signalfd(2)`).
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its number.
    pub number: i32,
    /// Whether a process sent it to this one or its group, not the kernel (as a terminal's ^C is).
    pub by_process: bool,
    /// That process, where one did.
    pub sender: u32,
}

impl Signals {
    /// Blocks every signal that can be blocked, in this thread and those it starts later.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub fn block_all() -> Result<Self> {
        // SAFETY: all zeros is a valid value of this plain struct.
        let mut set = unsafe { zeroed() };
        // SAFETY: writes one signal set.
        unsafe { libc::sigfillset(&mut set) };
        // SAFETY: reads one signal set.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut()) };
        // SAFETY: reads one signal set.
        let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(Error::new("read signals from a descriptor", io::Error::last_os_error()));
        }
        // SAFETY: a new descriptor that nobody else owns.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// The next signal that has arrived, `None` where there is none.
    pub fn next(&self) -> Option<Signal> {
        // SAFETY: all zeros is a valid value of this plain struct.
        let mut info: libc::signalfd_siginfo = unsafe { zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the kernel writes at most the size of the struct.
        let read = unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut info).cast(), size) };
        let by_process = info.ssi_code <= 0;
        (read == size as isize).then_some(Signal {
            number: info.ssi_signo as i32,
            by_process,
            sender: if by_process { info.ssi_pid } else { 0 },
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Stops this process the way `signal` stops a process that does not handle it, and returns when it goes on.
pub fn stop_self(signal: i32) {
    // SAFETY: all zeros is a valid value of this plain struct.
    let mut set = unsafe { zeroed() };
    // SAFETY: writes one signal set.
    unsafe { libc::sigemptyset(&mut set) };
    // SAFETY: writes one signal set.
    unsafe { libc::sigaddset(&mut set, signal) };
    // SAFETY: sends a signal to this process, whose handlers are all the default.
    unsafe { libc::raise(signal) };
    // SAFETY: reads one signal set.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut()) };
    // SAFETY: as above.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
}

/// `SIGCHLD`.
pub const SIGCHLD: i32 = libc::SIGCHLD;
/// `SIGCONT`.
pub const SIGCONT: i32 = libc::SIGCONT;
/// `SIGKILL`.
pub const SIGKILL: i32 = libc::SIGKILL;
