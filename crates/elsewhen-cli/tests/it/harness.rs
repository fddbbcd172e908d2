//! Running programs with a deadline, compiling guests, and reading clocks.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a program may take unless a test says otherwise: far longer than any needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Nanoseconds in a second.
pub(crate) const SECOND: i128 = 1_000_000_000;
/// Nanoseconds in an hour.
pub(crate) const HOUR: i128 = 3600 * SECOND;
/// Nanoseconds in a day.
pub(crate) const DAY: i128 = 24 * HOUR;

/// Go's name of this machine's architecture.
pub(crate) const GO: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };

/// The command under test.
pub(crate) const ELSEWHEN: &str = env!("CARGO_BIN_EXE_elsewhen");

/// Says on standard error that a test did not run, and why.
pub(crate) fn skip(test: &str, reason: &str) {
    eprintln!("SKIP {test}: {reason}");
}

/// `elsewhen run --quiet FLAGS -- PROGRAM`: what is written is the program's.
pub(crate) fn elsewhen(flags: &[&str], program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(ELSEWHEN);
    command.args(["run", "--quiet"]).args(flags).arg("--").arg(program);
    command
}

/// The command, with a folder of named namespaces of its own.
pub(crate) fn cli(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(ELSEWHEN);
    command.args(arguments).env("ELSEWHEN_RUNTIME_DIR", folder.path()).stdin(Stdio::null());
    command
}

/// What became of a program.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The exit code; fails for a program ended by a signal.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by signal {:?}: {self:?}", self.status.signal()))
    }

    /// Fails unless the program succeeded.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert!(self.status.success(), "{self:?}");
        self
    }
}

/// A started program, killed with its process group when the value goes.
pub(crate) struct Started {
    child: Child,
    out: Stream,
    err: Stream,
    shown: String,
    deadline: Instant,
}

/// Lines of a program, read by a thread.
struct Stream {
    lines: Option<Receiver<Vec<u8>>>,
    seen: Vec<u8>,
}

impl Stream {
    fn new(from: Option<impl Read + Send + 'static>) -> Self {
        let lines = from.map(|from| {
            let (sender, receiver) = channel();
            thread::spawn(move || {
                let mut from = BufReader::new(from);
                loop {
                    let mut line = Vec::new();
                    match from.read_until(b'\n', &mut line) {
                        Ok(length) if length > 0 && sender.send(line).is_ok() => {}
                        _ => return,
                    }
                }
            });
            receiver
        });
        Self { lines, seen: Vec::new() }
    }

    /// The next line; `None` at the end. `Err` when it does not come in time.
    fn next(&mut self, deadline: Instant) -> Result<Option<String>, ()> {
        let Some(lines) = &self.lines else { return Ok(None) };
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.seen.extend(&line);
                Ok(Some(String::from_utf8_lossy(&line).into_owned()))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(()),
        }
    }
}

/// Starts a program in a process group of its own, with its output captured.
pub(crate) fn start(command: Command) -> Started {
    start_for(command, PATIENCE)
}

/// As [`start`], for at most so long.
pub(crate) fn start_for(mut command: Command, limit: Duration) -> Started {
    let shown = format!("{command:?}");
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
    let (out, err) = (Stream::new(child.stdout.take()), Stream::new(child.stderr.take()));
    Started { child, out, err, shown, deadline: Instant::now() + limit }
}

impl Started {
    /// The process id.
    pub(crate) fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Its standard input, where that was piped.
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("standard input is piped")
    }

    /// Until when it may take for what comes next: nothing waits for ever, but a conversation takes its time.
    fn patience(&self) -> Instant {
        self.deadline.max(Instant::now() + PATIENCE)
    }

    /// The next line of its standard output, without the newline; `None` at the end.
    pub(crate) fn line(&mut self) -> Option<String> {
        match self.out.next(self.patience()) {
            Ok(line) => line.map(|line| line.trim_end().to_owned()),
            Err(()) => self.give_up("wrote no line"),
        }
    }

    /// The next line, which must come.
    #[track_caller]
    pub(crate) fn must_say(&mut self) -> String {
        match self.line() {
            Some(line) => line,
            None => self.give_up("ended its output early, so not"),
        }
    }

    /// Sends a signal to the process alone.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).unwrap_or_else(|error| panic!("signal {}: {error}", self.shown));
    }

    /// Whether it has ended, without waiting.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the child is ours").is_some()
    }

    /// Waits for the end of the program and of its output.
    pub(crate) fn finish(mut self) -> Outcome {
        drop(self.child.stdin.take());
        let status = self.end();
        let deadline = self.patience();
        loop {
            match self.out.next(deadline) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(()) => self.give_up("ended, but its standard output stays open"),
            }
        }
        loop {
            match self.err.next(deadline) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(()) => self.give_up("ended, but its standard error stays open"),
            }
        }
        Outcome {
            status,
            stdout: String::from_utf8_lossy(&self.out.seen).into_owned(),
            stderr: String::from_utf8_lossy(&self.err.seen).into_owned(),
        }
    }

    /// Waits for the end of the program only.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = self.patience();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                Ok(None) => self.give_up("did not end"),
                Err(error) => panic!("{}: {error}", self.shown),
            }
        }
    }

    /// What it has written to standard error so far.
    pub(crate) fn errors(&mut self) -> String {
        while let Ok(Some(_)) = self.err.next(Instant::now() + Duration::from_millis(200)) {}
        String::from_utf8_lossy(&self.err.seen).into_owned()
    }

    fn give_up(&mut self, what: &str) -> ! {
        let errors = self.errors();
        let out = String::from_utf8_lossy(&self.out.seen).into_owned();
        panic!("{} {what} in time; output so far {out:?}, errors {errors:?}", self.shown);
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // What it started may have left its group, as the supervisor does. Each fails only where nothing is left.
            let started = descendants(self.id());
            let _ = kill_process_group(self.id(), Signal::KILL);
            for process in started {
                let _ = kill_process(process, Signal::KILL);
            }
            let _ = self.child.wait();
        }
    }
}

/// The children of a process, theirs, and so on.
fn descendants(of: Pid) -> Vec<Pid> {
    let mut found = vec![of];
    let mut next = 0;
    while let Some(process) = found.get(next) {
        let tasks = fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)));
        }
        next += 1;
    }
    found.split_off(1)
}

/// Runs a program to its end, with nothing to read unless the command says so.
pub(crate) fn run(command: Command) -> Outcome {
    start(command).finish()
}

/// Runs a program that finds nothing on standard input.
pub(crate) fn run_quietly(mut command: Command) -> Outcome {
    command.stdin(Stdio::null());
    run(command)
}

/// Whether there is such a program in `PATH`.
pub(crate) fn has(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Fails if a clock goes back each time that something is done, which says how often it went: a writer that is stopped at the
/// moment of its one store lets MONOTONIC go back, and on a busy machine that can happen.
#[track_caller]
pub(crate) fn unless_each_time_back(act: impl Fn() -> u64) {
    let back: Vec<u64> = (0..3).map(|_| act()).take_while(|back| *back > 0).collect();
    assert!(back.len() < 3, "clocks went back each time: {back:?}");
}

/// The state of a process or `PID/task/TID`, as `proc_pid_stat(5)` has it; `None` where it is gone.
pub(crate) fn state_of(task: impl std::fmt::Display) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{task}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// Whether a process is gone, or waits for nothing but to be collected.
pub(crate) fn is_over(process: impl std::fmt::Display) -> bool {
    matches!(state_of(process), None | Some('Z'))
}

/// Kills a process, and waits until none of its threads holds anything any more.
#[track_caller]
pub(crate) fn kill_whole(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    until("the process has ended", || {
        // Its first thread is a zombie as long as another has not ended.
        let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        is_over(pid) && threads <= 1
    });
}

/// How a guest in C is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Build {
    /// Position-independent, dynamic, with the system's C library.
    Dynamic,
    /// Dynamic, at a fixed address.
    NoPie,
    Static,
    StaticPie,
    MuslStatic,
    MuslDynamic,
    /// No C library at all.
    Bare,
    /// For the 32-bit x86 interface.
    Bits32,
    /// The same, with the C library linked in.
    Bits32Static,
    /// The same, with times of 64 bits.
    Bits32Time64,
    /// The same, without a C library at all.
    Bits32Bare,
    /// For the x32 interface.
    X32,
    /// The same, with the C library linked in.
    X32Static,
    /// The same, without a C library at all.
    X32Bare,
    /// At addresses that a member needs for itself.
    InTheWay,
}

impl Build {
    fn compiler(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Dynamic => ("cc", &["-fPIE", "-pie"]),
            Self::NoPie => ("cc", &["-fno-pie", "-no-pie"]),
            Self::Static => ("cc", &["-static", "-no-pie"]),
            Self::StaticPie => ("cc", &["-fPIE", "-static-pie"]),
            Self::MuslStatic => ("musl-gcc", &["-static"]),
            Self::MuslDynamic => ("musl-gcc", &[]),
            Self::Bare => ("cc", &["-nostdlib", "-static", "-no-pie", "-ffreestanding", "-fno-stack-protector"]),
            Self::Bits32 => ("cc", &["-m32"]),
            Self::Bits32Static => ("cc", &["-m32", "-static"]),
            Self::Bits32Time64 => ("cc", &["-m32", "-D_TIME_BITS=64", "-D_FILE_OFFSET_BITS=64"]),
            Self::Bits32Bare => (
                "cc",
                &["-m32", "-nostdlib", "-static", "-no-pie", "-fno-pie", "-ffreestanding", "-fno-stack-protector"],
            ),
            Self::X32 => ("cc", &["-mx32"]),
            Self::X32Static => ("cc", &["-mx32", "-static"]),
            Self::InTheWay if cfg!(target_arch = "x86_64") => {
                ("cc", &["-static", "-no-pie", "-Wl,-Ttext-segment=0x100000"])
            }
            Self::InTheWay => ("cc", &["-static", "-no-pie", "-Wl,-Ttext-segment=0xf00000000"]),
            Self::X32Bare => ("cc", &["-mx32", "-nostdlib", "-static", "-no-pie", "-fno-pie"]),
        }
    }
}

/// The folder of guests' sources.
pub(crate) fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests")
}

/// What a guest is known by, and where it is: `Err` says why it cannot be had here.
type Built = Arc<OnceLock<Result<PathBuf, String>>>;

/// Makes something once in a run of the tests; `make` gets the path that it is to write.
pub(crate) fn make_once(name: &str, make: impl FnOnce(&Path) -> Command) -> Result<PathBuf, String> {
    static BUILT: LazyLock<Mutex<HashMap<String, Built>>> = LazyLock::new(Mutex::default);
    let place = Arc::clone(BUILT.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default());
    place
        .get_or_init(|| {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
            let fresh = path.with_file_name(format!("{name}.new"));
            let mut command = make(&fresh);
            let program = command.get_program().to_string_lossy().into_owned();
            if !has(&program) {
                return Err(format!("there is no {program}"));
            }
            command.stdin(Stdio::null());
            let made = start_for(command, Duration::from_secs(300)).finish();
            if !made.status.success() {
                return Err(format!("{program} fails: {}", made.stderr.lines().next().unwrap_or_default()));
            }
            if path.is_dir() {
                fs::remove_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            fs::rename(&fresh, &path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(path)
        })
        .clone()
}

/// A guest in C, compiled; or why it cannot be had here.
pub(crate) fn guest_as(name: &str, build: Build) -> Result<PathBuf, String> {
    make_once(&format!("{name}-{build:?}").to_lowercase(), |to| {
        let (compiler, flags) = build.compiler();
        let mut command = Command::new(compiler);
        command.args(["-O1", "-g", "-Wall", "-Werror", "-pthread"]).args(flags).arg("-o").arg(to);
        command.arg(sources().join(format!("{name}.c")));
        command
    })
}

/// Whether this kernel runs x32 programs; or why that cannot be known.
pub(crate) fn runs_x32() -> Result<bool, String> {
    static RUNS: LazyLock<Result<bool, String>> = LazyLock::new(|| {
        let path = guest_as("x32", Build::X32Bare)?;
        let output = Command::new(path).stdin(Stdio::null()).output();
        Ok(output.is_ok_and(|output| output.stdout == b"ran\n"))
    });
    RUNS.clone()
}

/// A guest in C, built as the system's programs are.
pub(crate) fn guest(name: &str) -> PathBuf {
    guest_as(name, Build::Dynamic).unwrap_or_else(|reason| panic!("guest {name}: {reason}"))
}

/// A folder that goes with the value, readable by everybody.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        Self::new_in(&std::env::temp_dir(), name)
    }

    pub(crate) fn new_in(folder: &Path, name: &str) -> Self {
        let path = folder.join(format!("elsewhen-{}-{name}", std::process::id()));
        // Of a process of that number which did not come to its end.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A path in the folder.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A copy of a file, with this mode.
    pub(crate) fn copy(&self, from: impl AsRef<Path>, name: &str, mode: u32) -> PathBuf {
        let to = self.at(name);
        install(from.as_ref(), &to, mode, "");
        to
    }

    /// A new file, with this mode.
    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let to = self.at(name);
        install(Path::new("/dev/stdin"), &to, mode, text);
        to
    }
}

/// Copies a file that may be a program, by a process of its own, which has that text for its standard input: a descriptor for
/// writing it here could be handed on to whatever another test starts right then, and nothing can be executed while it is
/// open (`ETXTBSY`).
pub(crate) fn install(from: &Path, to: &Path, mode: u32, text: &str) {
    let mut command = Command::new("install");
    command.arg("-m").arg(format!("{mode:o}")).args([from, to]).stdin(Stdio::piped());
    let mut installing = start(command);
    installing.stdin().write_all(text.as_bytes()).unwrap();
    installing.finish().success();
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left lies in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Every clock of the host that a guest may read, by number.
#[derive(Clone, Debug)]
pub(crate) struct Host([i128; 12]);

impl Host {
    /// Reads them all, coarse clocks first: they lie behind the fine ones.
    pub(crate) fn now() -> Self {
        let read = |clock| {
            let now = clock_gettime(clock);
            i128::from(now.tv_sec) * SECOND + i128::from(now.tv_nsec)
        };
        let mut host = [0; 12];
        host[5] = read(ClockId::RealtimeCoarse);
        host[6] = read(ClockId::MonotonicCoarse);
        host[0] = read(ClockId::Realtime);
        host[1] = read(ClockId::Monotonic);
        host[4] = read(ClockId::MonotonicRaw);
        host[7] = read(ClockId::Boottime);
        host[11] = elsewhen_linux::clock::now(elsewhen_vdso::clock::ClockId::Tai).0.into();
        (host[8], host[9]) = (host[0], host[7]);
        Self(host)
    }

    /// The reading of a clock.
    pub(crate) fn of(&self, clock: usize) -> i128 {
        self.0[clock]
    }

    /// A reading that this clock cannot have exceeded: a coarse clock never runs ahead of its fine one.
    pub(crate) fn ceiling_of(&self, clock: usize) -> i128 {
        match clock {
            5 => self.0[0],
            6 => self.0[1],
            _ => self.0[clock],
        }
    }
}

/// A reading that a guest printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) clock: usize,
    pub(crate) resolution_ns: i128,
    pub(crate) ns: i128,
}

/// The readings in a guest's output; other lines are left out.
pub(crate) fn readings(output: &str) -> Vec<Reading> {
    output
        .lines()
        .filter_map(|line| {
            let numbers: Vec<i128> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
            match numbers[..] {
                [clock, resolution_ns, ns] if line.starts_with(|first: char| first.is_ascii_digit()) => {
                    Some(Reading { clock: usize::try_from(clock).ok()?, resolution_ns, ns })
                }
                _ => None,
            }
        })
        .collect()
}

/// The reading of one clock, at the finest resolution printed.
#[track_caller]
pub(crate) fn reading_of(readings: &[Reading], clock: usize) -> i128 {
    readings.iter().find(|reading| reading.clock == clock).unwrap_or_else(|| panic!("no clock {clock}")).ns
}

/// Distances from the host, of each family.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shift {
    pub(crate) realtime: i128,
    pub(crate) monotonic: i128,
    pub(crate) boottime: i128,
}

impl Shift {
    /// REALTIME alone.
    pub(crate) fn realtime(ns: i128) -> Self {
        Self { realtime: ns, ..Self::default() }
    }

    fn of(self, clock: usize) -> i128 {
        match clock {
            0 | 5 | 8 | 11 => self.realtime,
            1 | 4 | 6 => self.monotonic,
            _ => self.boottime,
        }
    }

    /// Fails unless every reading lies between the host's before and after, shifted.
    #[track_caller]
    pub(crate) fn check(self, shown: &str, readings: &[Reading], before: &Host, after: &Host) {
        assert!(!readings.is_empty(), "{shown} printed no reading");
        for &Reading { clock, resolution_ns, ns } in readings {
            let floor = (before.of(clock) + self.of(clock)).div_euclid(resolution_ns) * resolution_ns;
            let ceiling = after.ceiling_of(clock) + self.of(clock);
            assert!(
                (floor..=ceiling).contains(&ns),
                "{shown}: clock {clock} at {resolution_ns} ns reads {ns}, which is not in {floor}..={ceiling}: \
                 {} s from the nearer end",
                (if ns < floor { ns - floor } else { ns - ceiling }) as f64 / 1e9,
            );
        }
    }
}

/// A `clocks ask` guest in conversation.
pub(crate) struct Asked {
    pub(crate) guest: Started,
    stdin: ChildStdin,
}

/// What a guest answered, and the host's clocks around that.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) before: Host,
    pub(crate) readings: Vec<Reading>,
    pub(crate) after: Host,
}

impl Asked {
    /// Starts the conversation.
    pub(crate) fn new(mut command: Command) -> Self {
        command.arg("ask").stdin(Stdio::piped());
        let mut guest = start(command);
        let stdin = guest.stdin();
        Self { guest, stdin }
    }

    /// Asks for the readings now.
    #[track_caller]
    pub(crate) fn ask(&mut self) -> Answer {
        let before = Host::now();
        self.stdin.write_all(b"?\n").unwrap();
        let mut text = String::new();
        loop {
            let line = self.guest.must_say();
            if line == "end" {
                break;
            }
            text += &line;
            text.push('\n');
        }
        Answer { before, readings: readings(&text), after: Host::now() }
    }

    /// Lets the guest end.
    pub(crate) fn finish(self) -> Outcome {
        drop(self.stdin);
        self.guest.finish()
    }
}

/// Fails unless the seconds that a guest printed lie where the host's clock, shifted, was meanwhile.
#[track_caller]
pub(crate) fn check_seconds(shown: &str, printed: &str, offset_s: i64, before: &Host, after: &Host) {
    let seconds: i64 = printed
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("{shown} printed {printed:?} instead of seconds"));
    let seconds_of = |ns: i128| i64::try_from(ns / SECOND).unwrap();
    let range = seconds_of(before.of(5)) + offset_s..=seconds_of(after.of(0)) + offset_s;
    assert!(range.contains(&seconds), "{shown} reads {seconds}, not one of {range:?}");
}
