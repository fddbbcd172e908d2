//! Nanoseconds per system call: those that no namespace changes, and those that members make in another way.

use crate::Result;
use crate::counter;
use crate::report::{Cell, Table};
use crate::statistics::Sorted;
use rustix::thread::{CpuSet, sched_getaffinity};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Rounds that are thrown away.
const WARM_UP: u32 = 5;

/// The program that makes the calls.
const SOURCE: &str = include_str!("../guests/traps.c");

/// How much more than an aim is taken for noise, as a share.
const NOISE: f64 = 0.02;

/// A way of running the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Native,
    /// With a seccomp filter of one instruction, which the guest loads itself: what any filter costs.
    Filter,
    Offset,
    Rate,
    Faketime,
}

impl Way {
    /// All of them, in the order of the report; the base of ratios is first.
    const ALL: [Self; 5] = [Self::Native, Self::Filter, Self::Offset, Self::Rate, Self::Faketime];

    const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Filter => "filter",
            Self::Offset => "offset",
            Self::Rate => "rate",
            Self::Faketime => "libfaketime",
        }
    }

    /// What stands before the guest on its command line.
    const fn prefix(self) -> &'static [&'static str] {
        match self {
            Self::Native | Self::Filter => &[],
            Self::Offset => &["elsewhen", "run", "--offset", "1d", "--"],
            Self::Rate => &["elsewhen", "run", "--adjustable", "--rate", "2", "--"],
            // With locks, since the guest has threads.
            Self::Faketime => &["faketime", "-m", "-f", "+1d"],
        }
    }

    const fn is_member(self) -> bool {
        matches!(self, Self::Offset | Self::Rate)
    }

    /// Distance of the realtime clock from the host's, where it does not grow, and pace of the monotonic clock.
    const fn expected(self) -> (Option<i128>, f64) {
        const DAY_NS: i128 = 86_400_000_000_000;
        match self {
            Self::Native | Self::Filter => (Some(0), 1.0),
            Self::Offset | Self::Faketime => (Some(DAY_NS), 1.0),
            Self::Rate => (None, 2.0),
        }
    }
}

/// What a member's time for a call should be at most.
#[derive(Clone, Copy)]
enum Aim {
    /// This multiple of the native time.
    Native(f64),
    /// The time with a filter of one instruction.
    Filter,
    /// This multiple of what the same member's clock read takes through the vDSO.
    Vdso(f64),
    /// No more than it must.
    Nothing,
}

impl Aim {
    fn text(self) -> String {
        match self {
            Self::Native(limit) => format!("≤ {limit} native"),
            Self::Filter => "≤ filter".to_owned(),
            Self::Vdso(limit) => format!("≤ {limit} vDSO"),
            Self::Nothing => String::new(),
        }
    }
}

/// A call, or a few that belong together.
struct Case {
    /// Its name to the guest.
    id: &'static str,
    name: &'static str,
    /// How often it is made in a round.
    times: u32,
    aim: Aim,
}

const fn case(id: &'static str, name: &'static str, aim: Aim) -> Case {
    Case { id, name, times: 1000, aim }
}

const fn slow_case(id: &'static str, name: &'static str, times: u32, aim: Aim) -> Case {
    Case { id, name, times, aim }
}

/// The name of the clock read that is the base of [`Aim::Vdso`].
const VDSO: &str = "clock-by-vdso";

const CASES: [Case; 29] = [
    case("getppid", "getppid", Aim::Filter),
    case("getppid-by-number", "getppid by syscall(2)", Aim::Filter),
    case("read-zero", "read, 1 byte of /dev/zero", Aim::Filter),
    case("close-nothing", "close(-1)", Aim::Filter),
    case("write-null", "write, 1 byte to /dev/null", Aim::Filter),
    case("futex-wake", "futex WAKE, inline", Aim::Filter),
    case("futex-wait-changed", "futex WAIT, EAGAIN, inline", Aim::Filter),
    case("poll", "poll, timeout 0", Aim::Filter),
    case("epoll-wait", "epoll_wait, timeout 0", Aim::Filter),
    case(VDSO, "clock_gettime by the vDSO", Aim::Nothing),
    case("clock-by-number", "clock_gettime by syscall(2)", Aim::Vdso(1.2)),
    case("clock-by-number-elsewhere", "the same, not to the stack", Aim::Vdso(1.2)),
    case("clock-inline", "clock_gettime, inline", Aim::Nothing),
    case("sigmask-pair", "pthread_sigmask, block and unblock", Aim::Native(1.3)),
    case("sigmask-pair-elsewhere", "the same, not from the stack", Aim::Native(1.3)),
    case("sigmask-inline", "rt_sigprocmask, inline", Aim::Nothing),
    case("sigaction-set", "sigaction, set", Aim::Native(1.3)),
    case("sigaction-query", "sigaction, query", Aim::Native(1.3)),
    case("sigsetjmp", "sigsetjmp and siglongjmp", Aim::Nothing),
    case("raise", "raise, with a handler", Aim::Nothing),
    slow_case("futex-deadline", "futex WAIT_BITSET, past, inline", 100, Aim::Nothing),
    slow_case("sleep-until", "clock_nanosleep, past", 100, Aim::Nothing),
    slow_case("condition-deadline", "pthread_cond_timedwait, past", 100, Aim::Nothing),
    case("ppoll-mask", "ppoll, mask, timeout 0", Aim::Nothing),
    slow_case("timerfd-set", "timerfd_settime, relative", 200, Aim::Nothing),
    slow_case("thread", "pthread_create and pthread_join", 20, Aim::Native(1.1)),
    slow_case("spawn", "posix_spawn of /bin/true, waitpid", 3, Aim::Native(1.1)),
    slow_case("spawn-missing", "posix_spawn of a missing path", 5, Aim::Nothing),
    case("sigmask-pair", "pthread_sigmask, after threads have ended", Aim::Native(1.3)),
];

/// The first case that starts threads and processes: it is measured, with what follows, when the others are done,
/// because a process with a past may be slower.
const FIRST_START: &str = "thread";

/// One round of one case, per call.
#[derive(Clone, Copy)]
struct Round {
    ns: f64,
    cycles: f64,
    instructions: f64,
}

/// Measures all calls in all ways, in turns.
pub(crate) fn run(elsewhen: &Path, rounds: u32) -> Result<Vec<Table>> {
    let program = Program::compile()?;
    let tick_ns = counter::tick_ns();
    let mut notes = Vec::new();
    let mut guests = Vec::new();
    for way in Way::ALL {
        let started = Guest::start(way, elsewhen, &program.path).and_then(|mut guest| {
            guest.check(tick_ns)?;
            Ok(guest)
        });
        match started {
            Ok(guest) => guests.push(guest),
            Err(error) if way == Way::Faketime => notes.push(format!("skipped {}: {error}", way.name())),
            Err(error) => return Err(format!("{}: {error}", way.name()).into()),
        }
    }
    let counted = prepare(&mut guests)?;

    // By case, by guest, by round.
    let mut results = vec![vec![Vec::new(); guests.len()]; CASES.len()];
    let first_start = CASES.iter().position(|case| case.id == FIRST_START).unwrap_or(CASES.len());
    for part in [0..first_start, first_start..CASES.len()] {
        for round in 0..rounds + WARM_UP {
            for (case, results) in CASES[part.clone()].iter().zip(&mut results[part.clone()]) {
                for turn in 0..guests.len() {
                    // Each is as often first as it is last.
                    let index = (turn + round as usize) % guests.len();
                    let result = guests[index].go(case, tick_ns)?;
                    if round >= WARM_UP {
                        results[index].push(result);
                    }
                }
            }
        }
    }

    let ways: Vec<Way> = guests.iter().map(|guest| guest.way).collect();
    let mut all_notes = vec![
        format!("measured on {}, {rounds} rounds; the guests take turns", date()?),
        "ns: median of rounds, per call; ratio: median of the rounds' ratios to native in the same round".to_owned(),
        "inline: by a `syscall` instruction of the program's own; the others are by functions of libc".to_owned(),
        "calls that start threads or processes, and what is said to be after them, when all others are done".to_owned(),
        "all on one processor, but for posix_spawn, where another may serve the member".to_owned(),
        format!(
            "to the aim: the larger of the members' median ratios to what the aim is about; met up to {:.0} % of noise",
            NOISE * 100.0
        ),
        "filter: a seccomp filter of one instruction, which allows everything".to_owned(),
    ];
    all_notes.extend(
        ways.iter()
            .filter(|way| !way.prefix().is_empty())
            .map(|way| format!("{}: `{}`", way.name(), way.prefix().join(" "))),
    );
    all_notes.extend(notes);
    if let Err(reason) = &counted {
        all_notes.push(format!("skipped cycles and instructions: perf_event_open: {reason}"));
    }
    let mut tables = vec![times(&ways, &results, all_notes)];
    if let Ok(modes) = counted {
        tables.push(counts(&ways, &results, vec![format!("{modes}; medians of rounds, per call")]));
    }
    Ok(tables)
}

/// Gives all guests the same processor and opens their counters. Returns what is counted, or why nothing is.
fn prepare(guests: &mut [Guest]) -> Result<std::result::Result<String, String>> {
    let allowed = sched_getaffinity(None)?;
    let cpu = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu)).ok_or("no processor")?;
    let mut counted = Ok("in user mode and in the kernel".to_owned());
    for guest in guests {
        let answer = guest.ask(&format!("pin {cpu}"))?;
        if answer != "ok" {
            return Err(format!("{}: pin {cpu}: {answer}", guest.way.name()).into());
        }
        match guest.ask("counters")?.as_str() {
            "all" => {}
            "user" if counted.is_ok() => counted = Ok("in user mode".to_owned()),
            "user" => {}
            reason => counted = Err(reason.to_owned()),
        }
    }
    Ok(counted)
}

fn times(ways: &[Way], results: &[Vec<Vec<Round>>], notes: Vec<String>) -> Table {
    let mut columns = vec!["call".to_owned()];
    for way in ways {
        columns.push(format!("{}, ns", way.name()));
        if *way != Way::Native {
            columns.push(format!("{}, ratio", way.name()));
        }
    }
    columns.extend(["aim", "to the aim", "met"].map(str::to_owned));
    let vdso = CASES.iter().position(|case| case.id == VDSO);
    let mut rows = Vec::new();
    for (case, result) in CASES.iter().zip(results) {
        let mut row = vec![Cell::text(case.name)];
        for (way, rounds) in ways.iter().zip(result) {
            let ns = Sorted::new(rounds.iter().map(|round| round.ns)).median();
            row.push(Cell::Number(ns, if ns < 1000.0 { 1 } else { 0 }));
            if *way != Way::Native {
                row.push(Cell::Number(ratio(rounds, &result[0]), 2));
            }
        }
        let base = |index: usize| match case.aim {
            Aim::Native(limit) => Some((&result[0], limit)),
            Aim::Filter => Some((&result[Way::ALL.iter().position(|way| *way == Way::Filter)?], 1.0)),
            Aim::Vdso(limit) => Some((&results[vdso?][index], limit)),
            Aim::Nothing => None,
        };
        let members = ways.iter().enumerate().filter(|(_, way)| way.is_member());
        let to_aim = members
            .filter_map(|(index, _)| base(index).map(|(base, limit)| (ratio(&result[index], base), limit)))
            .max_by(|one, other| one.0.total_cmp(&other.0));
        row.push(Cell::text(case.aim.text()));
        row.extend(match to_aim {
            Some((ratio, limit)) => {
                let met = ratio <= limit * (1.0 + NOISE);
                [Cell::Number(ratio, 2), Cell::text(if met { "yes" } else { "no" })]
            }
            None => [Cell::Nothing, Cell::text("")],
        });
        rows.push(row);
    }
    Table { title: "System calls".to_owned(), columns, rows, notes }
}

fn counts(ways: &[Way], results: &[Vec<Vec<Round>>], notes: Vec<String>) -> Table {
    let mut columns = vec!["call".to_owned()];
    columns
        .extend(ways.iter().flat_map(|way| ["cycles", "instructions"].map(|what| format!("{}, {what}", way.name()))));
    let mut rows = Vec::new();
    for (case, result) in CASES.iter().zip(results) {
        let mut row = vec![Cell::text(case.name)];
        for rounds in result {
            row.push(Cell::Number(Sorted::new(rounds.iter().map(|round| round.cycles)).median(), 0));
            row.push(Cell::Number(Sorted::new(rounds.iter().map(|round| round.instructions)).median(), 0));
        }
        rows.push(row);
    }
    Table { title: "System calls, cycles and instructions".to_owned(), columns, rows, notes }
}

/// The median of the rounds' ratios.
fn ratio(rounds: &[Round], base: &[Round]) -> f64 {
    Sorted::new(rounds.iter().zip(base).map(|(round, base)| round.ns / base.ns)).median()
}

/// Today, in UTC.
fn date() -> Result<String> {
    let output = Command::new("date").args(["-u", "+%F"]).output().map_err(|error| format!("date: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The compiled guest in a directory of its own, which goes with the value.
struct Program {
    directory: PathBuf,
    path: PathBuf,
}

impl Program {
    fn compile() -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("elsewhen-bench-traps-{}", std::process::id()));
        std::fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        // From here on, dropping removes the directory.
        let program = Self { path: directory.join("traps"), directory };
        let source = program.directory.join("traps.c");
        std::fs::write(&source, SOURCE)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-pthread", "-o"]).arg(&program.path).arg(&source);
        let output = compiler.output().map_err(|error| format!("cc: {error}"))?;
        if !output.status.success() {
            return Err(format!("cc: {}", String::from_utf8_lossy(&output.stderr).trim_end()).into());
        }
        Ok(program)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // What cannot be removed is a small directory in the one for temporary files.
        _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A running guest.
struct Guest {
    way: Way,
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Guest {
    fn start(way: Way, elsewhen: &Path, program: &Path) -> Result<Self> {
        let mut command = match way.prefix().split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(if *first == "elsewhen" { elsewhen } else { Path::new(first) });
                command.args(rest).arg(program);
                command
            }
        };
        if way == Way::Filter {
            command.arg("filter");
        }
        // Cargo sets it, and the dynamic linker would search its directories at every start.
        command.env_remove("LD_LIBRARY_PATH");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("the guest's output is not a pipe")?);
        Ok(Self { way, child, requests, answers })
    }

    /// Sends a request and waits for its answer.
    fn ask(&mut self, request: &str) -> Result<String> {
        let mut requests = self.requests.as_ref().ok_or("the guest's input is closed")?;
        requests.write_all(format!("{request}\n").as_bytes())?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err(format!("the guest ended at request \"{request}\"").into());
        }
        Ok(answer.trim_end().to_owned())
    }

    /// Sends a request whose answer is three numbers.
    fn ask_numbers<T: std::str::FromStr>(&mut self, request: &str) -> Result<[T; 3]> {
        let answer = self.ask(request)?;
        let numbers: Option<Vec<T>> = answer.split(' ').map(|word| word.parse().ok()).collect();
        let numbers = numbers.and_then(|numbers| numbers.try_into().ok());
        numbers.ok_or_else(|| format!("{}: {request}: {answer}", self.way.name()).into())
    }

    fn go(&mut self, case: &Case, tick_ns: f64) -> Result<Round> {
        let request = format!("go {} {}", case.id, case.times);
        let [ticks, cycles, instructions] =
            self.ask_numbers::<u64>(&request)?.map(|sum| sum as f64 / f64::from(case.times));
        Ok(Round { ns: ticks * tick_ns, cycles, instructions })
    }

    /// Fails unless the guest's clocks are those of its way.
    fn check(&mut self, tick_ns: f64) -> Result<()> {
        let host_ns = crate::clocks::read_ns(libc::CLOCK_REALTIME);
        let [from_ticks, realtime_ns, from_ns] = self.ask_numbers::<i128>("now")?;
        std::thread::sleep(Duration::from_millis(100));
        let [to_ticks, _, to_ns] = self.ask_numbers::<i128>("now")?;
        let pace = (to_ns - from_ns) as f64 / ((to_ticks - from_ticks) as f64 * tick_ns);
        let (distance_ns, expected) = self.way.expected();
        if (pace - expected).abs() > 0.01 {
            return Err(format!("its monotonic clock runs at {pace:.3} instead of {expected}").into());
        }
        let found_ns = realtime_ns - host_ns;
        match distance_ns {
            Some(expected_ns) if (found_ns - expected_ns).abs() > 1_000_000_000 => {
                Err(format!("its realtime clock is {found_ns} ns from the host's instead of {expected_ns}").into())
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Guest {
    /// Ends the guest by closing its input, and waits for it.
    fn drop(&mut self) {
        self.requests = None;
        // A guest that failed has said so where it was asked.
        _ = self.child.wait();
    }
}
