//! Programs that start others in a namespace without being in it themselves: container runtimes.
//!
//! A runtime and the container's first process are one tree, and the filter that members need can be loaded only before
//! the runtime has given its privileges away. So it is loaded before the runtime is executed, which lives with it in the
//! host's time; what it executes under another root directory than its own is a member.

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::supervisor::{Supervisor, not_loaded, not_run};
use elsewhen_linux::filter::Filter;
use elsewhen_linux::process::{self, Inheritance};
use elsewhen_linux::seccomp::Listener;
use elsewhen_vdso::surface::Reach;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// How long a launcher waits to be served.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest reason that a launcher is given.
const REASON_MAX: usize = 4096;

impl Namespace {
    /// Serves the launcher at the other end of a unix socket, which calls [`execute_launcher`], with everything that it
    /// starts, until no process of them is left. Any number of launchers can be served at once, each by a thread.
    ///
    /// # Errors
    /// Where the launcher could not load the filter, or this process is itself a member. One that ends before it has begun is
    /// no error.
    pub fn serve_launcher(&self, socket: OwnedFd) -> Result<()> {
        if let Err(error) = self.0.entrance() {
            refuse_launcher(&socket, &error.to_string());
            return Err(error);
        }
        let greeting = [vec![READY], self.0.reach.to_bits().to_ne_bytes().to_vec()].concat();
        match send(&socket, &greeting, SendFlags::NOSIGNAL) {
            Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
            other => other.map_err(|error| Error::setup(format!("greet a launcher: {error}")))?,
        };
        let listener = process::receive_listener(&socket).map_err(|error| not_loaded("the runtime", &error))?;
        drop(socket);
        match listener {
            Some(listener) => Supervisor::serve_launcher(Arc::clone(&self.0), Listener::new(listener)),
            None => Ok(()),
        }
    }
}

/// What a greeting begins with.
const READY: u8 = 0;

/// Tells the launcher at the other end of a socket why it is not served.
pub fn refuse_launcher(socket: &OwnedFd, reason: &str) {
    let reason = &reason.as_bytes()[..reason.len().min(REASON_MAX - 1)];
    // One that has gone needs no reason.
    let _ = send(socket, &[&[!READY], reason].concat(), SendFlags::NOSIGNAL);
}

/// Executes a launcher in place of this process (`execve(2)`), served by whoever is at the other end of the socket.
///
/// The launcher inherits this process's signal mask and standard streams. As every process with a filter it has `Seccomp: 2`
/// in `/proc/PID/status`; it gets `no_new_privs` only where this process lacks `CAP_SYS_ADMIN` in its user namespace.
///
/// Returns only where that failed: the reason.
pub fn execute_launcher(socket: OwnedFd, command: &mut Command) -> Error {
    let shown = Path::new(command.get_program()).display().to_string();
    let mut greeting = [0; REASON_MAX];
    // Only an impossible time fails.
    let _ = set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE));
    let length = match recv(&socket, &mut greeting, RecvFlags::empty()) {
        Ok((_, length)) => length,
        Err(Errno::AGAIN) => {
            return Error::setup(format!("cannot supervise {shown}: whoever is to do it does not answer"));
        }
        Err(error) => return Error::setup(format!("cannot supervise {shown}: {error}")),
    };
    let reach = match &greeting[..length] {
        [READY, reach @ ..] => reach.try_into().map(u64::from_ne_bytes),
        [_, reason @ ..] => return Error::setup(String::from_utf8_lossy(reason)),
        [] => return Error::setup(format!("cannot supervise {shown}: whoever was to do it has gone")),
    };
    let Ok(reach) = reach else {
        return Error::setup(format!("cannot supervise {shown}: whoever is to do it is of another version"));
    };
    let filter = Filter::new(Reach::from_bits(reach));
    let failure = process::send_listener_before_exec(command, filter, Inheritance::of_this_process(), socket);
    let error = command.exec();
    match failure.reason() {
        Some(error) => not_loaded(&shown, &error),
        None => not_run(&shown, &error),
    }
}
