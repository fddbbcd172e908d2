//! The process that supervises a container: it makes its namespace, enters what is executed in it, `exec` sessions included,
//! and ends with its last process.
//!
//! It is nobody's child, holds none of the engine's descriptors, and cannot be interrupted from a terminal. If it dies, the
//! clocks of the container go on, but nothing can be executed in it until the next `exec` session has started another.

use crate::bundle::Bundle;
use crate::containers::{self, Container, Folder, Key, Locked, append};
use crate::timens::KernelOffsets;
use elsewhen::{Error, Namespace, Result, Spec, refuse_launcher};
use elsewhen_linux::process::{self, Fork, PidFd};
use elsewhen_linux::signals::Signals;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
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
        /// The folder of its bundle.
        bundle: PathBuf,
        /// What a time namespace of the kernel's does beside it.
        kernel: Option<KernelOffsets>,
    },
    /// A container whose agent has died.
    Revive(Container),
}

/// What every agent is told.
#[derive(Clone, Debug)]
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
pub(crate) fn start(setting: &Setting<'_>, folder: Locked, task: Task) -> Result<OwnedFd> {
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
                run(setting, folder, task, theirs);
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
            let _ = folder.remove();
        }
        prepared
    }

    fn prepare_in(folder: &Folder, setting: &Setting<'_>, task: Task) -> Result<(Self, UnixListener)> {
        let notes = Arc::new(Notes { key: setting.key.clone(), log: setting.log.clone() });
        let agent = std::process::id();
        let alive = folder.live()?;
        let (namespace, record, is_new) = match task {
            Task::Create { named, name, bundle, kernel } => {
                let (namespace, called) = first_free(named)?;
                let page = inode_of(&called).unwrap_or_default();
                let key = setting.key.clone();
                let record = Container { key, name, namespace: called, page, bundle, agent, kernel };
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
                    // Out of descriptors, until a session ends.
                    Err(_) => thread::sleep(Duration::from_millis(100)),
                }
            }
        });
        this.sessions.wait();
        if let Ok(Some(folder)) = locked(&this.key)
            && let Some(record) = folder.record().filter(|record| record.agent == std::process::id())
        {
            remove_namespace(&record);
            let _ = folder.remove();
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

/// Whether a container's namespace is there.
fn is_there(record: &Container) -> bool {
    inode_of(&record.namespace).is_some_and(|inode| inode == record.page)
}

/// The inode of a namespace's page.
fn inode_of(namespace: &str) -> Option<u64> {
    std::fs::metadata(elsewhen::runtime_folder_path().join(namespace)).ok().map(|page| page.ino())
}

/// Removes the namespace of a container that has ended.
fn remove_namespace(record: &Container) {
    // Somebody else may have done that, and the name be another's.
    if is_there(record) {
        let _ = Namespace::remove(&record.namespace, true);
    }
}

/// Whether a container has processes. Unknown where its namespace cannot be opened.
fn has_members(record: &Container) -> Option<bool> {
    let namespace = is_there(record).then(|| Namespace::open(&record.namespace).ok())?;
    namespace.map(|namespace| !namespace.members().is_empty())
}

/// The folder of a container, where it has one.
fn locked(key: &Key) -> Result<Option<Locked>> {
    Folder::of(key)?.map_or(Ok(None), Folder::lock)
}

/// The bundle of the runtime's container of an id, where it has one: asked where records alone do not tell.
pub(crate) type BundleOf<'a> = &'a dyn Fn() -> Option<PathBuf>;

/// By what a container is known here that a caller means: one runtime folder can have several names.
fn known(key: &Key, bundle_of: BundleOf<'_>) -> Result<Option<Key>> {
    if Folder::of(key)?.is_some() {
        return Ok(Some(key.clone()));
    }
    let others = containers::of_id(&key.id);
    let Some(bundle) = (if others.is_empty() { None } else { bundle_of() }) else { return Ok(None) };
    Ok(others.into_iter().find(|other| is_same(&other.bundle, &bundle)).map(|other| other.key))
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}

/// Whether a record is of the container that the runtime has, and not left by another of that id.
fn is_of(record: &Container, bundle_of: BundleOf<'_>) -> bool {
    // One that has only been created has no members.
    has_members(record) == Some(true)
        || bundle_of().is_some_and(|bundle| is_same(&bundle, &record.bundle) && asks(&bundle))
}

/// Whether a bundle asks for a time of its own.
fn asks(bundle: &Path) -> bool {
    Bundle::read(bundle, None).map_or(true, |bundle| bundle.is_some_and(|bundle| !matches!(bundle.request(), Ok(None))))
}

/// The folder of a container that is to begin, with nothing of an earlier one in it. `None` where the runtime has one of this id.
///
/// # Errors
/// Where the folder cannot be made.
pub(crate) fn own_folder(key: &Key, bundle_of: BundleOf<'_>) -> Result<Option<Locked>> {
    let end = Instant::now() + PATIENCE;
    let mut asked = false;
    loop {
        if let Some(folder) = Folder::make(key)?.lock()? {
            let Some(record) = folder.record() else { return Ok(Some(folder)) };
            let is_late = Instant::now() > end;
            if (!asked || is_late) && bundle_of().is_some() {
                return Ok(None);
            }
            asked = true;
            // An agent that lives is about to end, unless a hook has left a process behind. It needs no folder for that.
            if !folder.has_agent() || is_late {
                remove_namespace(&record);
                folder.remove()?;
                continue;
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Removes what is left of a container of this id that has ended, before another begins which asks for nothing.
pub(crate) fn clear(key: &Key, bundle_of: BundleOf<'_>) {
    // What cannot be removed is not taken for the new one's later (`is_of`).
    if let Ok(Some(_)) = Folder::of(key)
        && let Ok(Some(folder)) = own_folder(key, bundle_of)
    {
        let _ = folder.remove();
    }
}

/// A socket for a launcher in a container that has begun; `None` where that has no time of its own. An agent that has died is
/// followed by another, which ends with the container.
///
/// # Errors
/// Where the container cannot be looked up, or no agent be started.
pub(crate) fn reach(setting: &Setting<'_>, bundle_of: BundleOf<'_>) -> Result<Option<OwnedFd>> {
    let Some(key) = &known(setting.key, bundle_of)? else { return Ok(None) };
    let lives = |record: &Container| !process::is_ending(record.agent);
    // Mostly there is one, and no lock is needed.
    if let Some(folder) = Folder::of(key)?
        && folder.record().is_some_and(|record| lives(&record))
        && let Some(socket) = folder.connect()
    {
        return Ok(Some(socket));
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let Some(folder) = locked(key)? else { return Ok(None) };
        let Some(record) = folder.record() else { return Ok(None) };
        if !folder.has_agent() {
            if is_of(&record, bundle_of) {
                if let Some(log) = &setting.log {
                    let died = format!("the agent, process {}, has died; another one is started", record.agent);
                    note_in(log, &key.id, &died);
                }
                return start(&Setting { key, ..setting.clone() }, folder, Task::Revive(record)).map(Some);
            }
            // A container of this id has been deleted behind our back.
            remove_namespace(&record);
            let _ = folder.remove();
            return Ok(None);
        }
        // Another session may have started one meanwhile.
        if lives(&record)
            && let Some(socket) = folder.connect()
        {
            return Ok(Some(socket));
        }
        if Instant::now() > end {
            return Err(Error::other(format!("the agent of container {:?} does not answer", key.id)));
        }
        drop(folder);
        thread::sleep(Duration::from_millis(10));
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
