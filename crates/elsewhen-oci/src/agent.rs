//! The process that supervises a container: it makes its namespace, enters what is executed in it, `exec` sessions included,
//! and ends with its last process.
//!
//! It is nobody's child, holds none of the engine's descriptors, and cannot be interrupted from a terminal. If it dies, the
//! clocks of the container go on, but nothing can be executed in it until the next `exec` session has started another.

use crate::containers::{Container, Folder, append};
use crate::timens::KernelOffsets;
use elsewhen::{Error, Namespace, Result, Spec, refuse_launcher};
use elsewhen_linux::process::{self, Fork, PidFd};
use elsewhen_linux::signals::Signals;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long the agent of a container of the same id, which has ended, may take to end too.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an agent is started for.
#[derive(Debug)]
pub(crate) enum Task {
    /// A new container, with a namespace of its own.
    Create {
        /// The namespace.
        spec: Spec,
        /// Its name.
        namespace: String,
        /// What people call the container.
        name: Option<String>,
        /// What a time namespace of the kernel's does beside it.
        kernel: Option<KernelOffsets>,
    },
    /// A container whose agent has died.
    Revive(Container),
}

/// What every agent is told.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    /// The id of the container.
    pub(crate) id: &'a str,
    /// A file for messages, beside the container's own.
    pub(crate) log: Option<PathBuf>,
    /// Descriptors that are the engine's.
    pub(crate) inherited: &'a [i32],
}

/// Starts an agent. The socket is for the first launcher, which learns by it whether there is an agent.
///
/// # Errors
/// Where no process can be started.
pub(crate) fn start(setting: Setting<'_>, task: Task) -> Result<OwnedFd> {
    let (ours, theirs) = process::socket_pair()?;
    match process::fork()? {
        Fork::Parent(pid) => {
            drop(theirs);
            let _ = PidFd::open(pid)?.wait_end();
            process::reap_others(None);
            Ok(ours)
        }
        Fork::Child => {
            drop(ours);
            // Once more: runtimes wait for all their children, and this is to be none of them.
            if matches!(process::fork(), Ok(Fork::Child)) {
                run(&setting, task, theirs);
            }
            process::exit_now(0)
        }
    }
}

fn run(setting: &Setting<'_>, task: Task, socket: OwnedFd) {
    process::set_name(c"elsewhen-agent");
    // The engine waits until nobody has its pipes any more.
    process::close_inherited(setting.inherited);
    let detached = process::own_session().and_then(|()| {
        [0, 1, 2].into_iter().try_for_each(process::silence)?;
        Signals::block_all()
    });
    let _ = std::env::set_current_dir("/");
    let prepared = detached.map_err(Error::from).and_then(|signals| Ok((signals, Agent::prepare(setting, task)?)));
    match prepared {
        Ok((_signals, (agent, listening))) => agent.serve(socket, listening),
        Err(error) => refuse_launcher(&socket, &error.to_string()),
    }
}

struct Agent {
    namespace: Namespace,
    id: String,
    /// Whether it is the container's first.
    is_new: bool,
    notes: Arc<Notes>,
    sessions: Arc<Sessions>,
}

impl Agent {
    fn prepare(setting: &Setting<'_>, task: Task) -> Result<(Self, UnixListener)> {
        let id = setting.id;
        let (folder, _lock) = own_folder(id)?;
        let prepared = Self::prepare_in(&folder, setting, task);
        if prepared.is_err() && folder.record().is_none_or(|record| record.agent == std::process::id()) {
            folder.remove();
        }
        prepared
    }

    fn prepare_in(folder: &Folder, setting: &Setting<'_>, task: Task) -> Result<(Self, UnixListener)> {
        let notes = Arc::new(Notes { id: setting.id.to_owned(), log: setting.log.clone() });
        let agent = std::process::id();
        let (namespace, record, is_new) = match task {
            Task::Create { spec, namespace, name, kernel } => {
                // One of the same id has ended without its agent.
                folder.record().iter().for_each(remove_namespace);
                let record = Container { id: setting.id.to_owned(), name, namespace, agent, kernel };
                (Namespace::new(&spec.persistent().delegated())?, record, true)
            }
            Task::Revive(record) => (Namespace::open(&record.namespace)?, Container { agent, ..record }, false),
        };
        folder.set_record(&record)?;
        let listening = folder.listen()?;
        let told = Arc::clone(&notes);
        namespace.set_report(move |message| told.note(message));
        Ok((Self { namespace, id: record.id, is_new, notes, sessions: Arc::default() }, listening))
    }

    /// Supervises the members that the last agent has left behind.
    fn adopt(&self) {
        let members = self.namespace.members();
        let total = members.len();
        let mut adopted = 0;
        for pid in members {
            let had_rights = may_gain_rights(pid);
            match self.namespace.adopt(pid) {
                Ok(()) => adopted += 1,
                Err(error) => self.notes.note(&format!("process {pid} can start no programs any more: {error}")),
            }
            if had_rights && !may_gain_rights(pid) {
                self.notes.note(&format!(
                    "process {pid} has no_new_privs from now on: set-user-ID bits give nothing to what it starts"
                ));
            }
        }
        self.notes.note(&format!("the agent had died; this one has adopted {adopted} of {total} processes"));
        self.sessions.begin();
        let (namespace, sessions) = (self.namespace.clone(), Arc::clone(&self.sessions));
        thread::spawn(move || {
            namespace.wait_attached();
            sessions.end();
        });
    }

    /// Serves until no process of the container is left.
    fn serve(self, first: OwnedFd, listening: UnixListener) {
        if self.is_new {
            self.begin(first);
        } else {
            // There are not none meanwhile.
            self.sessions.begin();
            self.adopt();
            self.begin(first);
            self.sessions.end();
        }
        let this = Arc::new(self);
        let accepting = Arc::clone(&this);
        thread::spawn(move || {
            for socket in listening.incoming() {
                match socket {
                    Ok(socket) => accepting.begin(socket.into()),
                    // Out of descriptors, perhaps for now only.
                    Err(_) => thread::sleep(Duration::from_millis(100)),
                }
            }
        });
        this.sessions.wait();
        if let Some(folder) = Folder::of(&this.id)
            && let Ok(_lock) = folder.lock()
            && let Some(record) = folder.record().filter(|record| record.agent == std::process::id())
        {
            remove_namespace(&record);
            folder.remove();
        }
    }

    /// Serves a launcher, in a thread.
    fn begin(&self, socket: OwnedFd) {
        if !self.sessions.begin() {
            refuse_launcher(&socket, "the container has ended");
            return;
        }
        let (namespace, notes, sessions) =
            (self.namespace.clone(), Arc::clone(&self.notes), Arc::clone(&self.sessions));
        thread::spawn(move || {
            if let Err(error) = namespace.serve_launcher(socket) {
                notes.note(&error.to_string());
            }
            sessions.end();
        });
    }
}

/// Whether a process lacks `no_new_privs`.
fn may_gain_rights(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| status.contains("NoNewPrivs:\t0"))
}

/// Removes the namespace of a container that has ended.
pub(crate) fn remove_namespace(record: &Container) {
    // Somebody else may have done that.
    let _ = Namespace::remove(&record.namespace, true);
}

/// The folder of a container, locked, in which no other agent is.
fn own_folder(id: &str) -> Result<(Folder, File)> {
    let end = Instant::now() + PATIENCE;
    loop {
        let folder = Folder::make(id)?;
        let locked = folder.lock();
        // The agent of one that has ended may have removed it meanwhile.
        let is_there = locked.as_ref().is_ok_and(|lock| folder.is_locked_by(lock));
        if is_there && folder.connect().is_none() {
            return Ok((folder, locked?));
        }
        if Instant::now() > end {
            locked?;
            return Err(Error::other(format!("container {id:?} has an agent already")));
        }
        drop(locked);
        thread::sleep(Duration::from_millis(10));
    }
}

/// Where messages go.
struct Notes {
    id: String,
    log: Option<PathBuf>,
}

impl Notes {
    fn note(&self, message: &str) {
        if let Some(folder) = Folder::of(&self.id) {
            folder.note(message);
        }
        if let Some(log) = &self.log {
            note_in(log, &self.id, message);
        }
    }
}

/// Writes a message about a container to the log of this machine.
pub(crate) fn note_in(log: &Path, id: &str, message: &str) {
    // There is nobody to be told where that fails.
    let _ = append(log, &format!("{id}: {message}"));
}

/// How many launchers are being served; when it has come to none, there are no more.
#[derive(Default)]
struct Sessions {
    count: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Option<usize>> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another can begin.
    fn begin(&self) -> bool {
        let mut count = self.lock();
        if *count == Some(0) {
            return false;
        }
        *count = Some(count.unwrap_or(0) + 1);
        true
    }

    fn end(&self) {
        let mut count = self.lock();
        *count = count.map(|count| count - 1);
        self.changed.notify_all();
    }

    fn wait(&self) {
        let mut count = self.lock();
        while *count != Some(0) {
            count = self.changed.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_session_is_the_last() {
        let sessions = Sessions::default();
        assert!(sessions.begin() && sessions.begin());
        sessions.end();
        assert!(sessions.begin());
        sessions.end();
        sessions.end();
        sessions.wait();
        assert!(!sessions.begin());
    }
}
