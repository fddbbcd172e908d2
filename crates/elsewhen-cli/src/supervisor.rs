//! The process that starts the program and serves its whole tree, until the last member has ended.

use crate::{CANNOT_RUN, FAILURE, NOT_FOUND};
use elsewhen::{Change, Child, Inheritance, Namespace, Reaper};
use elsewhen_linux::probe::{self, Capability};
use elsewhen_linux::process;
use elsewhen_linux::signals::{self, Signals};
use rustix::event::{PollFd, PollFlags, poll};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The front, as the supervisor knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Front {
    pub(crate) pid: u32,
}

/// What the supervisor tells the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// The program runs as this process.
    Started(u32),
    /// It could not be started; the reason has been printed.
    Failed(u8),
    /// It ended, stopped or goes on.
    Changed(Change),
}

impl Message {
    fn to_words(self) -> [i32; 2] {
        match self {
            Self::Started(pid) => [0, pid as i32],
            Self::Failed(status) => [1, status.into()],
            Self::Changed(Change::Exited(code)) => [2, code],
            Self::Changed(Change::Signaled(signal)) => [3, signal],
            Self::Changed(Change::Stopped(signal)) => [4, signal],
            Self::Changed(Change::Continued) => [5, 0],
        }
    }

    fn from_words(words: [i32; 2]) -> Option<Self> {
        Some(match words {
            [0, pid] => Self::Started(pid as u32),
            [1, status] => Self::Failed(status as u8),
            [2, code] => Self::Changed(Change::Exited(code)),
            [3, signal] => Self::Changed(Change::Signaled(signal)),
            [4, signal] => Self::Changed(Change::Stopped(signal)),
            [5, _] => Self::Changed(Change::Continued),
            _ => return None,
        })
    }

    fn send(self, socket: &OwnedFd) {
        let [kind, value] = self.to_words();
        let bytes = [kind.to_ne_bytes(), value.to_ne_bytes()].concat();
        // A front that is gone is noticed by the loop.
        let _ = rustix::net::send(socket, &bytes, rustix::net::SendFlags::NOSIGNAL);
    }

    /// The next message; `None` when the supervisor is gone.
    pub(crate) fn receive(socket: &OwnedFd) -> Option<Self> {
        let mut bytes = [0; 8];
        let (_, length) = rustix::net::recv(socket, &mut bytes, rustix::net::RecvFlags::empty()).ok()?;
        if length != bytes.len() {
            return None;
        }
        let [a, b, c, d, e, f, g, h] = bytes;
        Self::from_words([i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h])])
    }
}

/// Starts the program and serves its tree. Ends the process when the last member has ended.
pub(crate) fn run(
    namespace: &Namespace,
    command: &[OsString],
    inheritance: Inheritance,
    front: Front,
    socket: OwnedFd,
    inherited: &[i32],
) -> ! {
    process::set_name(c"elsewhen-super");
    let quiet = Arc::new(AtomicBool::new(false));
    {
        let quiet = Arc::clone(&quiet);
        namespace.set_report(move |message| {
            if !quiet.load(Ordering::Relaxed) {
                eprintln!("elsewhen: {message}");
            }
        });
    }
    let started = start(namespace, command, inheritance);
    process::close_inherited(inherited);
    let (mut child, signals) = match started {
        Ok(started) => started,
        Err((status, message)) => {
            eprintln!("elsewhen: {message}");
            namespace.retire();
            Message::Failed(status).send(&socket);
            process::exit_now(status.into());
        }
    };
    Message::Started(child.id()).send(&socket);
    for stream in [0, 1] {
        let _ = process::silence(stream);
    }
    attend(&child, &signals, front, socket);
    // The program has ended. What it left behind goes on, without holding on to anything of the caller's.
    quiet.store(true, Ordering::Relaxed);
    let _ = process::silence(2);
    let _ = std::env::set_current_dir("/");
    if let Ok(signals) = Signals::block_all() {
        let reaper = child.reaper();
        std::thread::spawn(move || reap_orphans(&reaper, &signals));
    }
    child.wait_members();
    namespace.retire();
    process::exit_now(0)
}

fn start(
    namespace: &Namespace,
    command: &[OsString],
    inheritance: Inheritance,
) -> Result<(Child, Signals), (u8, String)> {
    let failure = |error: elsewhen_linux::Error| (FAILURE, error.to_string());
    if probe::yama_scope() == Some(1) && !probe::has(Capability::SysPtrace) {
        // Yama lets a process be entered by its ancestors only, so orphans must stay descendants.
        process::adopt_orphans().map_err(failure)?;
    }
    let signals = Signals::block_all().map_err(failure)?;
    let Some((program, arguments)) = command.split_first() else { return Err((FAILURE, "no program".into())) };
    let mut command = namespace.command(program);
    command.args(arguments).inherit(inheritance);
    let child = command.spawn().map_err(|error| {
        let status = if error.is_not_found() {
            NOT_FOUND
        } else if error.is_refused() || error.is_not_executable() {
            CANNOT_RUN
        } else {
            FAILURE
        };
        (status, error.to_string())
    })?;
    // The program stays in the front's group, and nothing that the terminal sends there is for this process: until
    // here its signals were blocked, from here on it is in a group of its own.
    process::own_process_group().map_err(failure)?;
    Ok((child, signals))
}

/// Tells the front of every change of the program, until it has ended. Kills it when the front is killed, as
/// killing the front's process id is meant to.
fn attend(child: &Child, signals: &Signals, front: Front, socket: OwnedFd) {
    let mut socket = Some(socket);
    let reaper = child.reaper();
    loop {
        reaper.reap(Some(child.id()));
        loop {
            let change = match child.change() {
                Ok(Some(change)) => change,
                Ok(None) => break,
                Err(error) => {
                    // Not to be: it would mean that somebody else had collected the program's end.
                    eprintln!("elsewhen: {error}");
                    if let Some(socket) = &socket {
                        Message::Failed(FAILURE).send(socket);
                    }
                    return;
                }
            };
            if let Some(socket) = &socket {
                Message::Changed(change).send(socket);
            }
            match change {
                Change::Exited(_) | Change::Signaled(_) => return,
                // The front is stopped; it cannot hear this by itself.
                Change::Continued if socket.is_some() => {
                    let front = process::PidFd::open(front.pid);
                    let _ = front.and_then(|front| front.signal(signals::SIGCONT));
                }
                Change::Continued | Change::Stopped(_) => {}
            }
        }
        let mut ready = vec![PollFd::new(signals, PollFlags::IN), PollFd::new(child.pidfd(), PollFlags::IN)];
        if let Some(socket) = &socket {
            ready.push(PollFd::new(socket, PollFlags::IN));
        }
        let _ = poll(&mut ready, None);
        let front_gone = ready.get(2).is_some_and(|socket| !socket.revents().is_empty());
        while signals.next().is_some() {}
        if front_gone {
            socket = None;
            // Fails only where it has ended.
            let _ = child.pidfd().signal(signals::SIGKILL);
        }
    }
}

fn reap_orphans(reaper: &Reaper, signals: &Signals) {
    loop {
        reaper.reap(None);
        let _ = poll(&mut [PollFd::new(signals, PollFlags::IN)], None);
        while signals.next().is_some() {}
    }
}
