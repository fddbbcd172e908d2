//! Calls of the 32-bit interface, one by one: what they return and write is what they return and write natively, in the
//! namespace's time.

use crate::harness::*;
use std::process::Command;
use std::time::Duration;

/// How long one run of the guest may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Where every call is made; then, what a namespace does change there: lines that begin so.
const PLACES: [(&[&str], &[&str]); 6] = [
    (&["--adjustable"], &[]),
    (&["--offset", "1d", "--offset", "monotonic=1h", "--offset", "boottime=3h"], FILE_TIMES),
    (&["--rate", "2"], RESOLUTIONS),
    (&["--rate", "0.5"], &[]),
    (&["--offset", "-20d", "--files", "follow"], &[]),
    (&["--settable", "--offset", "1d"], FILE_TIMES),
];
/// Files do not follow unless asked to.
const FILE_TIMES: &[&str] = &["stat", "utimensat 0"];
/// A clock that is faster ticks more coarsely.
const RESOLUTIONS: &[&str] = &["clock_getres"];

fn run_calls(mut command: Command, folder: &Folder, changed: &[&str]) -> Vec<String> {
    command.env("CALLS32_FILE", folder.at("file"));
    let outcome = start_for(command, LIMIT).finish().success();
    let lines = outcome.stdout.lines().filter(|line| !changed.iter().any(|start| line.starts_with(start)));
    lines.map(str::to_owned).collect()
}

#[test]
fn every_call_of_the_32_bit_interface_does_what_it_does_natively() {
    const TEST: &str = "every_call_of_the_32_bit_interface_does_what_it_does_natively";
    let path = match guest_as("calls32", Build::Bits32) {
        Ok(path) => path,
        Err(reason) => return skip(TEST, &reason),
    };
    let folder = Folder::new("calls32");
    for (flags, changed) in PLACES {
        // A busy machine can make a wait too long, never too short; what stays different is wrong.
        let mut seen = Vec::new();
        let same = (0..3).any(|_| {
            let native = run_calls(Command::new(&path), &folder, changed);
            assert_eq!(native.last().map(String::as_str), Some("end"));
            seen = native.into_iter().zip(run_calls(elsewhen(flags, &path), &folder, changed)).collect();
            seen.iter().all(|(one, other)| one == other)
        });
        let wrong: Vec<_> = seen.iter().filter(|(one, other)| one != other).collect();
        assert!(same, "with {flags:?}, natively and inside: {wrong:#?}");
    }
}

#[test]
fn members_set_their_clock_by_the_32_bit_interface() {
    const TEST: &str = "members_set_their_clock_by_the_32_bit_interface";
    let path = match guest_as("calls32", Build::Bits32) {
        Ok(path) => path,
        Err(reason) => return skip(TEST, &reason),
    };
    let setting = |flags: &[&str]| {
        let mut command = elsewhen(flags, &path);
        command.arg("sets");
        run_quietly(command).success().stdout
    };
    let calls = ["clock_settime 0", "clock_settime64 0", "settimeofday 0", "stime 0", "adjtimex 1"];
    assert_eq!(setting(&["--settable"]), calls.map(|call| format!("{call}\nset\n")).concat());
    let refused = ["clock_settime -1", "clock_settime64 -1", "settimeofday -1", "stime -1", "adjtimex 0"];
    assert_eq!(setting(&["--offset", "1d"]), refused.map(|call| format!("{call}\nnot set\n")).concat());
}

#[test]
fn a_32_bit_program_may_confine_itself() {
    const TEST: &str = "a_32_bit_program_may_confine_itself";
    let path = match guest_as("calls32", Build::Bits32) {
        Ok(path) => path,
        Err(reason) => return skip(TEST, &reason),
    };
    let filters = |mut command: Command| {
        command.arg("filters");
        let outcome = run_quietly(command);
        assert!(outcome.status.success(), "{outcome:?}");
        outcome
    };
    let native = filters(Command::new(&path));
    assert!(native.stdout.contains("trapped 4711 refused -77\n"), "{native:?}");
    let inside = filters(elsewhen(&["--offset", "1d"], &path));
    // A filter under which no handler returns is refused, and that is said.
    let refused = native.stdout.replace("own architecture alone 0", "own architecture alone -1");
    assert_ne!(refused, native.stdout);
    assert_eq!(inside.stdout, refused);
    assert!(inside.stderr.contains("may not load its seccomp filter"), "{inside:?}");
}
