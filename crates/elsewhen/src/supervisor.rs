//! The supervisor of a tree of members: told of every program they start, it examines the program, lets it be
//! entered, or refuses it.
//!
//! One thread serves the listener for as long as a member lives. A second thread, started when the first program
//! needs it, traces executions; it is apart because an execution can take as long as a slow file system does.

use crate::discipline::{Answer, TIMEX_LEN};
use crate::error::{Error, Result};
use crate::namespace::{Inner, Namespace};
use crate::registry;
use crate::watch::Watch;
use elsewhen_linux::enter::{Failed, Into, Progress};
use elsewhen_linux::page::{self, PageFile, Place};
use elsewhen_linux::process;
use elsewhen_linux::program::{AT_FDCWD, Caller, Entry, Program};
use elsewhen_linux::redirect::Terms;
use elsewhen_linux::remote::{RemoteAddr, RemoteMemory, Tid};
use elsewhen_linux::seccomp::{Call, Listener, Notification};
use elsewhen_linux::{attach, waiters};
use elsewhen_vdso::state::{BELONGS_TO_LAUNCHER, BELONGS_TO_TREE, has_hosts_time};
use elsewhen_vdso::surface::{Reach, WORD_ADJUST_CLOCK, WORD_CONFINED, WORD_FILTER, WORD_PAGE, WORD_SET_CLOCK};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What a refused execution returns to its caller: "Operation not permitted".
const REFUSED: i32 = 1;
/// `EFAULT`.
const BAD_ADDRESS: i32 = 14;
/// `ENOENT`.
const NO_ENTRY: i32 = 2;
/// `EBUSY`.
const BUSY: i32 = 16;
/// From how many processes on, those that have ended are forgotten.
const REMEMBERED: usize = 64;
/// `AT_EMPTY_PATH`.
const AT_EMPTY_PATH: u32 = 0x1000;

/// The handle that the starter of a tree keeps.
#[derive(Debug)]
pub(crate) struct Supervisor {
    gate: Arc<Gate>,
    start: Arc<Mutex<StartLog>>,
    thread: thread::JoinHandle<()>,
}

/// What happened before the first program ran.
#[derive(Debug, Default)]
struct StartLog {
    /// Why the filter could not be loaded.
    filter: Option<elsewhen_linux::Error>,
    /// Why programs were refused.
    refusals: Vec<String>,
    running: bool,
}

/// Keeps whoever waits for children and whoever traces an execution out of each other's way.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    session: Mutex<()>,
    /// The thread whose execution is traced.
    traced: Mutex<Option<Tid>>,
}

impl Gate {
    /// Runs `wait` while no execution is traced.
    pub(crate) fn closed<T>(&self, wait: impl FnOnce() -> T) -> T {
        let _session = lock(&self.session);
        wait()
    }
}

impl Supervisor {
    /// Starts the thread. It takes the listener from `socket` when the first program's process has sent it.
    pub(crate) fn start(namespace: Arc<Inner>, socket: OwnedFd) -> Result<Self> {
        let (gate, start) = (Arc::<Gate>::default(), Arc::<Mutex<StartLog>>::default());
        let worker = (Arc::clone(&gate), Arc::clone(&start));
        let body = move || {
            let (gate, start) = worker;
            match process::receive_listener(&socket) {
                Ok(Some(listener)) => {
                    drop(socket);
                    Server::new(namespace, Listener::new(listener), gate, start).serve();
                }
                Ok(None) => {}
                Err(error) => lock(&start).filter = Some(error),
            }
        };
        let thread = thread::Builder::new().name("elsewhen".into()).spawn(body);
        let thread = thread.map_err(|error| Error::setup(format!("start the supervisor: {error}")))?;
        Ok(Self { gate, start, thread })
    }

    /// Starts the thread for a process that runs already. Where that has `entered` the namespace, or is about to, what it
    /// executes is entered too; otherwise the thread only lets everything pass that the process announces.
    pub(crate) fn attend(
        namespace: Arc<Inner>,
        listener: Listener,
        entered: bool,
    ) -> io::Result<thread::JoinHandle<()>> {
        let start = Arc::new(Mutex::new(StartLog { running: true, ..StartLog::default() }));
        let body = move || {
            let server = Server::new(namespace, listener, Arc::default(), start);
            if entered { server.serve() } else { server.let_pass() }
        };
        thread::Builder::new().name("elsewhen".into()).spawn(body)
    }

    /// Serves a launcher and what it starts, in this thread, until no process of them is left.
    ///
    /// # Errors
    /// Where this process cannot see its own root directory.
    pub(crate) fn serve_launcher(namespace: Arc<Inner>, listener: Listener) -> Result<()> {
        let outside = Outside::here(namespace.reach);
        let outside = outside.map_err(|error| Error::setup(format!("look at the root directory: {error}")))?;
        let start = Arc::new(Mutex::new(StartLog { running: true, ..StartLog::default() }));
        let mut server = Server::new(namespace, listener, Arc::default(), start);
        server.outside = Some(outside);
        server.serve();
        Ok(())
    }

    /// The gate of a tree whose first program runs. From here on refusals are reported; those that came before
    /// anyone could know that it runs are reported now.
    pub(crate) fn gate(&self, namespace: &Inner) -> Arc<Gate> {
        let refusals = {
            let mut start = lock(&self.start);
            start.running = true;
            std::mem::take(&mut start.refusals)
        };
        refusals.iter().for_each(|refusal| namespace.report(refusal));
        Arc::clone(&self.gate)
    }

    /// Waits until no member is left.
    pub(crate) fn join(self) {
        // A panic of the thread has been reported by itself.
        let _ = self.thread.join();
    }

    /// Why the first program could not be started, given what the standard library says.
    pub(crate) fn explain(self, shown: &str, error: &io::Error) -> Error {
        // The process is gone, so the thread ends by itself, having written down what it knows.
        let _ = self.thread.join();
        let mut start = lock(&self.start);
        if let Some(filter) = start.filter.take() {
            return not_loaded(shown, &filter);
        }
        if let Some(refusal) = start.refusals.pop() {
            return Error::refused(refusal);
        }
        not_run(shown, error)
    }
}

/// That the filter could not be loaded before a program was run.
pub(crate) fn not_loaded(shown: &str, filter: &elsewhen_linux::Error) -> Error {
    Error::setup(match filter.raw_os_error().map(io::Error::from_raw_os_error).map(|e| e.kind()) {
        Some(io::ErrorKind::ResourceBusy) => format!(
            "cannot supervise {shown}: this process is already in a time namespace, or under another \
             seccomp listener; start the program from outside"
        ),
        Some(io::ErrorKind::InvalidInput) => {
            format!("cannot supervise {shown}: this kernel has no seccomp listeners (Linux 5.9 has; gVisor has not)")
        }
        _ => format!("cannot supervise {shown}: {filter}"),
    })
}

/// That the kernel, or a supervisor, did not run a program.
pub(crate) fn not_run(shown: &str, error: &io::Error) -> Error {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text).to_lowercase();
    match error.kind() {
        io::ErrorKind::NotFound => Error::not_found(format!("cannot run {shown}: {text}")),
        _ => Error::cannot_run(format!("cannot run {shown}: {text}")),
    }
}

/// The serving side.
struct Server {
    namespace: Arc<Inner>,
    listener: Arc<Listener>,
    gate: Arc<Gate>,
    start: Arc<Mutex<StartLog>>,
    tracer: Option<Sender<Session>>,
    /// Processes about to execute a program that is not to be in this namespace, and what it is to be in.
    elsewhere: HashMap<Tid, Elsewhere>,
    /// Pages that such programs have been given; `None` is for the one that changes nothing.
    pages: HashMap<Option<Place>, Arc<File>>,
    /// Where programs are not in the namespace, for a tree that begins with a launcher.
    outside: Option<Outside>,
    /// Other namespaces whose clock a process of the tree has set or disciplined.
    opened: HashMap<Place, Namespace>,
}

/// What tells programs of a launcher from those of what it starts: the root directory, by device and inode.
struct Outside {
    root: (u64, u64),
    reach: Reach,
}

impl Outside {
    /// Under this process's own root directory.
    fn here(reach: Reach) -> io::Result<Self> {
        Ok(Self { root: Self::root_of("self")?, reach })
    }

    fn root_of(process: &str) -> io::Result<(u64, u64)> {
        // What the link leads to, which is not what its name says in another mount namespace.
        let root = std::fs::metadata(format!("/proc/{process}/root/"))?;
        Ok((root.dev(), root.ino()))
    }

    /// The terms on which a program begins that a process with such terms executes.
    fn terms(&self, tid: Tid, terms: Option<Terms>) -> std::result::Result<Option<Terms>, String> {
        if terms.is_some_and(|terms| terms.belongs != BELONGS_TO_LAUNCHER) {
            return Ok(terms);
        }
        let root = Self::root_of(&tid.0.to_string());
        let root = root.map_err(|error| format!("look at the root directory of its process: {error}"))?;
        let belongs = if root == self.root { BELONGS_TO_LAUNCHER } else { BELONGS_TO_TREE };
        Ok(Some(Terms { reach: self.reach, filtered: Some(self.reach), belongs }))
    }
}

/// Where a program goes whose process has left the namespace of its tree.
struct Elsewhere {
    page: Arc<File>,
    terms: Terms,
}

impl Server {
    fn new(namespace: Arc<Inner>, listener: Listener, gate: Arc<Gate>, start: Arc<Mutex<StartLog>>) -> Self {
        Self {
            namespace,
            listener: Arc::new(listener),
            gate,
            start,
            tracer: None,
            elsewhere: HashMap::new(),
            pages: HashMap::new(),
            outside: None,
            opened: HashMap::new(),
        }
    }

    /// Resumes every call until no process with the filter is left. Nobody is let into a namespace from here.
    fn let_pass(self) {
        while let Ok(Some(notification)) = self.listener.wait() {
            let answered = match notification.call {
                Call::SetFs { base: WORD_FILTER | WORD_PAGE, .. } => self.listener.fail(&notification, BUSY),
                _ => self.listener.resume(&notification),
            };
            if answered.is_err() {
                return;
            }
        }
    }

    /// Serves until no member is left.
    fn serve(mut self) {
        let watch = Watch::start(&self.namespace);
        self.serve_members();
        if let Some(watch) = watch {
            watch.end();
        }
    }

    fn serve_members(&mut self) {
        loop {
            match self.listener.wait() {
                Ok(Some(notification)) => {
                    if let Err(error) = self.handle(&notification) {
                        // It waits for an answer, unless it has one.
                        let _ = self.listener.fail(&notification, error.raw_os_error().unwrap_or(REFUSED));
                        self.namespace.report(&error.to_string());
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    self.namespace.report(&format!("the supervisor ends, members can start no more programs: {error}"));
                    return;
                }
            }
        }
    }

    fn handle(&mut self, notification: &Notification) -> elsewhen_linux::Result<()> {
        let (directory, path, flags) = match notification.call {
            Call::SetFs { base, extra } => return self.advance(notification, base, extra),
            Call::Execve { path } => (AT_FDCWD, path, 0),
            Call::Execveat { directory, path, flags } => (directory, path, flags),
            Call::SetThreadArea => return self.advance(notification, 0, 0),
        };
        if notification.tid.0 == 0 {
            let reason = "its process lies in a PID namespace that is not visible to the supervisor";
            return self.refuse(notification, "a program", reason);
        }
        let memory = RemoteMemory::open(notification.tid);
        let read = memory.and_then(|memory| Ok((memory.read_path(RemoteAddr(path))?, attach::terms(&memory))));
        let Ok((path, terms)) = read else {
            // A bad address is the kernel's to answer; memory that may not be read is not.
            return self.trace(notification, None);
        };
        if !self.listener.is_waiting(notification) {
            return Ok(());
        }
        let terms = self.outside.as_ref().map_or(Ok(terms), |outside| outside.terms(notification.tid, terms));
        // Whichever thread executes it, the program has the id of the process.
        let process = process::group_of(notification.tid);
        if !self.listener.is_waiting(notification) {
            return Ok(());
        }
        if let Err(reason) = terms.and_then(|terms| self.note(process, terms)) {
            return self.refuse(notification, "a program", &reason);
        }
        let program = Caller(notification.tid).examine(directory, &path, flags & AT_EMPTY_PATH != 0);
        match &program.entry {
            Entry::Refused(reason) => self.refuse(notification, &program.path.display().to_string(), reason),
            // The loader looks at files before that call.
            Entry::AtTlsSetup if self.namespace.reach.files => self.trace(notification, Some(program)),
            Entry::AtTlsSetup | Entry::Kernel => self.listener.resume(notification).map(drop),
            Entry::Traced => self.trace(notification, Some(program)),
        }
    }

    /// Notes where the program that a process is about to execute goes, if that is not the namespace of its tree.
    fn note(&mut self, process: Tid, terms: Option<Terms>) -> std::result::Result<(), String> {
        let away = terms.filter(|terms| terms.belongs != BELONGS_TO_TREE);
        if away.is_none() && self.elsewhere.is_empty() {
            return Ok(());
        }
        let Some(terms) = away else {
            self.elsewhere.remove(&process);
            return Ok(());
        };
        let page = self.page_elsewhere(process, terms)?;
        // Those that have ended say nothing of it.
        if self.elsewhere.len() >= REMEMBERED {
            self.elsewhere.retain(|process, _| process::exists(process.0));
        }
        self.elsewhere.insert(process, Elsewhere { page, terms });
        Ok(())
    }

    /// The page of a process that is not in the namespace of its tree.
    fn page_elsewhere(&mut self, process: Tid, terms: Terms) -> std::result::Result<Arc<File>, String> {
        const REMOVED: &str = "the namespace that its process has changed to has been removed";
        let place = match has_hosts_time(terms.belongs) {
            true => None,
            false => Some(waiters::page_of(process.0).ok_or(REMOVED)?),
        };
        let still = |file: &&Arc<File>| place.is_none() || file.metadata().is_ok_and(|metadata| metadata.nlink() > 0);
        if let Some(page) = self.pages.get(&place).filter(still) {
            return Ok(Arc::clone(page));
        }
        let page = Arc::new(match &place {
            None => page::identity_file().map_err(|error| error.to_string())?,
            Some(place) => registry::at(place).ok_or(REMOVED)?.members_file().map_err(|error| error.to_string())?,
        });
        self.pages.retain(|_, page| Arc::strong_count(page) > 1);
        self.pages.insert(place, Arc::clone(&page));
        Ok(page)
    }

    /// What a program at its start becomes a member of.
    fn goal(&self, tid: Tid) -> Into<'_> {
        match self.elsewhere.get(&tid) {
            Some(elsewhere) => Into { page: elsewhere.page.as_fd(), terms: elsewhere.terms },
            None => {
                let reach = self.namespace.reach;
                let terms = Terms { reach, filtered: Some(reach), belongs: BELONGS_TO_TREE };
                Into { page: self.namespace.page.as_fd(), terms }
            }
        }
    }

    /// Gives a process the page that it changes to.
    fn give_page(&self, notification: &Notification, key: u64) -> elsewhen_linux::Result<()> {
        let named;
        let file = if key == 1 {
            Some(self.namespace.page.as_fd())
        } else {
            // A member can ask for itself; whoever brings it there has left word.
            named = registry::Grant::page(process::group_of(notification.tid).0, key);
            named.as_ref().map(PageFile::as_fd)
        };
        match file {
            Some(file) => self.listener.give_file(notification, file),
            None => self.listener.fail(notification, NO_ENTRY),
        }
        .map(drop)
    }

    fn advance(&mut self, notification: &Notification, base: u64, extra: u64) -> elsewhen_linux::Result<()> {
        match base {
            WORD_SET_CLOCK => return self.set_clock(notification, extra),
            WORD_ADJUST_CLOCK => return self.adjust_clock(notification, extra),
            WORD_FILTER => return self.listener.give_filter(notification, Reach::from_bits(extra)).map(drop),
            WORD_PAGE => return self.give_page(notification, extra),
            WORD_CONFINED => {
                let (tid, shown) = (notification.tid.0, program_of(notification.tid));
                self.namespace.report(&format!(
                    "{shown} (process {tid}) may not load its seccomp filter: it forbids rt_sigreturn, so the next time \
                     call would end the process"
                ));
                return self.listener.succeed(notification).map(drop);
            }
            _ => {}
        }
        let goal = self.goal(notification.tid);
        let Ok(entrance) = self.namespace.entrance() else {
            // Who serves a listener is no member.
            return self.listener.resume(notification).map(drop);
        };
        match entrance.advance(&self.listener, notification, base, extra, goal)? {
            Progress::Going => {}
            Progress::Killed(error) => {
                let (tid, shown) = (notification.tid.0, program_of(notification.tid));
                self.namespace.report(&format!("{shown} (process {tid}) could not be entered and was killed: {error}"));
            }
        }
        Ok(())
    }

    /// A member sets the clock: eight bytes of nanoseconds at an address, or none.
    fn set_clock(&mut self, notification: &Notification, address: u64) -> elsewhen_linux::Result<()> {
        let mut ns = [0; 8];
        let memory = RemoteMemory::open(notification.tid);
        if !self.listener.is_waiting(notification) {
            return Ok(());
        }
        let answer = match memory {
            Ok(memory) if address == 0 || memory.read(RemoteAddr(address), &mut ns).is_ok() => {
                let ns = (address != 0).then_some(i64::from_le_bytes(ns));
                self.namespace_of(notification.tid, &memory).map_or(Err(REFUSED), |namespace| namespace.set_clock(ns))
            }
            _ => Err(REFUSED),
        };
        self.answer(notification, answer)
    }

    /// A member disciplines the clock: a `struct timex` at an address.
    fn adjust_clock(&mut self, notification: &Notification, address: u64) -> elsewhen_linux::Result<()> {
        let mut timex = [0; TIMEX_LEN];
        let address = RemoteAddr(address);
        let memory = RemoteMemory::open(notification.tid);
        if !self.listener.is_waiting(notification) {
            return Ok(());
        }
        let answer = match memory {
            Ok(memory) if memory.read(address, &mut timex).is_ok() => {
                let namespace = self.namespace_of(notification.tid, &memory);
                let answer = namespace.map_or(Err(REFUSED), |namespace| namespace.adjust_clock(&mut timex));
                if answer.is_ok() && memory.write(address, &timex).is_err() { Err(BAD_ADDRESS) } else { answer }
            }
            _ => Err(REFUSED),
        };
        self.answer(notification, answer)
    }

    /// The namespace that a thread's process is in: that of its tree, or another that has a name.
    fn namespace_of(&mut self, tid: Tid, memory: &RemoteMemory) -> Option<Arc<Inner>> {
        if attach::terms(memory).is_none_or(|terms| terms.belongs == BELONGS_TO_TREE) {
            return Some(Arc::clone(&self.namespace));
        }
        let place = waiters::page_of(tid.0)?;
        if let Some(opened) = self.opened.get(&place) {
            return Some(Arc::clone(&opened.0));
        }
        let opened = Namespace::at(&place)?;
        // What it knows of frequency and slews lasts as long as this.
        let inner = Arc::clone(&opened.0);
        self.opened.insert(place, opened);
        Some(inner)
    }

    fn answer(&self, notification: &Notification, answer: Answer) -> elsewhen_linux::Result<()> {
        match answer {
            Ok(value) => self.listener.succeed_with(notification, value),
            Err(errno) => self.listener.fail(notification, errno),
        }
        .map(drop)
    }

    fn refuse(&self, notification: &Notification, shown: &str, reason: &str) -> elsewhen_linux::Result<()> {
        refuse(&self.namespace, &self.start, &self.listener, notification, shown, reason)
    }

    /// Hands the execution to the tracer, unless that is tracing its thread already: then an earlier execution
    /// has failed, and the session goes on to this one.
    fn trace(&mut self, notification: &Notification, program: Option<Program>) -> elsewhen_linux::Result<()> {
        if *lock(&self.gate.traced) == Some(notification.tid) {
            return self.listener.resume(notification).map(drop);
        }
        let program = program.unwrap_or(Program {
            path: "a program".into(),
            entry: Entry::Traced,
            kind: "a program that cannot be looked up, its caller's memory not being readable".into(),
        });
        let process = process::group_of(notification.tid);
        let redirected = self.elsewhere.get(&process).is_none_or(|goal| !has_hosts_time(goal.terms.belongs));
        let tracer = self.tracer.get_or_insert_with(|| {
            let (sender, receiver) = channel();
            let tracer = Tracer {
                namespace: Arc::clone(&self.namespace),
                listener: Arc::clone(&self.listener),
                gate: Arc::clone(&self.gate),
                start: Arc::clone(&self.start),
            };
            thread::spawn(move || {
                for session in receiver {
                    tracer.enter(&session);
                }
            });
            sender
        });
        // The tracer ends only with this value.
        let _ = tracer.send(Session { notification: *notification, program, redirected });
        Ok(())
    }
}

/// An execution to be traced.
struct Session {
    notification: Notification,
    program: Program,
    /// Whether the entries of the program's vDSO lead to the image.
    redirected: bool,
}

/// The tracing side.
struct Tracer {
    namespace: Arc<Inner>,
    listener: Arc<Listener>,
    gate: Arc<Gate>,
    start: Arc<Mutex<StartLog>>,
}

impl Tracer {
    fn enter(&self, Session { notification, program, redirected }: &Session) {
        let _session = lock(&self.gate.session);
        // Who serves a listener is no member, and has it.
        let Ok(entrance) = self.namespace.entrance() else { return };
        *lock(&self.gate.traced) = Some(notification.tid);
        let result = entrance.enter_traced(&self.listener, notification, *redirected, || {
            // From here on the thread's next execution is a new one.
            *lock(&self.gate.traced) = None;
        });
        *lock(&self.gate.traced) = None;
        let shown = program.path.display().to_string();
        let told = match result {
            Ok(_) => Ok(()),
            // A thread that has died meanwhile, as when another of its process was the first to execute.
            Err(Failed::BeforeExec(_)) if !self.listener.is_waiting(notification) => Ok(()),
            Err(Failed::BeforeExec(error)) => {
                let reason = format!(
                    "it is {}, which takes a trace of its start: {error} (is another tracer there?)",
                    program.kind
                );
                refuse(&self.namespace, &self.start, &self.listener, notification, &shown, &reason)
            }
            Err(Failed::Listener(error)) => Err(error),
            Err(Failed::AfterExec(error)) => {
                self.namespace.report(&format!("{shown} could not be entered and was killed: {error}"));
                Ok(())
            }
        };
        if let Err(error) = told {
            self.namespace.report(&error.to_string());
        }
    }
}

/// Refuses an announced execution, loudly.
fn refuse(
    namespace: &Inner,
    start: &Mutex<StartLog>,
    listener: &Listener,
    notification: &Notification,
    shown: &str,
    reason: &str,
) -> elsewhen_linux::Result<()> {
    let message = format!("cannot enter {shown}: {reason}");
    {
        let mut start = lock(start);
        if start.running {
            drop(start);
            namespace.report(&message);
        } else {
            // The first program: its starter gets the reason as the error.
            start.refusals.push(message);
        }
    }
    listener.fail(notification, REFUSED).map(drop)
}

/// The program that a process runs, for people.
fn program_of(tid: Tid) -> String {
    std::fs::read_link(format!("/proc/{}/exe", tid.0)).map_or("a program".into(), |path| path.display().to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
