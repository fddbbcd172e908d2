//! Every system call that carries time: inside a namespace it does what it does natively, in the namespace's time.
//!
//! The guest makes each call in many ways, and says what it returned and how long it took by a counter that no
//! namespace moves. Every case of a run inside is compared with the same one natively.

use crate::harness::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

/// How long a run may take: cases that hang are given up in groups.
const LIMIT: Duration = Duration::from_secs(600);
/// How much earlier than it should a wait may end, in the host's time.
const EARLY: i128 = SECOND / 1000;
/// How much later: a busy machine is late, and a wait that was not translated is later than that.
const LATE: i128 = 2 * SECOND;
/// A tick of the slowest kernel, by which coarse clocks lie behind their fine ones.
const TICK: i128 = SECOND / 100;

/// A namespace, and how its clocks differ from the host's.
struct Inside {
    flags: &'static [&'static str],
    build: Build,
    shift: Shift,
    /// What its clocks count while the host's count the second.
    rate: (i128, i128),
    /// How long waits last, in its time.
    wait_ms: u64,
    /// Its clocks stand still; waits go on.
    frozen: bool,
    /// Whether members may set its clocks; natively, whoever has the right can.
    settable: bool,
}

const NATIVE: Inside = Inside {
    flags: &[],
    build: Build::Dynamic,
    shift: Shift { realtime: 0, monotonic: 0, boottime: 0 },
    rate: (1, 1),
    wait_ms: 60,
    frozen: false,
    settable: true,
};
const MEMBER: Inside = Inside { settable: false, ..NATIVE };

/// Offsets are so large that a deadline on the wrong clock is gone, or does not come. Waits in a fast namespace are so
/// long that they end too late if they are not translated; in a slow one they end too early.
const INSIDE: [Inside; 7] = [
    Inside { flags: &["--adjustable"], ..MEMBER },
    Inside {
        flags: &["--offset", "1d", "--offset", "monotonic=1h", "--offset", "boottime=2h"],
        shift: Shift { realtime: DAY, monotonic: HOUR, boottime: 2 * HOUR },
        ..MEMBER
    },
    Inside {
        flags: &["--offset=-1000d"],
        build: Build::Static,
        shift: Shift { realtime: -1000 * DAY, monotonic: 0, boottime: 0 },
        ..MEMBER
    },
    Inside { flags: &["--freeze=all"], frozen: true, ..MEMBER },
    Inside { flags: &["--rate", "4"], rate: (4, 1), wait_ms: 2800, ..MEMBER },
    Inside { flags: &["--rate", "0.5"], build: Build::MuslStatic, rate: (1, 2), ..MEMBER },
    Inside {
        flags: &["--rate", "4", "--offset", "1d", "--offset", "monotonic=1h", "--offset", "boottime=2h"],
        shift: Shift { realtime: DAY, monotonic: HOUR, boottime: 2 * HOUR },
        rate: (4, 1),
        wait_ms: 2800,
        ..MEMBER
    },
];

impl Inside {
    /// So much of its time, in the host's.
    fn to_host(&self, ns: i128) -> i128 {
        ns * self.rate.1 / self.rate.0
    }

    /// So much of the host's time, in its.
    fn to_member(&self, ns: i128) -> i128 {
        ns * self.rate.0 / self.rate.1
    }

    /// How many times more than the host's its clocks count, if they do.
    fn haste(&self) -> i128 {
        (self.rate.0 / self.rate.1).max(1)
    }

    fn command(&self, path: &Path) -> Command {
        if self.flags.is_empty() { Command::new(path) } else { elsewhen(self.flags, path) }
    }

    fn offset_of(&self, clock: usize) -> i128 {
        match clock {
            0 | 5 | 8 | 11 => self.shift.realtime,
            1 | 4 | 6 => self.shift.monotonic,
            _ => self.shift.boottime,
        }
    }
}

/// What became of a case.
#[derive(Debug)]
struct Observed {
    result: String,
    error: i32,
    elapsed: i128,
    words: Vec<String>,
}

impl Observed {
    /// Whether it never came to be in the midst of a wait when it was to.
    fn is_given_up(&self) -> bool {
        /// As the guest says it.
        const GIVEN_UP: i32 = 75;
        self.result == "failed" && self.error == GIVEN_UP
    }
}

/// All cases of a run, and the host's clocks around it.
struct Run {
    before: Host,
    cases: BTreeMap<String, Observed>,
    after: Host,
}

/// Runs the guest with all cases, or these.
#[track_caller]
fn observe(mut command: Command, khz: &str, wait_ms: u64, cases: &[String]) -> Run {
    command.arg(khz).arg(wait_ms.to_string()).args(cases).stdin(Stdio::null());
    let before = Host::now();
    let outcome = start_for(command, LIMIT).finish().success();
    let after = Host::now();
    assert_eq!(outcome.stderr, "");
    let cases = outcome.stdout.lines().map(|line| {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        match &words[..] {
            [case, result, error, elapsed, words @ ..] => {
                let (result, words) = (result.clone(), words.to_vec());
                let (error, elapsed) = (error.parse().unwrap(), elapsed.parse().unwrap());
                (case.clone(), Observed { result, error, elapsed, words })
            }
            _ => panic!("no line of a case: {line}"),
        }
    });
    Run { before, cases: cases.filter(|(case, _)| !absent().contains(case)).collect(), after }
}

/// The cases of calls that this machine does not have.
fn absent() -> &'static BTreeSet<String> {
    static ABSENT: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let is_there = |row: &str| elsewhen_vdso::surface::rows().any(|known| known.name == row);
        listed().into_iter().filter(|(row, _)| !is_there(row)).map(|(_, case)| case).collect()
    });
    &ABSENT
}

/// What the guest tells the host's time by, as the kernel calls it.
const COUNTER: &str = if cfg!(target_arch = "x86_64") { "tsc" } else { "arch_sys_counter" };

/// The run outside of all namespaces, and how often the processor's counter counts in a millisecond; or why that does
/// not tell the time here.
fn native() -> Result<&'static (Run, String), &'static String> {
    static NATIVELY: LazyLock<Result<(Run, String), String>> = LazyLock::new(|| {
        let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        let source = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        if source.trim() != COUNTER {
            return Err(format!("the clock source is {}, not {COUNTER}", source.trim()));
        }
        let mut measure = Command::new(guest("surface"));
        measure.arg("--measure");
        let khz = run_quietly(measure).success().stdout.trim().to_owned();
        Ok((observe(Command::new(guest("surface")), &khz, NATIVE.wait_ms, &[]), khz))
    });
    NATIVELY.as_ref()
}

/// The cases, as pairs of a system call's name and the case's own.
fn listed() -> Vec<(String, String)> {
    let mut command = Command::new(guest("surface"));
    command.arg("--list");
    let lines = run_quietly(command).success().stdout;
    lines
        .lines()
        .map(|line| line.split_once(' ').map(|(row, case)| (row.to_owned(), case.to_owned())).unwrap())
        .collect()
}

/// What is wrong with a case.
struct Wrong {
    what: String,
    /// Whether a busy machine can do that: then the case is made again.
    may_be_noise: bool,
}

impl From<String> for Wrong {
    fn from(what: String) -> Self {
        Self { what, may_be_noise: false }
    }
}

/// A word's form and its numbers; all other words are forms.
fn form(word: &str) -> (&str, Vec<i128>) {
    word.split_once('=').map_or((word, Vec::new()), |(form, numbers)| {
        (form, numbers.split(',').map(|number| number.parse().unwrap()).collect())
    })
}

/// Fails unless a case did what it did natively.
fn check(inside: &Inside, run: &Run, seen: &Observed, natively: &Observed) -> Result<(), Wrong> {
    let within = |what: &str, ns: i128, least: i128, most: i128| {
        if (least..=most).contains(&ns) { Ok(()) } else { Err(format!("{what}: {ns} is not in {least}..={most}")) }
    };
    if seen.is_given_up() || natively.is_given_up() {
        return Err(Wrong { what: "was not met in the midst of a wait".to_owned(), may_be_noise: true });
    }
    if (&seen.result, seen.error) != (&natively.result, natively.error) {
        return Err(format!("not {} {}", natively.result, natively.error).into());
    }
    if ["skip", "died"].contains(&seen.result.as_str()) {
        return Ok(());
    }
    let (seen_words, native_words) =
        (seen.words.iter().map(|word| form(word)), natively.words.iter().map(|word| form(word)));
    if !seen_words.clone().map(|(form, _)| form).eq(native_words.clone().map(|(form, _)| form)) {
        return Err(format!("not {:?}", natively.words).into());
    }
    // Not before its own time has come and not before something has happened in the host's, and soon after that.
    let least = seen_words.clone().map(|word| match (word.0, &word.1[..]) {
        ("after", &[wait, slack]) => inside.to_host(wait) - slack,
        ("host", &[wait]) => wait,
        _ => 0,
    });
    let least = least.max().unwrap_or(0);
    let late = if seen_words.clone().any(|(form, _)| form == "cpu") { i128::MAX / 2 } else { LATE };
    // A tick may be late as a wait begins that is counted in these.
    let by_ticks = seen_words.clone().any(|word| matches!((word.0, &word.1[..]), ("after", &[_, slack]) if slack > 0));
    within("elapsed", seen.elapsed, least - EARLY, least + late)
        .map_err(|what| Wrong { what, may_be_noise: by_ticks || seen.elapsed > least })?;
    for ((form, numbers), (_, natively)) in seen_words.zip(native_words) {
        match (form, &numbers[..]) {
            ("after", [_, _]) | ("host", [_]) => {}
            // What is left began to count after the call did, and ended before that; it may be rounded.
            ("left", &[total, left, round]) => within(
                form,
                left,
                total - inside.to_member(seen.elapsed) - EARLY - round,
                total - inside.to_member(least) + EARLY + round,
            )?,
            // Once more than there are whole steps in what is gone, and whenever another is over until it is asked.
            ("count", &[gone, step, count]) => {
                within(form, count, gone / step + 1, (gone + inside.to_member(seen.elapsed)) / step + 2)?;
            }
            // Between the host's before and after, which pass at the rate from an instant between those two on. A
            // coarse clock was last counted up before that.
            ("read", &[clock, ns, unit]) => {
                let clock = usize::try_from(clock).unwrap();
                let lag = if [5, 6].contains(&clock) { TICK * inside.haste() } else { SECOND / 1000 };
                let gained = (inside.haste() - 1) * (run.after.of(1) - run.before.of(1));
                let least = run.before.of(clock) + inside.offset_of(clock) - lag;
                let most = run.after.ceiling_of(clock) + inside.offset_of(clock) + gained + SECOND / 1000;
                within(form, ns, least.div_euclid(unit) * unit, most)?;
            }
            // It goes with the rate, which may be none, and no clock is finer than a nanosecond.
            ("step", &[_, ns]) => {
                let exact = if inside.frozen { 1 } else { inside.to_member(natively[1]).max(1) };
                within(form, ns, exact, exact)?;
            }
            // Rounded in the host's time, and once more in the namespace's.
            ("about", &[set, got, round]) => {
                let off = if round == 0 { 0 } else { round * inside.haste() + 1000 };
                within(form, got, set - off, set + off)?;
            }
            // Both were read in the middle of a tick of the kernel, which can be one of these or less.
            ("ticks", &[distance]) => {
                let off = 3 * inside.haste() + 2;
                let noisy = |what| Wrong { what, may_be_noise: true };
                within(form, distance, natively[0] - off, natively[0] + off).map_err(noisy)?;
            }
            (_, []) => {}
            _ => return Err(format!("{form} with other numbers").into()),
        }
    }
    Ok(())
}

/// What natively has no right to set a clock, as members have none.
const WITHOUT_RIGHTS: &str = "-without-rights";

/// How often cases are made again about which a busy machine may be to blame.
const AGAIN: usize = 3;

/// Something to complain of.
struct Complaint {
    case: String,
    text: String,
    may_be_noise: bool,
}

/// Compares all cases of a run with the native ones.
fn compare(inside: &Inside, run: &Run, natively: &Run) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (case, seen) in &run.cases {
        let unprivileged = natively.cases.get(&format!("{case}{WITHOUT_RIGHTS}")).filter(|_| !inside.settable);
        let natively = unprivileged.or_else(|| natively.cases.get(case));
        let checked = natively.ok_or_else(|| "not made natively".to_owned().into());
        if let Err(Wrong { what, may_be_noise }) = checked.and_then(|natively| check(inside, run, seen, natively)) {
            let text = format!("{:?}: {case}: {what}: {seen:?}", inside.flags);
            complaints.push(Complaint { case: case.clone(), text, may_be_noise });
        }
    }
    complaints
}

/// Compares all cases of a run with the native ones. Those that noise may have spoilt are made again, here and natively, and
/// must then be right.
fn complaints(inside: &Inside, path: &Path, run: &Run, natively: &Run, khz: &str) -> Vec<String> {
    let mut complaints = compare(inside, run, natively);
    for _ in 0..AGAIN {
        let (noisy, others): (Vec<_>, Vec<_>) = complaints.into_iter().partition(|complaint| complaint.may_be_noise);
        complaints = others;
        if noisy.is_empty() {
            break;
        }
        let cases: Vec<String> = noisy.into_iter().map(|complaint| complaint.case).collect();
        println!("again, with {:?}: {}", inside.flags, cases.join(" "));
        let partners = cases.iter().map(|case| format!("{case}{WITHOUT_RIGHTS}"));
        let partners = partners.filter(|partner| natively.cases.contains_key(partner));
        let both: Vec<String> = cases.iter().cloned().chain(partners).collect();
        let natively = observe(Command::new(guest("surface")), khz, NATIVE.wait_ms, &both);
        let run = observe(inside.command(path), khz, inside.wait_ms, &cases);
        assert!(cases.iter().eq(run.cases.keys()), "not all of {cases:?} are made again");
        complaints.extend(compare(inside, &run, &natively));
    }
    complaints.into_iter().map(|complaint| complaint.text).collect()
}

/// Fails if there is something to complain of.
#[track_caller]
fn must_be_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn system_calls_take_their_time_natively() {
    let (natively, khz) = match native() {
        Ok(native) => native,
        Err(reason) => return skip("system_calls_take_their_time_natively", reason),
    };
    must_be_none(&complaints(&NATIVE, &guest("surface"), natively, natively, khz));
    let cases = listed();
    let names: BTreeSet<_> = cases.iter().map(|(_, case)| case).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    assert!(names.difference(&absent().iter().collect()).copied().eq(natively.cases.keys()), "cases are left out");
    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    for (case, seen) in &natively.cases {
        assert!(seen.result != "died" || case.starts_with("vsyscall-"), "{case}: {seen:?}");
        let is_made = seen.is_given_up() || !["hangs", "failed"].contains(&seen.result.as_str());
        assert!(is_made, "{case}: {seen:?}");
        if seen.result == "skip" {
            *skipped.entry(seen.words.join(" ")).or_default() += 1;
        }
    }
    for (reason, cases) in skipped {
        skip(&format!("{cases} cases of system calls"), &reason);
    }
}

#[test]
fn system_calls_are_in_the_time_of_their_namespace() {
    let (natively, khz) = match native() {
        Ok(native) => native,
        Err(reason) => return skip("system_calls_are_in_the_time_of_their_namespace", reason),
    };
    let complaints_of = |inside: &Inside| {
        let path = guest_as("surface", inside.build).unwrap_or_else(|reason| {
            skip(&format!("surface as {:?}", inside.build), &reason);
            guest("surface")
        });
        let run = observe(inside.command(&path), khz, inside.wait_ms, &[]);
        let missing = natively.cases.keys().filter(|case| !run.cases.contains_key(*case));
        let missing = missing.map(|case| format!("{:?}: {case} is missing", inside.flags));
        missing.chain(complaints(inside, &path, &run, natively, khz)).collect::<Vec<_>>()
    };
    // They mostly sleep, so some can run at the same time.
    let mut all = Vec::new();
    for group in INSIDE.chunks(4) {
        thread::scope(|scope| {
            let runs: Vec<_> = group.iter().map(|inside| scope.spawn(move || complaints_of(inside))).collect();
            all.extend(runs.into_iter().flat_map(|run| run.join().unwrap()));
        });
    }
    must_be_none(&all);
}

#[test]
fn a_clock_that_can_be_set_is_not_set_to_nonsense() {
    let test = "a_clock_that_can_be_set_is_not_set_to_nonsense";
    if !is_root() {
        return skip(test, "natively that takes the right to set clocks");
    }
    let (natively, khz) = match native() {
        Ok(native) => native,
        Err(reason) => return skip(test, reason),
    };
    let setting = ["clock_settime", "settimeofday", "adjtimex", "clock_adjtime"];
    let cases =
        listed().into_iter().filter(|(row, case)| setting.contains(&row.as_str()) && !case.ends_with(WITHOUT_RIGHTS));
    let cases: Vec<String> = cases.map(|(_, case)| case).collect();
    let inside = Inside { flags: &["--settable"], ..NATIVE };
    let path = guest("surface");
    let run = observe(inside.command(&path), khz, inside.wait_ms, &cases);
    assert_eq!(run.cases.len(), cases.len());
    must_be_none(&complaints(&inside, &path, &run, natively, khz));
}

/// Rows that have a test of their own: what concerns the mask and the action of SIGSYS, filters of the program, files, and what is refused.
const ELSEWHERE: [&str; 17] = [
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigpending",
    "rt_sigsuspend",
    "io_uring_setup",
    "clone3",
    "prctl",
    "seccomp",
    "stat",
    "fstat",
    "lstat",
    "newfstatat",
    "statx",
    "utime",
    "utimes",
    "futimesat",
    "utimensat",
];

#[test]
fn every_row_of_the_surface_has_a_case() {
    let tested: BTreeSet<String> = listed().into_iter().map(|(row, _)| row).collect();
    let rows = elsewhen_vdso::surface::rows().map(|row| row.name);
    let untested: Vec<_> = rows.filter(|row| !tested.contains(*row) && !ELSEWHERE.contains(row)).collect();
    assert!(untested.is_empty(), "without a case: {untested:?}");
}

#[test]
fn what_cannot_be_translated_is_not_there() {
    for flags in [&["--offset", "1d"], &["--rate", "2"]] {
        let outcome = run_quietly(elsewhen(flags, guest("refused"))).success();
        // ENOSYS, whoever asks.
        assert_eq!(outcome.stdout, "io_uring_setup 38 38\nclone3 38 38\nthread 0\n", "{flags:?}");
    }
}
