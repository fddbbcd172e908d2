//! Loading the members' filter, and the listener at which it announces them. Mirrors `seccomp(2)` and
//! `seccomp_unotify(2)`.

use crate::error::{Error, Result, Step};
use crate::filter::Filter;
use crate::page::filter_file;
use crate::remote::Tid;
use elsewhen_vdso::surface::{Reach, X32_BIT};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
#[cfg(target_arch = "x86_64")]
use std::time::Duration;
use std::time::Instant;

/// `ARCH_SET_FS` of `arch_prctl(2)`.
#[cfg(target_arch = "x86_64")]
pub const ARCH_SET_FS: u64 = 0x1002;

/// As which calls of this machine's 64-bit interface report themselves: `AUDIT_ARCH_X86_64` or `AUDIT_ARCH_AARCH64`.
pub(crate) const AUDIT_ARCH_NATIVE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
pub(crate) const AUDIT_ARCH_I386: u32 = 0x4000_0003;

/// The third argument, which the kernel ignores, of `arch_prctl(ARCH_SET_FS)` made by the stub in place of the
/// announced one. The filter lets it pass.
#[cfg(target_arch = "x86_64")]
pub(crate) const STUB_PASS: u64 = 0xe15e_0001_7061_7373;

/// The second argument, which the kernel ignores, of `set_thread_area(2)` made by the stub in place of the announced
/// one. The filter lets it pass.
#[cfg(target_arch = "x86_64")]
pub(crate) const STUB_PASS_32: u32 = 0xe15e_7061;

// Numbers of the other interfaces.
pub(crate) const I386_EXECVE: u32 = 11;
#[cfg(target_arch = "x86_64")]
pub(crate) const I386_SET_THREAD_AREA: u32 = 243;
pub(crate) const I386_EXECVEAT: u32 = 358;
/// Without [`X32_BIT`].
pub(crate) const X32_EXECVE: u32 = 520;
/// Without [`X32_BIT`].
pub(crate) const X32_EXECVEAT: u32 = 545;

/// Loads a filter into the calling thread and returns its listener.
///
/// Async-signal-safe: meant for between `fork(2)` and `execve(2)`. Sets `no_new_privs` only where the kernel
/// asks for it, which is where the caller lacks `CAP_SYS_ADMIN`; programs started then gain nothing from
/// set-user-ID bits and file capabilities.
///
/// # Errors
/// `EBUSY`: another listener is above this process. `EINVAL`: the kernel has no listeners. `EPERM`, `EACCES`:
/// forbidden.
pub fn install(filter: &Filter) -> io::Result<OwnedFd> {
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    let attempts = [
        // Once its call is announced, only a fatal signal takes a member out of it (Linux 5.19).
        (false, flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV),
        (false, flags),
        (true, flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV),
        (true, flags),
    ];
    let mut last = io::Error::from_raw_os_error(libc::EINVAL);
    for (no_new_privs, flags) in attempts {
        if no_new_privs {
            rustix::thread::set_no_new_privs(true)?;
        }
        match load(filter, flags) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
        if !matches!(last.raw_os_error(), Some(libc::EACCES | libc::EINVAL)) {
            break;
        }
    }
    Err(last)
}

fn load(filter: &Filter, flags: libc::c_ulong) -> io::Result<OwnedFd> {
    let listener = load_raw(filter, flags)?;
    // SAFETY: with NEW_LISTENER the call returns a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

fn load_raw(filter: &Filter, flags: libc::c_ulong) -> io::Result<i32> {
    let program = filter.program();
    // SAFETY: the kernel reads the program, which lives as long as the call, and writes nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&program)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// Loads a filter that announces nothing into the calling thread. Async-signal-safe; `no_new_privs` as for [`install`].
///
/// # Errors
/// `EPERM`, `EACCES`: forbidden.
pub(crate) fn install_without_listener(filter: &Filter) -> io::Result<()> {
    match load_raw(filter, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            rustix::thread::set_no_new_privs(true)?;
            load_raw(filter, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW).map(drop)
        }
        other => other.map(drop),
    }
}

/// The descriptor at which the kernel announces members' calls.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
}

/// An announced call; its thread waits for the answer.
#[derive(Clone, Copy, Debug)]
pub struct Notification {
    id: u64,
    /// The calling thread, in this process's PID namespace; 0 where it is not visible from here.
    pub tid: Tid,
    /// What it calls.
    pub call: Call,
    /// Address right behind the `syscall` instruction.
    pub return_address: u64,
}

/// What a member is about to do.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    /// `execve(2)`, with the address of the path.
    Execve {
        /// Address of the path.
        path: u64,
    },
    /// `execveat(2)`.
    Execveat {
        /// The directory, or `AT_FDCWD`.
        directory: i32,
        /// Address of the path.
        path: u64,
        /// `AT_*` flags.
        flags: u32,
    },
    /// `arch_prctl(ARCH_SET_FS)`, of a program at its start, or what members and the stub of `enter` say by it; on arm64 only
    /// that, by the call that is for it.
    SetFs {
        /// The second argument.
        base: u64,
        /// The third argument, which the kernel ignores.
        extra: u64,
    },
    /// `set_thread_area(2)` of the 32-bit interface: a 32-bit program at its start.
    SetThreadArea,
}

/// What became of an answer or a descriptor for a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It arrived.
    Done,
    /// The call is no longer waiting: its thread was killed or interrupted.
    Gone,
}

impl Listener {
    /// Takes over a listener.
    pub const fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Waits until a call is announced. `None` when no process with the filter is left.
    ///
    /// # Errors
    /// Where the listener fails, which no member can cause.
    pub fn wait(&self) -> Result<Option<Notification>> {
        self.wait_until(None)
    }

    /// As [`wait`](Self::wait), but for some time only. `None` also where no call is announced in it.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn wait_for(&self, time: Duration) -> Result<Option<Notification>> {
        self.wait_until(Some(Instant::now() + time))
    }

    fn wait_until(&self, end: Option<Instant>) -> Result<Option<Notification>> {
        loop {
            let mut ready = [PollFd::new(&self.fd, PollFlags::IN)];
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let left = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
            match poll(&mut ready, left.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                Ok(0) => return Ok(None),
                other => other.step(|| "wait for members".into())?,
            };
            let events = ready[0].revents();
            if !events.contains(PollFlags::IN) {
                if events.intersects(PollFlags::HUP | PollFlags::ERR) {
                    return Ok(None);
                }
                continue;
            }
            match self.receive() {
                // The thread was killed between poll and here, or a signal came.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => continue,
                other => return other.map(Some),
            }
        }
    }

    fn receive(&self) -> Result<Notification> {
        // SAFETY: all zeros is a valid value of this plain struct, and the one the kernel asks for.
        let mut raw: libc::seccomp_notif = unsafe { zeroed() };
        // SAFETY: the kernel writes one `seccomp_notif`.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &mut raw) };
        if result < 0 {
            return Err(Error::new("receive a member's call", io::Error::last_os_error()));
        }
        const EXECVE: u32 = libc::SYS_execve as u32;
        const EXECVEAT: u32 = libc::SYS_execveat as u32;
        let arg = raw.data.args;
        let call = match (raw.data.arch, raw.data.nr as u32 & !X32_BIT) {
            // Numbers of the other interfaces are announced on x86 only.
            (AUDIT_ARCH_I386, I386_EXECVE) | (AUDIT_ARCH_NATIVE, EXECVE | X32_EXECVE) => Call::Execve { path: arg[0] },
            (AUDIT_ARCH_I386, I386_EXECVEAT) | (AUDIT_ARCH_NATIVE, EXECVEAT | X32_EXECVEAT) => {
                Call::Execveat { directory: arg[0] as i32, path: arg[1], flags: arg[4] as u32 }
            }
            (AUDIT_ARCH_I386, _) => Call::SetThreadArea,
            _ => Call::SetFs { base: arg[1], extra: arg[2] },
        };
        Ok(Notification { id: raw.id, tid: Tid(raw.pid), call, return_address: raw.data.instruction_pointer })
    }

    /// Whether the call is still waiting. After opening a thing by thread id, this says that it is the thread's.
    pub fn is_waiting(&self, notification: &Notification) -> bool {
        let id = notification.id;
        // SAFETY: the kernel reads one u64.
        unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
    }

    /// Lets the kernel go on with the call.
    ///
    /// # Errors
    /// Where the listener fails.
    pub fn resume(&self, notification: &Notification) -> Result<Delivery> {
        self.answer(notification, 0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32)
    }

    /// Makes the call return 0 without being made.
    ///
    /// # Errors
    /// Where the listener fails.
    pub fn succeed(&self, notification: &Notification) -> Result<Delivery> {
        self.succeed_with(notification, 0)
    }

    /// Makes the call return a value without being made.
    ///
    /// # Errors
    /// Where the listener fails.
    pub fn succeed_with(&self, notification: &Notification, value: i64) -> Result<Delivery> {
        self.answer(notification, value, 0, 0)
    }

    /// Makes the call fail with an error number.
    ///
    /// # Errors
    /// Where the listener fails.
    pub fn fail(&self, notification: &Notification, errno: i32) -> Result<Delivery> {
        self.answer(notification, 0, -errno, 0)
    }

    fn answer(&self, notification: &Notification, val: i64, error: i32, flags: u32) -> Result<Delivery> {
        let response = libc::seccomp_notif_resp { id: notification.id, val, error, flags };
        // SAFETY: the kernel reads one `seccomp_notif_resp`.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response) };
        delivery(result, "answer a member's call").map(|_| if result < 0 { Delivery::Gone } else { Delivery::Done })
    }

    /// Places a copy of a descriptor in the calling process, closed on exec. `None` where the call is gone.
    ///
    /// # Errors
    /// Where the process has no descriptor left (`EMFILE`).
    pub fn give(&self, notification: &Notification, fd: BorrowedFd<'_>) -> Result<Option<i32>> {
        let request = libc::seccomp_notif_addfd {
            id: notification.id,
            flags: 0,
            srcfd: fd.as_raw_fd() as u32,
            newfd: 0,
            newfd_flags: libc::O_CLOEXEC as u32,
        };
        // SAFETY: the kernel reads one `seccomp_notif_addfd`.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const request) };
        delivery(result, "give a member a descriptor")
    }
}

impl Listener {
    /// Answers a request for a filter: with a descriptor of it.
    ///
    /// # Errors
    /// Where the listener fails, or the process has no descriptor left.
    pub fn give_filter(&self, notification: &Notification, reach: Reach) -> Result<Delivery> {
        let file = filter_file(&Filter::catching(reach))?;
        self.give_file(notification, file.as_fd())
    }

    /// Answers a request for a descriptor with a copy of one.
    ///
    /// # Errors
    /// As [`give_filter`](Self::give_filter).
    pub fn give_file(&self, notification: &Notification, file: BorrowedFd<'_>) -> Result<Delivery> {
        match self.give(notification, file)? {
            Some(fd) => self.succeed_with(notification, fd.into()),
            None => Ok(Delivery::Gone),
        }
    }
}

/// The result of a call about a waiting thread: `None` where that thread has gone.
fn delivery(result: i32, step: &str) -> Result<Option<i32>> {
    if result >= 0 {
        return Ok(Some(result));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => Ok(None),
        _ => Err(Error::new(step, error)),
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The kernel's structures must be the ones this was built for.
const _: () = assert!(size_of::<libc::seccomp_notif>() == 80 && size_of::<libc::seccomp_notif_resp>() == 24);
