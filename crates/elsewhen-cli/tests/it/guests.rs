//! Every kind of program reads its namespace's clocks.

use crate::harness::*;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

const BUILDS: [Build; 9] = [
    Build::Dynamic,
    Build::NoPie,
    Build::Static,
    Build::StaticPie,
    Build::MuslStatic,
    Build::MuslDynamic,
    Build::Bits32,
    Build::Bits32Static,
    Build::Bits32Time64,
];

/// Calls `each` with the path of the clocks guest in every build that can be had.
fn with_every_build(test: &str, each: impl Fn(&str, &PathBuf)) {
    let of_x32 = if runs_x32() == Ok(true) { &[Build::X32, Build::X32Static][..] } else { &[] };
    for build in BUILDS.iter().chain(of_x32).copied() {
        match guest_as("clocks", build) {
            Ok(path) => each(&format!("{build:?}"), &path),
            Err(reason) if build == Build::Dynamic => panic!("the clocks guest cannot be built: {reason}"),
            Err(reason) => skip(&format!("{test} ({build:?})"), &reason),
        }
    }
}

/// Runs the clocks guest in every build with `flags`, and compares.
#[track_caller]
fn check_shift(test: &str, flags: &[&str], shift: Shift) {
    with_every_build(test, |shown, path| {
        let before = Host::now();
        let outcome = run_quietly(elsewhen(flags, path)).success();
        shift.check(shown, &readings(&outcome.stdout), &before, &Host::now());
        assert_eq!(outcome.stderr, "", "{shown}");
    });
}

#[test]
fn an_offset_moves_realtime_alone() {
    check_shift("an_offset_moves_realtime_alone", &["--offset", "400d"], Shift::realtime(400 * DAY));
}

#[test]
fn a_negative_offset_moves_realtime_back() {
    check_shift("a_negative_offset_moves_realtime_back", &["--offset", "-1000d"], Shift::realtime(-1000 * DAY));
}

#[test]
fn every_family_has_an_offset_of_its_own() {
    let flags = ["--offset", "monotonic=5h", "--offset", "boottime=7h", "--offset", "realtime=-3s"];
    let shift = Shift { realtime: -3 * SECOND, monotonic: 5 * HOUR, boottime: 7 * HOUR };
    check_shift("every_family_has_an_offset_of_its_own", &flags, shift);
    let shift = Shift { realtime: 0, ..shift };
    check_shift("every_family_has_an_offset_of_its_own", &flags[..4], shift);
}

#[test]
fn all_families_move_together() {
    let shift = Shift { realtime: HOUR, monotonic: HOUR, boottime: HOUR };
    check_shift("all_families_move_together", &["--offset", "all=1h"], shift);
}

#[test]
fn a_namespace_in_which_nothing_was_asked_for_is_the_host() {
    check_shift("a_namespace_in_which_nothing_was_asked_for_is_the_host", &[], Shift::default());
}

/// How far a coarse clock may lie behind its fine one: a tick of the slowest kernel.
const TICK: i128 = 10_000_000;

#[test]
fn a_date_is_where_realtime_starts() {
    const AT: i128 = 2_147_483_640 * SECOND;
    with_every_build("a_date_is_where_realtime_starts", |shown, path| {
        let before = Host::now();
        let outcome = run_quietly(elsewhen(&["--at", "2038-01-19T03:14:00Z"], path)).success();
        let after = Host::now();
        let (moved, left): (Vec<_>, Vec<_>) =
            readings(&outcome.stdout).into_iter().partition(|reading| [0, 5, 8, 11].contains(&reading.clock));
        Shift::default().check(shown, &left, &before, &after);
        assert!(moved.len() >= 5, "{shown}: {outcome:?}");
        for Reading { clock, resolution_ns, ns } in moved {
            let start = AT + if clock == 11 { before.of(11) - before.of(0) } else { 0 };
            let lag = if clock == 5 { TICK } else { 0 } + if clock == 11 { SECOND / 1000 } else { 0 };
            let range = (start - lag).div_euclid(resolution_ns) * resolution_ns
                ..=start + after.of(1) - before.of(1) + SECOND / 1000;
            assert!(range.contains(&ns), "{shown}: clock {clock} at {resolution_ns} ns: {ns} is not in {range:?}");
        }
    });
}

#[test]
fn stopped_clocks_read_the_same_for_ever() {
    with_every_build("stopped_clocks_read_the_same_for_ever", |shown, path| {
        let before = Host::now();
        let mut guest = Asked::new(elsewhen(&["--freeze=all"], path));
        let first = guest.ask();
        sleep(Duration::from_millis(30));
        let second = guest.ask();
        guest.finish().success();
        Shift::default().check(shown, &first.readings, &before, &first.after);
        assert_eq!(first.readings, second.readings, "{shown}");
    });
}

#[test]
fn a_freeze_without_a_clock_stops_realtime_alone() {
    let before = Host::now();
    let mut guest = Asked::new(elsewhen(&["--freeze"], guest("clocks")));
    let first = guest.ask();
    sleep(Duration::from_millis(30));
    let second = guest.ask();
    guest.finish().success();
    Shift::default().check("the first answer", &first.readings, &before, &first.after);
    let left = |answer: &Answer| -> Vec<Reading> {
        answer.readings.iter().copied().filter(|reading| ![0, 5, 8, 11].contains(&reading.clock)).collect()
    };
    Shift::default().check("the second answer", &left(&second), &second.before, &second.after);
    assert_eq!(reading_of(&first.readings, 0), reading_of(&second.readings, 0));
}

#[test]
fn a_stopped_date_is_read_exactly() {
    with_every_build("a_stopped_date_is_read_exactly", |shown, path| {
        let flags = ["--at", "2038-01-19T03:14:07.25Z", "--freeze"];
        let outcome = run_quietly(elsewhen(&flags, path)).success();
        for reading in readings(&outcome.stdout).iter().filter(|reading| [0, 5, 8].contains(&reading.clock)) {
            let exact = 2_147_483_647 * SECOND + SECOND / 4;
            assert_eq!(reading.ns, exact / reading.resolution_ns * reading.resolution_ns, "{shown}: {reading:?}");
        }
    });
}

/// Fails unless between two answers every clock counted `rate.0 / rate.1` times what the host's did.
#[track_caller]
fn check_rate(shown: &str, rate: (i128, i128), first: &Answer, second: &Answer, with: impl Fn(usize) -> bool) {
    assert_eq!(first.readings.len(), second.readings.len(), "{shown}");
    for (one, two) in first.readings.iter().zip(&second.readings).filter(|(one, _)| with(one.clock)) {
        let clock = one.clock;
        let inner = second.before.of(clock) - first.after.ceiling_of(clock);
        let outer = second.after.ceiling_of(clock) - first.before.of(clock);
        let counted = two.ns - one.ns;
        // Both readings were rounded down, to their resolution and to a nanosecond.
        let round = one.resolution_ns + 1;
        let range = inner * rate.0 / rate.1 - round..=outer * rate.0 / rate.1 + round;
        assert!(range.contains(&counted), "{shown}: {one:?} then {two:?}: counted {counted}, not {range:?}");
    }
}

#[test]
fn a_rate_drives_every_clock() {
    with_every_build("a_rate_drives_every_clock", |shown, path| {
        for (flag, rate) in [("10", (10, 1)), ("0.25", (1, 4)), ("1000", (1000, 1)), ("1/1000", (1, 1000))] {
            let before = Host::now();
            let mut guest = Asked::new(elsewhen(&["--rate", flag], path));
            let first = guest.ask();
            sleep(Duration::from_millis(60));
            let second = guest.ask();
            guest.finish().success();
            check_rate(&format!("{shown} at rate {flag}"), rate, &first, &second, |_| true);
            // It started at the host's time, and no later than the first answer.
            for reading in first.readings.iter().filter(|reading| reading.resolution_ns == 1) {
                let (start, end) = (before.of(reading.clock), first.after.ceiling_of(reading.clock));
                let most = start + (end - start) * rate.0.max(rate.1) / rate.1;
                // A coarse clock lags by as much as the host's does, in time of the namespace.
                let lag = if [5, 6].contains(&reading.clock) { TICK * rate.0 / rate.1 } else { 0 };
                let start = start - lag;
                assert!((start..=most).contains(&reading.ns), "{shown} at rate {flag}: {reading:?}: {start}..={most}");
            }
        }
    });
}

#[test]
fn a_rate_can_be_for_one_family() {
    let mut guest = Asked::new(elsewhen(&["--rate", "realtime=20"], guest("clocks")));
    let first = guest.ask();
    sleep(Duration::from_millis(50));
    let second = guest.ask();
    guest.finish().success();
    let moved = |clock: usize| [0, 5, 8, 11].contains(&clock);
    check_rate("realtime", (20, 1), &first, &second, moved);
    check_rate("the others", (1, 1), &first, &second, |clock| !moved(clock));
}

#[test]
fn what_is_no_clock_of_a_namespace_is_as_natively() {
    let law = |output: &str| -> Vec<String> {
        let kept = |line: &&str| {
            ["error ", "null ", "resolution 2 ", "resolution 3 ", "resolution 99 "]
                .iter()
                .any(|start| line.starts_with(start))
        };
        output.lines().filter(kept).map(str::to_owned).collect()
    };
    with_every_build("what_is_no_clock_of_a_namespace_is_as_natively", |shown, path| {
        let mut native = Command::new(path);
        native.arg("unusual");
        let native = law(&run_quietly(native).success().stdout);
        assert!(native.iter().any(|line| line == "error gettime 99 -1 22"), "{native:?}");
        for flags in [&["--offset", "400d"][..], &["--offset", "all=1h", "--rate", "10"], &["--freeze=all"]] {
            let mut inside = elsewhen(flags, path);
            inside.arg("unusual");
            let inside = run_quietly(inside).success().stdout;
            assert_eq!(law(&inside), native, "{shown} with {flags:?}");
            // Its own processor time, in three ways: some, but less than it could have used.
            let used: Vec<i64> = inside
                .lines()
                .filter_map(|line| {
                    line.strip_prefix("2 1 ").or(line.strip_prefix("3 1 ")).or(line.strip_prefix("-6 1 "))
                })
                .map(|ns| ns.parse().unwrap())
                .collect();
            assert_eq!(used.len(), 3, "{shown}: {inside}");
            assert!(used.iter().all(|ns| (1..60_000_000_000).contains(ns)), "{shown}: {used:?}");
        }
    });
}

#[test]
fn the_resolution_of_a_clock_goes_with_its_rate() {
    let resolutions = |command: Command| -> Vec<[i64; 2]> {
        let mut command = command;
        command.arg("unusual");
        let output = run_quietly(command).success().stdout;
        let lines = output.lines().filter_map(|line| line.strip_prefix("resolution "));
        lines
            .map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect::<Vec<i64>>())
            // Neither processor time nor a clock that does not exist.
            .filter(|line| ![2, 3, 99].contains(&line[0]))
            .map(|line| [line[0], line[3] * 1_000_000_000 + line[4]])
            .collect()
    };
    let path = guest("clocks");
    let native = resolutions(Command::new(&path));
    assert_eq!(native.len(), 7, "{native:?}");
    assert_eq!(resolutions(elsewhen(&["--offset", "all=1h"], &path)), native);
    let tenfold: Vec<_> = native.iter().map(|[clock, ns]| [*clock, 10 * ns]).collect();
    assert_eq!(resolutions(elsewhen(&["--rate", "10"], &path)), tenfold);
    let slow: Vec<_> = native.iter().map(|[clock, ns]| [*clock, (ns / 4).max(1)]).collect();
    assert_eq!(resolutions(elsewhen(&["--rate", "1/4"], &path)), slow);
}

/// Runs a program of another language with offsets of every family, and with a date.
#[track_caller]
fn check_language(test: &str, program: &str, arguments: &[&str]) {
    if !has(program) && !program.contains('/') {
        return skip(test, &format!("there is no {program}"));
    }
    let inside = |flags: &[&str]| {
        let mut command = elsewhen(flags, program);
        command.args(arguments);
        let before = Host::now();
        let outcome = run_quietly(command).success();
        (readings(&outcome.stdout), before, Host::now())
    };
    let (read, before, after) = inside(&["--offset", "400d"]);
    Shift::realtime(400 * DAY).check(program, &read, &before, &after);
    let (read, before, after) = inside(&["--offset=-2d", "--offset", "monotonic=5h", "--offset", "boottime=7h"]);
    Shift { realtime: -2 * DAY, monotonic: 5 * HOUR, boottime: 7 * HOUR }.check(program, &read, &before, &after);
    let (read, before, after) = inside(&["--at", "@4102444800", "--rate", "realtime=10"]);
    let range = 4_102_444_800 * SECOND..=4_102_444_800 * SECOND + 10 * (after.of(1) - before.of(1));
    let realtime = reading_of(&read, 0);
    assert!(range.contains(&realtime), "{program}: {realtime} is not in {range:?}");
}

/// A guest's source as an argument.
fn source(name: &str) -> String {
    sources().join(name).to_string_lossy().into_owned()
}

#[track_caller]
fn check_go(test: &str, architecture: &str) {
    let built = make_once(&format!("clocks-go-{architecture}"), |to| {
        let mut command = Command::new("go");
        command.args(["build", "-o"]).arg(to).arg(source("clocks.go"));
        command.env("GO111MODULE", "off").env("GOARCH", architecture);
        command
    });
    match built {
        Ok(path) => check_language(test, &path.to_string_lossy(), &[]),
        Err(reason) => skip(test, &reason),
    }
}

#[test]
fn go_programs_are_in_time() {
    check_go("go_programs_are_in_time", GO);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn go_programs_of_32_bits_are_in_time() {
    check_go("go_programs_of_32_bits_are_in_time", "386");
}

#[test]
fn rust_programs_are_in_time() {
    let built = make_once("clocks-rs", |to| {
        let mut command = Command::new("rustc");
        command.args(["--edition=2021", "-O", "--crate-name=clocks", "-o"]).arg(to).arg(source("clocks.rs"));
        command
    });
    match built {
        Ok(path) => check_language("rust_programs_are_in_time", &path.to_string_lossy(), &[]),
        Err(reason) => skip("rust_programs_are_in_time", &reason),
    }
}

#[test]
fn java_programs_are_in_time() {
    let built = make_once("java-classes", |to| {
        let mut command = Command::new("javac");
        command.arg("-d").arg(to).arg(source("Clocks.java"));
        command
    });
    match built {
        Ok(path) => check_language("java_programs_are_in_time", "java", &["-cp", &path.to_string_lossy(), "Clocks"]),
        Err(reason) => skip("java_programs_are_in_time", &reason),
    }
}

#[test]
fn node_programs_are_in_time() {
    check_language("node_programs_are_in_time", "node", &[&source("clocks.js")]);
}

#[test]
fn python_programs_are_in_time() {
    check_language("python_programs_are_in_time", "python3", &[&source("clocks.py")]);
}

#[test]
fn a_program_without_libc_and_thread_local_storage_is_in_time() {
    let bare = guest_as("bare", Build::Bare).unwrap();
    for (flags, offset_s) in [(&["--offset", "400d"][..], 400 * 86400), (&["--offset=-1000d"], -1000 * 86400), (&[], 0)]
    {
        let before = Host::now();
        let outcome = run_quietly(elsewhen(flags, &bare)).success();
        check_seconds("bare", &outcome.stdout, offset_s, &before, &Host::now());
    }
    let outcome = run_quietly(elsewhen(&["--at", "@4000000000", "--freeze"], &bare)).success();
    assert_eq!(outcome.stdout, "4000000000\n");
}

#[test]
fn threads_never_see_a_clock_go_back() {
    for flags in
        [&["--offset", "all=1h"][..], &["--rate", "10"], &["--rate", "1/3"], &["--rate", "999.9"], &["--freeze=all"]]
    {
        let mut command = elsewhen(flags, guest("forwards"));
        command.arg("2").stdin(Stdio::piped());
        let mut readers = start(command);
        assert_eq!(readers.must_say(), "reading");
        sleep(Duration::from_millis(700));
        let outcome = readers.finish().success();
        check_forwards(&format!("{flags:?}"), &outcome.stdout);
    }
}

/// Fails if a `forwards` guest saw a clock go back, or read none.
#[track_caller]
pub(crate) fn check_forwards(shown: &str, output: &str) {
    let lines: Vec<Vec<i64>> =
        output.lines().skip(1).map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect()).collect();
    assert_eq!(lines.len(), 4, "{shown}: {output}");
    for line in lines {
        assert!(line[1] > 100, "{shown}: clock {} was read {} times", line[0], line[1]);
        assert_eq!(
            line[2], 0,
            "{shown}: clock {} went back in {} of {} readings, first by {} ns",
            line[0], line[2], line[1], line[3]
        );
    }
}
