//! The process that supervises a container: it makes its namespace, enters what is executed in it, `exec` sessions included,
//! and ends with its last process.
//!
//! It is nobody's child, holds none of the engine's descriptors, and cannot be interrupted from a terminal. If it dies, the
//! clocks of the container go on, but nothing can be executed in it until the next `exec` session has started another.

use crate::containers::{Container, Folder, Key, Locked, append};
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
        /// The namespace, with its name: the first of these that is not taken.
        named: Vec<(Spec, String)>,
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
    /// The container.
    pub(crate) key: &'a Key,
    /// A file for messages, beside the container's own.
    pub(crate) log: Option<PathBuf>,
    /// Descriptors that are the engine's.
    pub(crate) inherited: &'a [i32],
}

/// Starts an agent, which unlocks the folder when it can be reached by it. The socket is for the first launcher, which learns by
/// it whether there is an agent.
///
/// # Errors
/// Where no process can be started.
pub(crate) fn start(setting: Setting<'_>, folder: Locked, task: Task) -> Result<OwnedFd> {
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
                run(&setting, folder, task, theirs);
            }
            process::exit_now(0)
        }
    }
}

fn run(setting: &Setting<'_>, folder: Locked, task: Task, socket: OwnedFd) {
    process::set_name(c"elsewhen-agent");
    // The engine waits until nobody has its pipes any more.
    process::close_inherited(setting.inherited);
    let detached = process::own_session().and_then(|()| {
        [0, 1, 2].into_iter().try_for_each(process::silence)?;
        Signals::block_all()
    });
    let _ = std::env::set_current_dir("/");
    let prepared =
        detached.map_err(Error::from).and_then(|signals| Ok((signals, Agent::prepare(setting, folder, task)?)));
    match prepared {
        Ok((_signals, (agent, listening))) => agent.serve(socket, listening),
        Err(error) => refuse_launcher(&socket, &error.to_string()),
    }
}

struct Agent {
    namespace: Namespace,
    key: Key,
    /// Shows that it lives.
    _alive: File,
    /// Whether it is the container's first.
    is_new: bool,
    notes: Arc<Notes>,
    sessions: Arc<Sessions>,
}

impl Agent {
    fn prepare(setting: &Setting<'_>, folder: Locked, task: Task) -> Result<(Self, UnixListener)> {
        let is_new = matches!(task, Task::Create { .. });
        let prepared = Self::prepare_in(&folder, setting, task);
        if prepared.is_err() && is_new {
            folder.remove();
        }
        prepared
    }

    fn prepare_in(folder: &Folder, setting: &Setting<'_>, task: Task) -> Result<(Self, UnixListener)> {
        let notes = Arc::new(Notes { key: setting.key.clone(), log: setting.log.clone() });
        let agent = std::process::id();
        let alive = folder.live()?;
        let (namespace, record, is_new) = match task {
            Task::Create { named, name, kernel } => {
                let (namespace, called) = first_free(named)?;
                let record = Container { key: setting.key.clone(), name, namespace: called, agent, kernel };
                (namespace, record, true)
            }
            Task::Revive(record) => (Namespace::open(&record.namespace)?, Container { agent, ..record }, false),
        };
        let listening = folder.set_record(&record).and_then(|()| folder.listen());
        if listening.is_err() && is_new {
            remove_namespace(&record);
        }
        let told = Arc::clone(&notes);
        namespace.set_report(move |message| told.note(message));
        let agent = Self { namespace, key: record.key, _alive: alive, is_new, notes, sessions: Arc::default() };
        Ok((agent, listening?))
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
            // Some may be that could not be adopted: a container is there as long as any is.
            while !namespace.members().is_empty() {
                thread::sleep(Duration::from_millis(500));
            }
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
        if let Ok(Some(folder)) = locked(&this.key)
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

/// A new namespace, of the first name that is free.
fn first_free(named: Vec<(Spec, String)>) -> Result<(Namespace, String)> {
    let mut last = Error::other("a container needs a name for its namespace");
    for (spec, name) in named {
        match Namespace::new(&spec.persistent().delegated()) {
            Ok(namespace) => return Ok((namespace, name)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Removes the namespace of a container that has ended.
fn remove_namespace(record: &Container) {
    // Somebody else may have done that.
    let _ = Namespace::remove(&record.namespace, true);
}

/// Whether a container has processes. Unknown where its namespace cannot be opened.
fn has_members(record: &Container) -> Option<bool> {
    Namespace::open(&record.namespace).ok().map(|namespace| !namespace.members().is_empty())
}

/// The folder of a container, where it has one.
fn locked(key: &Key) -> Result<Option<Locked>> {
    Folder::of(key)?.map_or(Ok(None), Folder::lock)
}

/// The folder of a container that is to begin, with nothing of an earlier one in it.
///
/// # Errors
/// Where a container of this id is running.
pub(crate) fn own_folder(key: &Key) -> Result<Locked> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(folder) = Folder::make(key)?.lock()?
            && (!folder.has_agent() || Instant::now() > end)
        {
            let Some(record) = folder.record() else { return Ok(folder) };
            if has_members(&record) == Some(true) {
                return Err(Error::other(format!("container {:?} is running", key.id)));
            }
            // Its agent goes on where a hook has left a process behind, and needs no folder for that.
            remove_namespace(&record);
            folder.remove();
            continue;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Removes what is left of a container of this id that has ended, before another begins which asks for nothing.
pub(crate) fn clear(key: &Key) -> Result<()> {
    let Some(record) = Folder::of(key)?.and_then(|folder| folder.record()) else { return Ok(()) };
    // The runtime refuses the id of a container that runs.
    if has_members(&record) != Some(true) {
        own_folder(key)?.remove();
    }
    Ok(())
}

/// Cleans up behind an agent that has died, of a container that is about to be deleted: at once, or by an agent that ends with
/// the container, since the runtime may find that it cannot delete it. An agent that lives does so itself.
pub(crate) fn clean_up(setting: Setting<'_>) -> Result<()> {
    let Some(folder) = locked(setting.key)?.filter(|folder| !folder.has_agent()) else { return Ok(()) };
    match folder.record() {
        Some(record) if has_members(&record) == Some(true) => start(setting, folder, Task::Revive(record)).map(drop),
        record => {
            record.iter().for_each(remove_namespace);
            folder.remove();
            Ok(())
        }
    }
}

/// A socket for a launcher in a container that has begun; `None` where that has no time of its own. An agent that has died is
/// followed by another.
///
/// # Errors
/// Where the container cannot be looked up, or no agent be started.
pub(crate) fn reach(setting: Setting<'_>) -> Result<Option<OwnedFd>> {
    let key = setting.key;
    if let Some(socket) = Folder::of(key)?.and_then(|folder| folder.connect()) {
        return Ok(Some(socket));
    }
    let Some(folder) = locked(key)? else { return Ok(None) };
    // Another session may have been faster.
    if let Some(socket) = folder.connect() {
        return Ok(Some(socket));
    }
    match folder.record() {
        // A container of this id has been deleted and another been made, both behind our back.
        Some(record) if has_members(&record) == Some(false) => {
            remove_namespace(&record);
            folder.remove();
            Ok(None)
        }
        Some(record) => {
            if let Some(log) = &setting.log {
                let died = format!("the agent, process {}, has died; another one is started", record.agent);
                note_in(log, &key.id, &died);
            }
            start(setting, folder, Task::Revive(record)).map(Some)
        }
        None => Ok(None),
    }
}

/// Where messages go.
struct Notes {
    key: Key,
    log: Option<PathBuf>,
}

impl Notes {
    fn note(&self, message: &str) {
        let folder = Folder::of(&self.key).ok().flatten();
        // What a container has to say is bounded in both.
        let has_room = folder.is_none_or(|folder| folder.note(message));
        if let Some(log) = self.log.as_ref().filter(|_| has_room) {
            note_in(log, &self.key.id, message);
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
