//! Starting programs in a namespace.

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::supervisor::{self, Gate, Supervisor};
use elsewhen_linux::filter::Filter;
use elsewhen_linux::inside;
use elsewhen_linux::process::{self, Change, Inheritance, ListenerSocket, PidFd};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output, Stdio};
use std::sync::Arc;

/// A program to start in a namespace; otherwise like [`std::process::Command`].
#[derive(Debug)]
pub struct Command {
    namespace: Namespace,
    inner: std::process::Command,
    inheritance: Inheritance,
    socket: Option<ListenerSocket>,
    /// Whether its processes change to the namespace's page before they execute it.
    is_prepared: bool,
}

/// Passes builder calls on to the standard library's command.
macro_rules! delegate {
    ($($(#[$doc:meta])* $name:ident<$bound:path>($argument:ident);)*) => {$(
        $(#[$doc])*
        pub fn $name(&mut self, $argument: impl $bound) -> &mut Self {
            self.inner.$name($argument);
            self
        }
    )*};
}

impl Command {
    /// A command for `program`, looked up in `PATH` as the standard library does.
    pub fn new(namespace: &Namespace, program: impl AsRef<OsStr>) -> Self {
        Self::from_std(namespace, std::process::Command::new(program))
    }

    /// Takes over a command of the standard library, with everything set on it.
    pub fn from_std(namespace: &Namespace, command: std::process::Command) -> Self {
        Self {
            namespace: namespace.clone(),
            inner: command,
            inheritance: Inheritance::default(),
            socket: None,
            is_prepared: false,
        }
    }

    delegate! {
        /// Adds an argument.
        arg<AsRef<OsStr>>(argument);
        /// Removes an environment variable.
        env_remove<AsRef<OsStr>>(key);
        /// Sets the working directory.
        current_dir<AsRef<Path>>(directory);
        /// Sets standard input.
        stdin<Into<Stdio>>(from);
        /// Sets standard output.
        stdout<Into<Stdio>>(to);
        /// Sets standard error.
        stderr<Into<Stdio>>(to);
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(&mut self, arguments: impl IntoIterator<Item = S>) -> &mut Self {
        self.inner.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env(key, value);
        self
    }

    /// Empties the environment.
    pub fn env_clear(&mut self) -> &mut Self {
        self.inner.env_clear();
        self
    }

    /// Before the first start: gives the program this signal mask and SIGPIPE disposition, in place of none and the default.
    pub fn inherit(&mut self, inheritance: Inheritance) -> &mut Self {
        self.inheritance = inheritance;
        self
    }

    /// The standard library's command, for everything else.
    pub fn as_std_mut(&mut self) -> &mut std::process::Command {
        &mut self.inner
    }

    /// Starts the program. It has been executed when this returns, and will be in the namespace before it reads
    /// its first clock.
    ///
    /// # Errors
    /// Where the program does not exist, cannot be run, or is refused because it could not be entered; or where
    /// the filter cannot be loaded, as inside another namespace.
    pub fn spawn(&mut self) -> Result<Child> {
        let shown = Path::new(self.inner.get_program()).display().to_string();
        if self.namespace.0.is_inside() {
            return self.spawn_inside(shown);
        }
        let Self { namespace, inner, inheritance, socket, .. } = self;
        let socket =
            socket.get_or_insert_with(|| ListenerSocket::of(inner, Filter::new(namespace.0.reach), *inheritance));
        let (supervisor, spawned) = socket.start(|ours| {
            let supervisor = Supervisor::start(Arc::clone(&namespace.0), ours)?;
            Ok::<_, Error>((supervisor, inner.spawn()))
        })??;
        match spawned {
            Ok(inner) => {
                let pidfd = PidFd::open(inner.id())?;
                Ok(Child { inner, pidfd, gate: supervisor.gate(&namespace.0), supervisor: Some(supervisor), shown })
            }
            Err(error) => Err(supervisor.explain(&shown, &error)),
        }
    }

    /// As [`spawn`](Self::spawn), in a process that is itself a member: the program is entered by the supervisor that this
    /// process has, after it has changed to the namespace's page.
    fn spawn_inside(&mut self, shown: String) -> Result<Child> {
        let Self { namespace, inner, inheritance, is_prepared, .. } = self;
        if !std::mem::replace(is_prepared, true) {
            inside::change_before_exec(inner, namespace.0.page.as_fd(), namespace.0.reach, *inheritance)?;
        }
        match inner.spawn() {
            Ok(inner) => {
                let pidfd = PidFd::open(inner.id())?;
                Ok(Child { inner, pidfd, gate: Arc::default(), supervisor: None, shown })
            }
            Err(error) => Err(supervisor::not_run(&shown, &error)),
        }
    }

    /// Starts the program and waits for it, with this process's standard streams.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn status(&mut self) -> Result<ExitStatus> {
        self.spawn()?.wait()
    }

    /// Starts the program with nothing to read, waits for it, and returns what it wrote.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn), and where its output cannot be read.
    pub fn output(&mut self) -> Result<Output> {
        self.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.spawn()?.wait_with_output()
    }
}

/// A program running in a namespace; otherwise like [`std::process::Child`].
///
/// Wait for it through this value only: another `waitpid(2)` of this process may take stops from the supervisor
/// that it needs to enter programs.
#[derive(Debug)]
pub struct Child {
    inner: std::process::Child,
    pidfd: PidFd,
    gate: Arc<Gate>,
    supervisor: Option<Supervisor>,
    shown: String,
}

impl Child {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.inner.id()
    }

    /// Its standard input, where that was piped.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.inner.stdin.take()
    }

    /// Its standard output, where that was piped.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.inner.stdout.take()
    }

    /// Its standard error, where that was piped.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.inner.stderr.take()
    }

    /// A reference to the process that stays valid.
    pub fn pidfd(&self) -> &PidFd {
        &self.pidfd
    }

    /// Waits for the program to end. Closes its standard input first.
    ///
    /// # Errors
    /// Where someone else has collected the child.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        drop(self.take_stdin());
        self.pidfd.wait_end()?;
        self.inner.wait().map_err(|error| self.failed("wait for", &error))
    }

    /// The status of the program if it has ended.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if !self.pidfd.has_ended() {
            return Ok(None);
        }
        self.inner.try_wait().map_err(|error| self.failed("wait for", &error))
    }

    /// The latest stop, continuation or end of the program that has not been collected yet.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn change(&self) -> Result<Option<Change>> {
        // While an execution is traced, its stops would be taken from the tracer.
        self.gate.closed(|| self.pidfd.change()).map_err(Error::from)
    }

    /// What collects orphans of this process without taking stops from the supervisor.
    pub fn reaper(&self) -> Reaper {
        Reaper(Arc::clone(&self.gate))
    }

    /// Waits until the program and everything it started have ended.
    pub fn wait_members(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.join();
        }
    }

    /// Kills the program with SIGKILL.
    ///
    /// # Errors
    /// Where it may not be signalled.
    pub fn kill(&mut self) -> Result<()> {
        self.inner.kill().map_err(|error| self.failed("kill", &error))
    }

    /// Waits for the program to end and returns what it wrote to piped streams.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), and where its output cannot be read.
    pub fn wait_with_output(mut self) -> Result<Output> {
        drop(self.take_stdin());
        let (stdout, stderr) = (self.take_stdout(), self.take_stderr());
        let other = std::thread::spawn(move || read_all(stderr));
        let stdout = read_all(stdout).map_err(|error| self.failed("read the output of", &error))?;
        let stderr = other.join().unwrap_or_else(|_| Ok(Vec::new()));
        let stderr = stderr.map_err(|error| self.failed("read the errors of", &error))?;
        Ok(Output { status: self.wait()?, stdout, stderr })
    }

    fn failed(&self, step: &str, error: &io::Error) -> Error {
        Error::setup(format!("{step} {}: {error}", self.shown))
    }
}

/// Collects ended children, for a process that adopts orphans.
#[derive(Clone, Debug)]
pub struct Reaper(Arc<Gate>);

impl Reaper {
    /// Collects every child of this process that has ended, up to the first that is `except`.
    pub fn reap(&self, except: Option<u32>) {
        self.0.closed(|| process::reap_others(except));
    }
}

fn read_all(stream: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
