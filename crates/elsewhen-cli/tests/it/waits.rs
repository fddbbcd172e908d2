//! Waits take as long as the namespace's clocks say, in whatever way a program waits.
//!
//! The guests called `waits` are asked for one wait at a time, each of a known length in their own time. They answer
//! with what their own clocks counted meanwhile; the tests time the answer by the host. A wait never ends too early,
//! by any of these clocks. One that ends late may have met with a busy machine, and is asked for again; so may one that ends
//! early, where the kernel counts it in ticks.

use crate::harness::*;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Nanoseconds in a millisecond.
pub(crate) const MS: i128 = 1_000_000;
/// How much too early a wait may seem to end by the host: for what is rounded on the way.
const HOST_MARGIN: i128 = 2 * MS;
/// How often a wait is tried before it is too late.
const TRIES: usize = 3;

/// What a clock counts while the host's counts one: a fraction.
pub(crate) type Pace = (i128, i128);
/// It counts nothing.
pub(crate) const STANDS: Pace = (0, 1);

/// A namespace, and what is asked of guests in it.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// The arguments of `elsewhen run`; without any the guest runs natively.
    pub(crate) flags: &'static [&'static str],
    pub(crate) realtime: Pace,
    monotonic: Pace,
    /// How long waits are, in time of the guest.
    pub(crate) asked: i128,
    /// How late they may end, in time of the host: generous, but where waits that are not translated must be told
    /// from those that are.
    slack: i128,
}

/// No namespace.
const NATIVE: Place = Place { flags: &[], realtime: (1, 1), monotonic: (1, 1), asked: 100 * MS, slack: 5 * SECOND };
/// Realtime deadlines that are not translated lie more than a year ahead.
pub(crate) const AHEAD: Place = Place { flags: &["--offset", "400d"], ..NATIVE };
/// Realtime deadlines that are not translated are long over.
const BEHIND: Place = Place { flags: &["--offset", "-400d"], ..NATIVE };
/// Monotonic deadlines that are not translated lie an hour ahead.
pub(crate) const UP_LONGER: Place = Place { flags: &["--offset", "monotonic=1h", "--offset", "boottime=1h"], ..NATIVE };
/// Waits that are not translated take 2 s.
pub(crate) const FAST: Place =
    Place { flags: &["--rate", "10"], realtime: (10, 1), monotonic: (10, 1), asked: 2 * SECOND, slack: 3 * SECOND / 2 };
/// Waits that are not translated take 20 ms.
pub(crate) const SLOW: Place =
    Place { flags: &["--rate", "0.1"], realtime: (1, 10), monotonic: (1, 10), asked: 20 * MS, ..NATIVE };
/// For what waits for whole seconds, which are too long where time is slower.
const HALF: Place = Place { flags: &["--rate", "0.5"], realtime: (1, 2), monotonic: (1, 2), asked: SECOND, ..NATIVE };
/// The date stands; waits take as long as for the host.
pub(crate) const FROZEN: Place = Place { flags: &["--freeze"], realtime: STANDS, ..NATIVE };
/// Every clock stands; waits take as long as for the host.
const ALL_FROZEN: Place = Place { flags: &["--freeze=all"], realtime: STANDS, monotonic: STANDS, ..NATIVE };
/// Waits for a date that are not translated take 2 s.
const FAST_DATE: Place = Place { flags: &["--rate", "realtime=10"], monotonic: (1, 1), ..FAST };

impl Place {
    /// No namespace, with waits as long as in some.
    pub(crate) fn natively() -> [Self; 2] {
        [NATIVE.asked, SLOW.asked].map(|asked| Self { asked, ..NATIVE })
    }

    /// A command that runs there.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        if self.flags.is_empty() { Command::new(program) } else { elsewhen(self.flags, program) }
    }

    /// Does what takes `asked` nanoseconds of the place, where that may seem `early` shorter, until it does not take
    /// too long. Fails where it takes too short or always too long.
    #[track_caller]
    pub(crate) fn time(&self, what: &str, asked: i128, early: i128, mut act: impl FnMut()) {
        let expected = by_host(asked, self.monotonic);
        let mut took = 0;
        for _ in 0..TRIES {
            let before = Instant::now();
            act();
            took = nanoseconds(before.elapsed());
            let least = by_host(asked - early, self.monotonic) - HOST_MARGIN;
            assert!(took >= least, "{what} with {:?} took {took} ns of the host, not {expected}", self.flags);
            if took <= expected + self.slack {
                return;
            }
        }
        panic!("{what} with {:?} took {took} ns of the host, not {expected}", self.flags);
    }
}

/// What the host counts while a clock of this pace counts `ns`; beside one that stands, what others count.
pub(crate) fn by_host(ns: i128, pace: Pace) -> i128 {
    if pace == STANDS { ns } else { ns * pace.1 / pace.0 }
}

/// A duration as a number.
pub(crate) fn nanoseconds(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap()
}

/// Where every guest is tried.
const PLACES: [Place; 5] = [AHEAD, UP_LONGER, FAST, SLOW, FROZEN];

/// Ways to wait that read realtime until it has come far enough, and so never end where it stands: of which guest,
/// which, and where they do so.
const WAITS_FOR_A_DATE: [(&str, &str, &str); 4] = [
    ("waits.cpp", "sleep_until-system", "libstdc++ sleeps again while the clock is behind"),
    ("waits.cpp", "wait_until-system-predicate", "it asks again whether the clock is behind"),
    ("Waits.java", "awaitUntil", "AbstractQueuedSynchronizer compares with currentTimeMillis"),
    ("Waits.java", "Timer", "TimerThread compares with currentTimeMillis"),
];

/// Ways to wait that know whole seconds only.
const WHOLE_SECONDS: [&str; 2] = ["sleep", "alarm"];

/// Ways to wait that the kernel times by its tick. One that begins while a tick is late is as much too short, natively
/// too: it is asked for again.
const BY_TICKS: [&str; 2] = ["SO_RCVTIMEO", "SO_SNDTIMEO"];

/// A program that waits on request.
#[derive(Clone)]
pub(crate) struct Guest {
    /// The name of its source.
    name: &'static str,
    command: Vec<OsString>,
    /// How much too early, by its own clocks, its waits may natively end.
    early: i128,
}

impl Guest {
    fn new(name: &'static str, command: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self { name, command: command.into_iter().map(Into::into).collect(), early: 0 }
    }

    fn in_place(&self, place: &Place) -> Command {
        let mut command = place.command(&self.command[0]);
        command.args(&self.command[1..]);
        command
    }
}

/// One kind of wait of a guest.
#[derive(Clone)]
struct Way {
    name: String,
    /// Whether it ends by realtime.
    by_realtime: bool,
}

impl Way {
    /// From its name in the guest's first line.
    fn new(shown: &str) -> Self {
        let name = shown.trim_end_matches(":r");
        Self { name: name.to_owned(), by_realtime: name != shown }
    }

    /// Whether it can end in this place, and in time.
    fn fits(&self, guest: &Guest, place: &Place) -> bool {
        let stuck = WAITS_FOR_A_DATE.iter().any(|(name, way, _)| (*name, *way) == (guest.name, &self.name));
        let whole = guest.name == "waits.c" && WHOLE_SECONDS.contains(&self.name.as_str());
        match place.flags {
            _ if place.realtime == STANDS && stuck => false,
            flags if flags == SLOW.flags => !whole,
            flags if flags == HALF.flags => whole,
            // The others are the host's.
            flags if flags == FAST_DATE.flags => self.by_realtime,
            _ => true,
        }
    }
}

/// A wait, by the clocks of the guest and of the host.
#[derive(Debug)]
struct Waited {
    asked: i128,
    monotonic: i128,
    realtime: i128,
    host: i128,
}

impl Waited {
    /// From what a guest answered.
    fn new(answer: &str, host: Duration) -> Self {
        let numbers: Vec<i128> = answer.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [asked, monotonic, realtime] = numbers[..] else { panic!("no answer: {answer:?}") };
        Self { asked, monotonic, realtime, host: nanoseconds(host) }
    }

    /// What is wrong with it that no noise explains.
    fn wrong(&self, place: &Place, by_realtime: bool, early: i128) -> Option<String> {
        let pace = if by_realtime { place.realtime } else { place.monotonic };
        let least = by_host(self.asked - early, pace);
        if self.host < least - HOST_MARGIN {
            return Some(format!("ended {} ns too early by the host", least - self.host));
        }
        let own = [("monotonic", place.monotonic, self.monotonic), ("realtime", place.realtime, self.realtime)];
        own.into_iter().find_map(|(clock, pace, counted)| {
            let least = least * pace.0 / pace.1;
            if pace == STANDS && counted != 0 {
                Some(format!("saw {clock} move by {counted} ns, which stands"))
            } else {
                (counted < least).then(|| format!("ended {} ns too early by its {clock}", least - counted))
            }
        })
    }

    /// How much too late it ended, by the host.
    fn late(&self, place: &Place, by_realtime: bool) -> Option<i128> {
        let pace = if by_realtime { place.realtime } else { place.monotonic };
        let late = self.host - by_host(self.asked, pace);
        (late > place.slack).then_some(late)
    }
}

/// Says what was going on when a test fails.
struct Doing(String);

impl Drop for Doing {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("failed while {}", self.0);
        }
    }
}

/// Has a guest wait in every `shares`th way from the `share`th on, and fails unless each wait is as long as it must be.
fn check_share(guest: &Guest, place: &Place, share: usize, shares: usize) {
    let mut command = guest.in_place(place);
    command.stdin(Stdio::piped());
    let mut started = start(command);
    let mut stdin = started.stdin();
    let ways: Vec<Way> = {
        let _doing = Doing(format!("starting {} with {:?}", guest.name, place.flags));
        let line = started.must_say();
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some("ways"), "{line}");
        words.map(Way::new).filter(|way| way.fits(guest, place)).skip(share).step_by(shares).collect()
    };
    let mut wrong = Vec::new();
    for way in ways {
        let _doing = Doing(format!("waiting by {} in {} with {:?}", way.name, guest.name, place.flags));
        for tried in 1..=TRIES {
            let before = Instant::now();
            stdin.write_all(format!("{} {}\n", way.name, place.asked).as_bytes()).unwrap();
            let answer = started.must_say();
            let waited = Waited::new(&answer, before.elapsed());
            if let Some(problem) = waited.wrong(place, way.by_realtime, guest.early) {
                if tried < TRIES && BY_TICKS.contains(&way.name.as_str()) {
                    continue;
                }
                wrong.push(format!("{} {problem}: {waited:?}", way.name));
                break;
            }
            match waited.late(place, way.by_realtime) {
                None => break,
                Some(late) if tried == TRIES => wrong.push(format!("{} ended {late} ns late: {waited:?}", way.name)),
                Some(_) => {}
            }
        }
    }
    drop(stdin);
    started.finish().success();
    assert!(wrong.is_empty(), "{} with {:?}:\n{}", guest.name, place.flags, wrong.join("\n"));
}

/// Runs these at once, and fails as the first of those that fail.
pub(crate) fn at_once<'a>(cases: impl IntoIterator<Item = Box<dyn FnOnce() + Send + 'a>>) {
    let failed: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = cases.into_iter().map(|case| scope.spawn(case)).collect();
        running.into_iter().filter_map(|case| case.join().err()).collect()
    });
    if let Some(first) = failed.into_iter().next() {
        resume_unwind(first);
    }
}

/// Has a guest wait in these places at once, and in each in so many processes at once.
fn check_places(guest: &Guest, places: &[Place], shares: usize) {
    let cases = places.iter().flat_map(|place| (0..shares).map(move |share| (place, share)));
    at_once(cases.map(|(place, share)| Box::new(move || check_share(guest, place, share, shares)) as Box<_>));
}

/// Has a guest that was made wait wherever guests do, or says why there is none.
pub(crate) fn check(test: &str, made: Result<Guest, String>) {
    match made {
        Ok(guest) => check_places(&guest, &PLACES, 1),
        Err(reason) => skip(test, &reason),
    }
}

pub(crate) fn c(build: Build) -> Result<Guest, String> {
    Ok(Guest::new("waits.c", [guest_as("waits", build)?]))
}

/// A guest that a compiler, given with its first arguments, makes from its source.
fn compiled(name: &'static str, compiler: &[&str], environment: &[(&str, &str)]) -> Result<Guest, String> {
    let kind: Vec<&str> = environment.iter().map(|(_, value)| *value).collect();
    let path = make_once(&format!("{}{}", name.replace('.', "-"), kind.concat()), |to| {
        let mut command = Command::new(compiler[0]);
        command.args(&compiler[1..]).arg("-o").arg(to).arg(sources().join(name)).envs(environment.iter().copied());
        command
    })?;
    Ok(Guest::new(name, [path]))
}

fn cpp() -> Result<Guest, String> {
    compiled("waits.cpp", &["c++", "-std=c++17", "-O1", "-g", "-Wall", "-Werror", "-pthread"], &[])
}

fn go(architecture: &str) -> Result<Guest, String> {
    compiled("waits.go", &["go", "build"], &[("GO111MODULE", "off"), ("GOARCH", architecture)])
}

fn rust() -> Result<Guest, String> {
    compiled("waits.rs", &["rustc", "--edition=2021", "-O", "--crate-name=waits"], &[])
}

fn java() -> Result<Guest, String> {
    let classes = make_once("waits-java", |to| {
        let mut command = Command::new("javac");
        command.arg("-d").arg(to).arg(sources().join("Waits.java"));
        command
    })?;
    Ok(Guest::new("Waits.java", ["java".into(), "-cp".into(), classes.into_os_string(), "Waits".into()]))
}

fn script(interpreter: &str, name: &'static str, early: i128) -> Result<Guest, String> {
    if !has(interpreter) {
        return Err(format!("there is no {interpreter}"));
    }
    Ok(Guest { early, ..Guest::new(name, [interpreter.into(), sources().join(name).into_os_string()]) })
}

fn python() -> Result<Guest, String> {
    // asyncio takes a wait for over that lacks no more than the clock's resolution.
    script("python3", "waits.py", MS / 1000)
}

fn node() -> Result<Guest, String> {
    // Its timers and its date count whole milliseconds, so that each may lack a part of one.
    script("node", "waits.js", 2 * MS)
}

fn tokio() -> Result<Guest, String> {
    let path: PathBuf = Path::new(ELSEWHEN).with_file_name("examples").join("tokio_waits");
    if !path.is_file() {
        return Err("the example tokio_waits is not built; `cargo test` without --test does that".to_owned());
    }
    Ok(Guest::new("tokio_waits.rs", [path]))
}

#[test]
fn waits_of_c_programs_follow_the_clocks() {
    let places: Vec<Place> = PLACES.into_iter().chain([BEHIND, HALF, ALL_FROZEN, FAST_DATE]).collect();
    check_places(&c(Build::Dynamic).unwrap(), &places, 4);
}

#[test]
fn waits_of_static_programs_follow_the_clocks() {
    for build in [Build::Static, Build::MuslStatic] {
        match c(build) {
            Ok(guest) => check_places(&guest, &PLACES, 4),
            Err(reason) => skip(&format!("waits_of_static_programs_follow_the_clocks ({build:?})"), &reason),
        }
    }
}

/// With times of 32 bits and of 64, which are different calls.
#[test]
fn waits_of_32_bit_programs_follow_the_clocks() {
    for build in [Build::Bits32, Build::Bits32Time64] {
        match c(build) {
            Ok(guest) => check_places(&guest, &PLACES, 4),
            Err(reason) => skip(&format!("waits_of_32_bit_programs_follow_the_clocks ({build:?})"), &reason),
        }
    }
}

#[test]
fn waits_of_cpp_programs_follow_the_clocks() {
    check("waits_of_cpp_programs_follow_the_clocks", cpp());
}

#[test]
fn waits_of_go_programs_follow_the_clocks() {
    check("waits_of_go_programs_follow_the_clocks", go(GO));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn waits_of_go_programs_of_32_bits_follow_the_clocks() {
    check("waits_of_go_programs_of_32_bits_follow_the_clocks", go("386"));
}

#[test]
fn waits_of_rust_programs_follow_the_clocks() {
    check("waits_of_rust_programs_follow_the_clocks", rust());
}

#[test]
fn waits_of_tokio_follow_the_clocks() {
    check("waits_of_tokio_follow_the_clocks", tokio());
}

#[test]
fn waits_of_java_programs_follow_the_clocks() {
    check("waits_of_java_programs_follow_the_clocks", java());
}

#[test]
fn waits_of_node_programs_follow_the_clocks() {
    check("waits_of_node_programs_follow_the_clocks", node());
}

#[test]
fn waits_of_python_programs_follow_the_clocks() {
    check("waits_of_python_programs_follow_the_clocks", python());
}

/// Programs that wait for as many seconds as their arguments say, and how they end.
const TOOLS: [(&str, &[&str], i32); 5] = [
    ("sleep", &["sleep", "SECONDS"], 0),
    ("sleep in two parts", &["sh", "-c", "sleep HALF; sleep HALF"], 0),
    ("timeout", &["timeout", "SECONDS", "sleep", "1000"], 124),
    ("timeout with a signal that is no use", &["timeout", "-s", "CONT", "-k", "HALF", "HALF", "sleep", "1000"], 137),
    ("read -t", &["bash", "-c", "read -t SECONDS"], 142),
];

/// Runs a program in a place until it ends by itself, and fails unless it took as long as it must.
fn check_tool(tool: &(&str, &[&str], i32), place: &Place) {
    let (name, arguments, code) = *tool;
    // Starting takes its time too, which goes by faster here.
    let asked = if place.flags == FAST.flags { 2 * place.asked } else { place.asked };
    let seconds = |ns: i128| format!("{}.{:06}", ns / SECOND, ns % SECOND / 1000);
    let filled: Vec<OsString> = arguments
        .iter()
        .map(|argument| argument.replace("SECONDS", &seconds(asked)).replace("HALF", &seconds(asked / 2)).into())
        .collect();
    place.time(name, asked, 0, || {
        let mut command = Guest::new("", filled.clone()).in_place(place);
        command.stdin(Stdio::piped());
        let mut started = start(command);
        // Its input stays open until then.
        started.end();
        let outcome = started.finish();
        // Natively a signal shows as one.
        let ended = outcome.status.code().or_else(|| Some(128 + outcome.status.signal()?));
        // A program that a signal meets before it ignores that ends by it, natively too.
        let met_early = code == 137 && ended == Some(124);
        assert!(ended == Some(code) || met_early, "{name} with {:?}: {outcome:?}", place.flags);
        assert_eq!(outcome.stderr, "", "{name} with {:?}", place.flags);
    });
}

#[test]
fn waits_of_tools_follow_the_clocks() {
    const TEST: &str = "waits_of_tools_follow_the_clocks";
    let cases = TOOLS.iter().flat_map(|tool| PLACES.iter().chain([&ALL_FROZEN]).map(move |place| (tool, place)));
    let (can, cannot): (Vec<_>, Vec<_>) = cases.partition(|(tool, _)| has(tool.1[0]));
    for (tool, _) in cannot {
        skip(TEST, &format!("there is no {}", tool.1[0]));
    }
    at_once(can.into_iter().map(|(tool, place)| Box::new(move || check_tool(tool, place)) as Box<_>));
}

/// Whoever changes a guest sees here what it does without any namespace.
#[test]
#[ignore = "tests guests, not elsewhen"]
fn waits_are_as_long_natively() {
    let bits32 = [Build::Bits32, Build::Bits32Time64].map(c);
    let guests = [c(Build::Static), c(Build::MuslStatic), cpp(), go(GO), rust(), tokio(), java(), node(), python()];
    let guests: Vec<Guest> = guests.into_iter().chain(bits32).chain([c(Build::Dynamic)]).map(Result::unwrap).collect();
    let guests =
        guests.iter().map(|guest| Box::new(|| check_places(guest, &Place::natively(), 3)) as Box<dyn FnOnce() + Send>);
    let tools = TOOLS.iter().map(|tool| Box::new(|| check_tool(tool, &NATIVE)) as Box<_>);
    at_once(guests.chain(tools));
}
