//! What can be typed, what is refused, and how the program is stood in for.

use crate::harness::*;
use std::process::{Command, Stdio};

/// Runs `elsewhen` with arguments of its own.
fn elsewhen_itself(arguments: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_elsewhen"));
    command.args(arguments);
    run_quietly(command)
}

#[test]
fn exit_statuses_are_the_programs_own() {
    let shell = |script: &str| {
        let mut command = elsewhen(&[], "sh");
        command.args(["-c", script]);
        run_quietly(command).code()
    };
    for code in [0, 1, 7, 125, 126, 127, 255] {
        assert_eq!(shell(&format!("exit {code}")), code);
    }
    assert_eq!(shell("kill -TERM $$"), 143);
    assert_eq!(shell("kill -KILL $$"), 137);
    assert_eq!(run_quietly(elsewhen(&[], "/nonexistent/program")).code(), 127);
    assert_eq!(run_quietly(elsewhen(&[], "no-such-program-anywhere")).code(), 127);
    assert_eq!(run_quietly(elsewhen(&[], "/etc/passwd")).code(), 126);
    assert_eq!(run_quietly(elsewhen(&[], "/")).code(), 126);
}

#[test]
fn bad_arguments_are_one_line_and_nothing_is_started() {
    let folder = Folder::new("arguments");
    let cases: &[(&[&str], &str)] = &[
        (&["--at", "yesterday-ish"], "expected"),
        (&["--at", "1969-12-31T23:59:59Z"], "1970"),
        (&["--at", "2263-01-01"], "2262"),
        (&["--at", ""], "date"),
        (&["--offset", "5 parsecs"], "duration"),
        (&["--offset", "1,5h"], "."),
        (&["--offset", "mars=1h"], "unknown clock"),
        (&["--offset", "tai=1h"], "tai moves with realtime"),
        (&["--offset", "monotonic=-400d"], "below zero"),
        (&["--offset", "-100y"], "1970"),
        (&["--rate", "0"], "--freeze"),
        (&["--rate", "-1"], "--freeze"),
        (&["--rate", "nan"], "--freeze"),
        (&["--rate", "inf"], "--freeze"),
        (&["--rate", "1001"], "1000"),
        (&["--rate", "boottime=fast"], "rate"),
        (&["--freeze=sundial"], "unknown clock"),
        (&["--at", "@0", "--offset", "1h"], "twice"),
        (&["--rate", "2", "--freeze"], "twice"),
        (&["--offset", "1h", "--offset", "2h"], "twice"),
        (&["--name", "../x"], "name"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--at"], "--at"),
    ];
    for (flags, expected) in cases {
        let mark = folder.at("started");
        let mut command = elsewhen(flags, "touch");
        command.arg(&mark);
        let outcome = run_quietly(command);
        assert_eq!(outcome.code(), 125, "{flags:?}: {}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{flags:?}: {}", outcome.stderr);
        assert!(outcome.stderr.starts_with("elsewhen: ") && outcome.stderr.contains(expected), "{}", outcome.stderr);
        assert!(!mark.exists(), "{flags:?} started the program");
    }
    for arguments in [&["run"][..], &["run", "--"], &["frobnicate"], &["faketime", "i2.0", "true"]] {
        let outcome = elsewhen_itself(arguments);
        assert_eq!((outcome.code(), outcome.stderr.lines().count()), (125, 1), "{arguments:?}: {}", outcome.stderr);
    }
}

#[test]
fn values_that_begin_with_a_sign_are_values() {
    for (flags, seconds) in [
        (&["--offset", "-1.5h"][..], -5400),
        (&["--offset=-2d"], -2 * 86400),
        (&["--offset", "+90"], 90),
        (&["--offset", "realtime=-300s"], -300),
    ] {
        let before = Host::now();
        let outcome = run_quietly(elsewhen(flags, guest("seconds"))).success();
        check_seconds(&format!("{flags:?}"), outcome.stdout.trim(), seconds, &before, &Host::now());
    }
}

#[test]
fn flags_of_the_program_are_its_own() {
    let output = |separator: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_elsewhen"));
        command.args(["run", "--offset", "1h"]).args(separator).args(["echo", "--rate", "x", "--", "-n"]);
        run_quietly(command).success().stdout
    };
    assert_eq!(output(&["--"]), "--rate x -- -n\n");
    assert_eq!(output(&[]), "--rate x -- -n\n");
}

#[test]
fn faketimes_syntax_means_what_it_means_there() {
    let twice = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_elsewhen"));
        command.env("TZ", "UTC").arg("faketime").args(arguments).args([
            "sh",
            "-c",
            "date +%s.%N; sleep 0.2; date +%s.%N",
        ]);
        let output = run_quietly(command).success().stdout;
        let readings: Vec<f64> = output.lines().map(|line| line.parse().unwrap()).collect();
        (readings[0], readings[1] - readings[0])
    };
    let date = 1_608_841_800.0;
    let (start, passed) = twice(&["-f", "2020-12-24 20:30:00"]);
    assert_eq!((start, passed), (date, 0.0), "an absolute date freezes");
    let (start, passed) = twice(&["-f", "@2020-12-24 20:30:00"]);
    assert!((date..date + 60.0).contains(&start) && passed >= 0.2, "{start} {passed}");
    let (start, passed) = twice(&["2020-12-24 20:30:00"]);
    assert!((date..date + 60.0).contains(&start) && passed >= 0.2, "{start} {passed}");
    let (_, passed) = twice(&["-f", "+2d x10"]);
    assert!(passed >= 2.0, "{passed}");
    let (_, passed) = twice(&["-15d"]);
    assert!(passed >= 0.2, "{passed}");
}

#[test]
fn programs_of_32_bits_are_refused_with_the_reason() {
    const TEST: &str = "programs_of_32_bits_are_refused_with_the_reason";
    let program = match guest_as("seconds", Build::Bits32) {
        Ok(program) => program,
        Err(reason) => return skip(TEST, &reason),
    };
    let first = run_quietly(elsewhen(&[], &program));
    assert_eq!((first.code(), first.stdout.as_str()), (126, ""));
    assert!(first.stderr.contains("32-bit") && first.stderr.lines().count() == 1, "{}", first.stderr);
    let mut command = elsewhen(&[], "sh");
    command.arg("-c").arg(format!("{}; echo $?", program.display()));
    let later = run_quietly(command).success();
    assert_eq!(later.stdout, "126\n");
    assert!(later.stderr.contains("cannot enter") && later.stderr.contains("32-bit"), "{}", later.stderr);
}

#[test]
fn standard_streams_are_the_programs() {
    let mut command = elsewhen(&[], "sh");
    command.args(["-c", "tr a-z A-Z; echo err >&2"]).stdin(Stdio::piped());
    let mut started = start(command);
    std::io::Write::write_all(&mut started.stdin(), b"hello\n").unwrap();
    let outcome = started.finish().success();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("HELLO\n", "err\n"));
}

#[test]
fn a_reader_sees_the_end_when_the_program_closes_its_output() {
    // `cat` ends when every writer has closed; the program itself goes on.
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!(
        "{{ {} run -- sh -c 'echo said; exec >&- 2>&-; sleep 5' & }} | cat; echo over",
        env!("CARGO_BIN_EXE_elsewhen")
    ));
    let begun = std::time::Instant::now();
    let mut started = start(command);
    assert_eq!(started.must_say(), "said");
    assert_eq!(started.must_say(), "over");
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    drop(started);
}

#[test]
fn what_a_program_inherits_is_what_it_inherits_outside() {
    let script = "pwd; env | grep -v '^_=' | sort; ls /proc/self/fd | wc -l; grep -E '^Sig(Blk|Ign)' /proc/self/status | tail -c 9; umask; ulimit -n";
    let output = |mut command: Command| {
        command.args(["-c", script]).env("MARK", "kept");
        run_quietly(command).success().stdout
    };
    let (inside, outside) = (output(elsewhen(&["--offset", "1d"], "sh")), output(Command::new("sh")));
    for (inside, outside) in inside.lines().zip(outside.lines()) {
        assert_eq!(inside, outside);
    }
    assert_eq!(inside.lines().count(), outside.lines().count());
}

#[test]
fn the_doctor_knows_this_machine_programs_and_members() {
    let host = elsewhen_itself(&["doctor"]).success().stdout;
    assert!(host.contains("ok       clock reads by the vdso"), "{host}");
    assert!(host.contains("host     waits"), "{host}");
    let program = elsewhen_itself(&["doctor", "sh"]).success().stdout;
    assert!(program.contains("dynamic"), "{program}");
    assert_eq!(elsewhen_itself(&["doctor", "no-such-program-anywhere"]).code(), 126);
    let mut command = elsewhen(&["--offset", "3h", "--freeze", "--name", "a-name"], "sh");
    command.args(["-c", "echo $$; read line"]).stdin(Stdio::piped());
    let mut member = start(command);
    let pid = member.must_say();
    let stdin = member.stdin();
    let found = elsewhen_itself(&["doctor", &pid]).success().stdout;
    assert!(found.contains("in the namespace \"a-name\"") && found.contains("frozen"), "{found}");
    let outside = elsewhen_itself(&["doctor", &std::process::id().to_string()]).success().stdout;
    assert!(outside.contains("not in a namespace"), "{outside}");
    drop(stdin);
    member.finish();
}

#[test]
fn the_manual_and_completions_know_every_flag() {
    let manual = elsewhen_itself(&["man"]).success().stdout;
    let completions = elsewhen_itself(&["completions", "bash"]).success().stdout;
    for flag in ["at", "offset", "rate", "freeze", "name"] {
        assert!(manual.contains(&format!("\\-\\-{flag}")), "{flag} in the manual");
        assert!(completions.contains(&format!("--{flag}")), "{flag} in the completions");
    }
}

#[test]
fn a_namespace_inside_a_namespace_is_refused() {
    let mut command = elsewhen(&["--offset", "1d"], env!("CARGO_BIN_EXE_elsewhen"));
    command.args(["run", "--", "true"]);
    let outcome = run_quietly(command);
    assert_eq!(outcome.code(), 125);
    assert!(outcome.stderr.contains("in a time namespace"), "{}", outcome.stderr);
}
