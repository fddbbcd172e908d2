//! The process that the caller started: it stands in for the program at the terminal and towards its parent.
//!
//! It forks the [supervisor](crate::supervisor), which starts the program in this process's group. Keys of the
//! terminal so reach the program and this process alike, while the supervisor, in a group of its own, can be
//! neither stopped nor interrupted by them. This process stops when the program stops, goes on when it is told to,
//! passes on what is sent to it alone, and ends as the program ended.

use crate::supervisor::{self, Message};
use crate::{FAILURE, fail};
use elsewhen::{Inheritance, Namespace};
use elsewhen_linux::process::{self, Change, Fork, PidFd};
use elsewhen_linux::signals::{self, Signals};
use rustix::event::{PollFd, PollFlags, poll};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

/// Runs the program of `command` in a namespace, and returns how it ended.
pub(crate) fn run(namespace: elsewhen::Result<Namespace>, command: &[OsString], inherited: &[i32]) -> ExitCode {
    let inheritance = Inheritance::of_this_process().hear_of_children();
    let namespace = match namespace {
        Ok(namespace) => namespace,
        Err(error) => return fail(&error.to_string()),
    };
    let prepared = process::socket_pair().and_then(|sockets| Ok((sockets, Signals::block_all()?)));
    let ((ours, theirs), signals) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return fail(&error.to_string()),
    };
    let front = supervisor::Front { pid: std::process::id() };
    match process::fork() {
        Err(error) => fail(&error.to_string()),
        Ok(Fork::Child) => {
            drop(ours);
            drop(signals);
            supervisor::run(&namespace, command, inheritance, front, theirs, inherited)
        }
        Ok(Fork::Parent(supervisor)) => {
            drop(theirs);
            drop(namespace);
            // Whoever reads what the program writes must not wait for us; messages still need standard error.
            process::close_inherited(inherited);
            for stream in [0, 1] {
                // Without /dev/null the stream stays shared, which is no reason to give up.
                let _ = process::silence(stream);
            }
            Front { signals, socket: ours, program: None, waiting: Vec::new(), supervisor }.serve()
        }
    }
}

struct Front {
    signals: Signals,
    socket: OwnedFd,
    /// The program, once it runs.
    program: Option<PidFd>,
    /// Signals for it that came before.
    waiting: Vec<i32>,
    supervisor: u32,
}

impl Front {
    fn serve(mut self) -> ExitCode {
        loop {
            let mut ready = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            // A failing poll is an interrupted one, and there is nothing else to do than to look again.
            let _ = poll(&mut ready, None);
            let (message, signal) = (!ready[0].revents().is_empty(), !ready[1].revents().is_empty());
            if signal {
                self.pass_signals_on();
            }
            if message && let Some(status) = self.hear() {
                return status;
            }
        }
    }

    fn pass_signals_on(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal.number {
                // As process 1 of a container, orphans are ours to collect.
                signals::SIGCHLD => process::reap_others(None),
                // By which it says that the program goes on already, and perhaps no longer does.
                signals::SIGCONT if signal.sender == self.supervisor => {}
                number if signal.by_process || number == signals::SIGCONT => match &self.program {
                    // Fails only where the program has ended, which we are about to hear.
                    Some(program) => drop(program.signal(number)),
                    None => self.waiting.push(number),
                },
                // The kernel sent it: to the program as well, by its process group.
                _ => {}
            }
        }
    }

    /// Acts on a message of the supervisor; the exit status if it was the last.
    fn hear(&mut self) -> Option<ExitCode> {
        let Some(message) = Message::receive(&self.socket) else { return Some(self.orphaned()) };
        match message {
            Message::Started(pid) => {
                self.program = PidFd::open(pid).ok();
                for signal in std::mem::take(&mut self.waiting) {
                    self.program.as_ref().map(|program| program.signal(signal));
                }
                None
            }
            Message::Failed(status) => Some(ExitCode::from(status)),
            Message::Changed(Change::Exited(code)) => Some(ExitCode::from(code as u8)),
            Message::Changed(Change::Signaled(signal)) => Some(ExitCode::from(128 + signal as u8)),
            Message::Changed(Change::Stopped(signal)) => {
                signals::stop_self(signal);
                None
            }
            Message::Changed(Change::Continued) => None,
        }
    }

    /// The supervisor is gone without a word: nobody can say how the program ends, so wait until it has.
    fn orphaned(&self) -> ExitCode {
        let Some(program) = &self.program else {
            return fail(&format!("the supervisor (process {}) died before the program ran", self.supervisor));
        };
        eprintln!(
            "elsewhen: the supervisor (process {}) died; the program goes on, but it can start no others and its \
             exit status will be unknown",
            self.supervisor
        );
        // Fails for no valid descriptor.
        let _ = program.wait_end();
        ExitCode::from(FAILURE)
    }
}
