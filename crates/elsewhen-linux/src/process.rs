//! Starting, waiting for and signalling processes, where the standard library stops.

use crate::error::{Error, Result, Step};
use crate::filter::Filter;
use crate::remote::Tid;
use crate::seccomp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{MaybeUninit, zeroed};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// How a process ended or paused, as `waitpid(2)` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Ended with an exit code.
    Exited(i32),
    /// Ended by a signal.
    Signaled(i32),
    /// Stopped by a signal.
    Stopped(i32),
    /// Goes on after a stop.
    Continued,
}

/// A stable reference to a process (`pidfd_open(2)`).
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Refers to a process by its id.
    ///
    /// # Errors
    /// Where there is no such process.
    pub fn open(pid: u32) -> Result<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| Error::refused(format!("{pid} is not a process id")))?;
        Ok(Self(pidfd_open(raw, PidfdFlags::empty()).step(|| format!("refer to process {pid}"))?))
    }

    /// Waits until the process has ended, without collecting it: no stop of a trace is taken from its tracer.
    ///
    /// # Errors
    /// Where waiting fails, which it does not for a valid descriptor.
    pub fn wait_end(&self) -> Result<()> {
        loop {
            let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut ready, None) {
                Err(rustix::io::Errno::INTR) => {}
                other => return other.map(drop).step(|| "wait for a process".into()),
            }
        }
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
        matches!(poll(&mut ready, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1))
    }

    /// Collects the latest change of the process, which is a child; `None` where there is none.
    ///
    /// # Errors
    /// Where it is not a child (`ECHILD`).
    pub fn change(&self) -> Result<Option<Change>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::CONTINUED | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::PidFd(self.0.as_fd()), options).step(|| "collect a child's status".into())?;
        Ok(status.and_then(|status| {
            if let Some(code) = status.exit_status() {
                Some(Change::Exited(code))
            } else if let Some(signal) = status.terminating_signal() {
                Some(Change::Signaled(signal))
            } else if let Some(signal) = status.stopping_signal() {
                Some(Change::Stopped(signal))
            } else {
                status.continued().then_some(Change::Continued)
            }
        }))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// Where the process is gone or may not be signalled.
    pub fn signal(&self, signal: i32) -> Result<()> {
        // SAFETY: no information is attached, so the kernel reads no memory of ours.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                std::os::fd::AsRawFd::as_raw_fd(&self.0),
                signal,
                std::ptr::null::<u8>(),
                0,
            )
        };
        if result < 0 { Err(Error::new("signal a process", io::Error::last_os_error())) } else { Ok(()) }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A pair of connected sockets that keep messages apart, closed on exec.
///
/// # Errors
/// Where no descriptor is left.
pub fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .step(|| "make a pair of sockets".into())
}

/// What a child inherits beyond what the standard library gives it.
#[derive(Clone, Copy, Debug)]
pub struct Inheritance {
    mask: libc::sigset_t,
    ignored_sigpipe: bool,
    ignored_sigchld: bool,
}

impl Default for Inheritance {
    /// No signal blocked, and SIGPIPE as it is by default.
    fn default() -> Self {
        // SAFETY: all zeros is the empty set.
        Self { mask: unsafe { zeroed() }, ignored_sigpipe: false, ignored_sigchld: false }
    }
}

impl Inheritance {
    /// What this process has now: its signal mask, and whether it was started with SIGPIPE ignored.
    pub fn of_this_process() -> Self {
        // SAFETY: all zeros is a valid value of this plain struct.
        let mut mask = unsafe { zeroed() };
        // SAFETY: the kernel writes one signal set.
        unsafe { libc::sigprocmask(libc::SIG_BLOCK, std::ptr::null(), &mut mask) };
        Self { mask, ignored_sigpipe: sigpipe::was_ignored(), ignored_sigchld: false }
    }

    /// Makes this process hear of its children's ends, which one that was started with SIGCHLD ignored does not;
    /// what it starts inherits that it was.
    #[must_use]
    pub fn hear_of_children(mut self) -> Self {
        // SAFETY: the default of SIGCHLD runs no code.
        let before = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        self.ignored_sigchld = before == libc::SIG_IGN;
        self
    }

    /// Applies it to every process that executes the command.
    pub fn give_to(self, command: &mut Command) {
        let hook = move || {
            self.apply();
            Ok(())
        };
        // SAFETY: the hook only makes system calls: no allocation, no locks.
        unsafe { command.pre_exec(hook) };
    }

    /// Applies it to the calling process. Async-signal-safe.
    pub(crate) fn apply(&self) {
        if self.ignored_sigchld {
            // SAFETY: ignoring a signal runs no code.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        }
        if self.ignored_sigpipe {
            // SAFETY: ignoring a signal runs no code.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        }
        let mut mask = self.mask;
        // The kernel must always be able to send it to a member; a member that blocks it only seems to.
        // SAFETY: the set is one of ours, and initialised.
        unsafe { libc::sigdelset(&mut mask, libc::SIGSYS) };
        // SAFETY: the kernel reads one signal set.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &mask, std::ptr::null_mut()) };
    }
}

/// Where a command's processes send their listeners: a socket that changes from one start to the next.
#[derive(Clone, Debug)]
pub struct ListenerSocket(Arc<AtomicI32>);

impl ListenerSocket {
    /// Makes every process of the command load the members' filter before it executes its program, and send the
    /// listener to the socket of its [`start`](Self::start).
    pub fn of(command: &mut Command, filter: Filter, inheritance: Inheritance) -> Self {
        let slot = Self(Arc::new(AtomicI32::new(-1)));
        let socket = slot.clone();
        let hook = move || load(&filter, inheritance, |errno, listener| socket.send(errno, listener));
        // SAFETY: the hook only makes system calls: no allocation, no locks.
        unsafe { command.pre_exec(hook) };
        slot
    }

    /// Starts a process of the command with a new socket, whose other end is returned.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub fn start<T>(&self, start: impl FnOnce(OwnedFd) -> T) -> Result<T> {
        let (ours, theirs) = socket_pair()?;
        self.0.store(std::os::fd::AsRawFd::as_raw_fd(&theirs), Ordering::Relaxed);
        let started = start(ours);
        self.0.store(-1, Ordering::Relaxed);
        // Closing this process's copy of the child's end lets the other one hear of a child that died.
        drop(theirs);
        Ok(started)
    }

    /// In the new process: sends the listener, or why there is none. Async-signal-safe.
    fn send(&self, errno: i32, listener: Option<&OwnedFd>) -> io::Result<()> {
        let socket = self.0.load(Ordering::Relaxed);
        if socket < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        // SAFETY: `start` holds the socket open until the process has been started, and this is that process.
        send_listener(unsafe { BorrowedFd::borrow_raw(socket) }, errno, listener)
    }
}

/// Why a process could not load the filter, known once it has tried to execute its program.
#[derive(Clone, Debug)]
pub struct FilterFailure(Arc<AtomicI32>);

impl FilterFailure {
    /// `None` where it loaded it.
    pub fn reason(&self) -> Option<Error> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            errno => Some(Error::new("load the members' filter", io::Error::from_raw_os_error(errno))),
        }
    }
}

/// Makes the process that executes the command load the members' filter before, and send the listener to `socket`, as
/// [`receive_listener`] expects it.
pub fn send_listener_before_exec(
    command: &mut Command,
    filter: Filter,
    inheritance: Inheritance,
    socket: OwnedFd,
) -> FilterFailure {
    let failure = FilterFailure(Arc::default());
    let told = failure.clone();
    let hook = move || {
        load(&filter, inheritance, |errno, listener| {
            told.0.store(errno, Ordering::Relaxed);
            send_listener(socket.as_fd(), errno, listener)
        })
    };
    // SAFETY: the hook only makes system calls: no allocation, no locks.
    unsafe { command.pre_exec(hook) };
    failure
}

/// Loads a filter into the process that is about to execute a program, and sends what came of it. Async-signal-safe where
/// `send` is.
fn load(
    filter: &Filter,
    inheritance: Inheritance,
    send: impl FnOnce(i32, Option<&OwnedFd>) -> io::Result<()>,
) -> io::Result<()> {
    // The filter would catch the calls with which this is done, and nobody is there yet to handle that.
    inheritance.apply();
    let result = seccomp::install(filter);
    let errno = result.as_ref().err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
    send(errno, result.as_ref().ok())?;
    result.map(drop)
}

fn send_listener(socket: BorrowedFd<'_>, errno: i32, listener: Option<&OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = listener.map(|listener| [listener.as_fd()]);
    if let Some(fds) = &fds {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, &[IoSlice::new(&errno.to_ne_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives the listener that a [`ListenerSocket`] sends; `None` where the process ended before it did.
///
/// # Errors
/// The reason for which the process could not load the filter.
pub fn receive_listener(socket: &OwnedFd) -> Result<Option<OwnedFd>> {
    let mut errno = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut errno)];
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.step(|| "receive the listener".into())?,
        }
    };
    if received.bytes == 0 || received.flags.contains(ReturnFlags::CTRUNC) {
        return Ok(None);
    }
    let errno = i32::from_ne_bytes(errno);
    if errno != 0 {
        return Err(Error::new("load the members' filter", io::Error::from_raw_os_error(errno)));
    }
    let mut messages = control.drain();
    Ok(messages.find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}

/// Which of the two processes a fork returned in.
#[derive(Debug)]
pub enum Fork {
    /// The parent, with the child's id.
    Parent(u32),
    /// The child.
    Child,
}

/// Duplicates this process, which must be single-threaded: another thread's locks would be held for ever in the
/// child.
///
/// # Errors
/// Where it is not single-threaded, or no process is left.
pub fn fork() -> Result<Fork> {
    let threads = std::fs::read_dir("/proc/self/task").step(|| "count this process's threads".into())?.count();
    if threads != 1 {
        return Err(Error::refused(format!("fork: this process has {threads} threads, and only one would go on")));
    }
    // SAFETY: the only thread is this one, so the child is whole.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        pid if pid > 0 => Ok(Fork::Parent(pid as u32)),
        _ => Err(Error::new("fork", io::Error::last_os_error())),
    }
}

mod sigpipe {
    //! Rust ignores SIGPIPE before `main`; programs started by us must not inherit that, but what we inherited.

    use std::sync::atomic::{AtomicBool, Ordering};

    static IGNORED: AtomicBool = AtomicBool::new(false);

    /// Runs before `main`, and so before the standard library changes the disposition.
    extern "C" fn remember() {
        // SAFETY: all zeros is a valid value of this plain struct.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one `sigaction`.
        unsafe { libc::sigaction(libc::SIGPIPE, std::ptr::null(), &mut action) };
        IGNORED.store(action.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
    }

    #[used]
    // SAFETY: the section holds addresses of functions of this signature, which the loader calls once; this one
    // needs nothing that is not there before `main`.
    #[unsafe(link_section = ".init_array")]
    static REMEMBER: extern "C" fn() = remember;

    pub(super) fn was_ignored() -> bool {
        IGNORED.load(Ordering::Relaxed)
    }
}

/// Whether there is a process with that id that has not ended.
pub fn exists(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The children of a process that have not ended (`/proc/PID/task/TID/children`), as far as they can be seen.
pub fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(|entry| entry.ok());
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_ascii_whitespace()
                .filter_map(|id| id.parse().ok())
                .filter(|pid| exists(*pid))
                .collect::<Vec<u32>>()
        })
        .collect()
}

/// Whether a process has ended or is about to, as one does that has been killed.
pub fn is_ending(pid: u32) -> bool {
    /// `PF_EXITING`, of the kernel's `sched.h`.
    const EXITING: u64 = 4;
    const KILLED: u64 = 1 << (libc::SIGKILL - 1);
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    // Behind the name: state, five ids, flags.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let is_dead = fields.next().is_none_or(|state| "ZX".contains(state));
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok()).unwrap_or_default();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = |line: &str| {
        let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    };
    is_dead || flags & EXITING != 0 || status.lines().filter_map(pending).any(|mask| mask & KILLED != 0)
}

/// What a process runs, for people: its arguments, or its name.
pub fn command_of(pid: u32) -> String {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&arguments).trim_end_matches('\0').replace('\0', " ");
    if !text.is_empty() {
        return printable(&text);
    }
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    name.map_or_else(|_| "?".into(), |name| printable(name.trim_end()))
}

/// A text of a process's choice, as it can be shown in one line of a terminal that is somebody else's.
pub fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// Another descriptor for an open file, closed on exec.
///
/// # Errors
/// Where none is left.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned().step(|| "duplicate a descriptor".into())
}

/// A random number, or one that differs between processes and moments.
pub fn random() -> u32 {
    let mut bytes = [0; 4];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => u32::from_ne_bytes(bytes),
        Err(_) => std::process::id() << 12 ^ crate::clock::now(elsewhen_vdso::clock::ClockId::Monotonic).0 as u32,
    }
}

/// The effective user id of this process.
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether this process is in the user namespace that the system began with (`user_namespaces(7)`).
pub fn is_in_first_user_namespace() -> bool {
    // As it is where the kernel has none.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.is_empty() || map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// The process that a thread is of, by its first thread's id; the thread itself where it is gone.
pub fn group_of(tid: Tid) -> Tid {
    crate::trace::status_field(tid, "Tgid:").map_or(tid, Tid)
}

/// Collects every child that has ended but `except`, without touching stops.
pub fn reap_others(except: Option<u32>) {
    loop {
        // SAFETY: all zeros is a valid value of this plain struct.
        let mut info: libc::siginfo_t = unsafe { zeroed() };
        let peek = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: the kernel writes one `siginfo_t`.
        if unsafe { libc::waitid(libc::P_ALL, 0, &mut info, peek) } != 0 {
            return;
        }
        // SAFETY: `waitid` fills in the fields of a child's change, or leaves them zero.
        let pid = unsafe { info.si_pid() } as u32;
        if pid == 0 || Some(pid) == except {
            return;
        }
        // SAFETY: the kernel writes one `siginfo_t`.
        unsafe { libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED | libc::WNOHANG) };
    }
}

/// The descriptors above standard error that this process has now.
pub fn inherited_descriptors() -> Vec<i32> {
    let Ok(folder) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let numbers: Vec<i32> = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    // The folder's own descriptor was in the list, and is closed by now.
    numbers
        .into_iter()
        .filter(|fd| *fd > 2 && std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok())
        .collect()
}

/// Closes descriptors that this process was started with and does not use itself.
///
/// They must be numbers from [`inherited_descriptors`], called before this process opened any of its own.
pub fn close_inherited(descriptors: &[i32]) {
    for fd in descriptors {
        // SAFETY: nothing in this process owns these: they were open before it ran any code.
        unsafe { libc::close(*fd) };
    }
}

/// Replaces a standard stream by `/dev/null`.
///
/// # Errors
/// Where there is no `/dev/null`.
pub fn silence(stream: i32) -> Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").step(|| "open /dev/null".into())?;
    // SAFETY: both descriptors are open, and standard streams are shared by everyone, owned by no one.
    let result = unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), stream) };
    if result < 0 { Err(Error::new("replace a standard stream", io::Error::last_os_error())) } else { Ok(()) }
}

/// Puts this process into a process group of its own (`setpgid(2)`).
///
/// # Errors
/// Where it leads a session.
pub fn own_process_group() -> Result<()> {
    rustix::process::setpgid(None, None).step(|| "make a process group".into())
}

/// Makes this process the leader of a session of its own (`setsid(2)`).
///
/// # Errors
/// Where it leads a process group.
pub fn own_session() -> Result<()> {
    rustix::process::setsid().map(drop).step(|| "make a session".into())
}

/// Makes orphans among this process's descendants its children (`PR_SET_CHILD_SUBREAPER`).
///
/// # Errors
/// Never, on kernels since 3.4.
pub fn adopt_orphans() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).step(|| "adopt orphans".into())
}

/// Names this thread, as `ps -L` and `top` show it.
pub fn set_name(name: &std::ffi::CStr) {
    // Only a bad address fails.
    let _ = rustix::thread::set_name(name);
}

/// Ends this process at once, without running anything else of it: for a forked child.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; nothing runs after it.
    unsafe { libc::_exit(code) }
}
