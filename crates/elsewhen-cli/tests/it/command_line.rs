//! What is typed, what is answered, and what a program finds as it would without `elsewhen`.

use crate::harness::*;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// `elsewhen ARGUMENTS`.
fn typed(arguments: &[&str]) -> Command {
    let mut command = Command::new(ELSEWHEN);
    command.args(arguments).env("TZ", "UTC");
    command
}

/// Runs a script of the shell inside.
fn shell(script: &str) -> Command {
    let mut command = elsewhen(&["--offset", "1d"], "/bin/sh");
    command.args(["-c", script]);
    command
}

/// Fails unless the outcome is one line of ours, with this exit code.
#[track_caller]
fn check_one_line(outcome: &Outcome, code: i32, words: &str) {
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (code, ""), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    assert!(outcome.stderr.starts_with("elsewhen: ") && outcome.stderr.contains(words), "no {words:?} in {outcome:?}");
}

#[test]
fn the_exit_code_is_the_programs() {
    for code in [0, 1, 7, 99, 125, 126, 127, 128, 130, 255] {
        let outcome = run_quietly(shell(&format!("exit {code}")));
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (code, ""));
    }
}

#[test]
fn a_program_ended_by_a_signal_gives_128_and_its_number() {
    for signal in [1, 2, 3, 6, 9, 10, 11, 13, 14, 15, 34, 64] {
        let outcome = run_quietly(shell(&format!("ulimit -c 0; kill -{signal} $$; sleep 100")));
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (128 + signal, ""));
    }
}

#[test]
fn what_cannot_be_run_gives_126_and_what_is_not_there_127() {
    let folder = Folder::new("cannot-run");
    let plain = folder.write("plain", "no program", 0o644);
    for (program, code, words) in [
        ("/nonexistent/program", 127, "/nonexistent/program"),
        ("no-such-program-anywhere", 127, "no-such-program-anywhere"),
        ("", 127, ""),
        ("/", 126, "permission denied"),
        (plain.to_str().unwrap(), 126, "permission denied"),
    ] {
        check_one_line(&run_quietly(elsewhen(&["--offset", "1d"], program)), code, words);
    }
}

#[test]
fn bad_input_gives_125_and_one_line_and_starts_nothing() {
    let folder = Folder::new("bad-input");
    let touched = folder.at("touched");
    let cases: &[(&[&str], &str)] = &[
        (&["--at", "nonsense"], "\"nonsense\""),
        (&["--at", ""], "date"),
        (&["--at", "2030-13-01"], "2030-13-01"),
        (&["--at", "2030-02-30"], "2030-02-30"),
        (&["--at", "2030-01-01 25:00"], "2030-01-01 25:00"),
        (&["--at", "2030-01-01 12:00 Middle/Earth"], "time zone"),
        (&["--at", "1969-12-31T23:59:59Z"], "out of range"),
        (&["--at", "2262-04-11T23:47:17Z"], "out of range"),
        (&["--at", "2300-01-01"], "out of range"),
        (&["--at", "@-1"], "out of range"),
        (&["--at", "@99999999999999999999999999"], "date"),
        (&["--at", "-1d"], "date"),
        (&["--at"], "--at"),
        (&["--offset", "soon"], "duration"),
        (&["--offset", "1,5h"], "duration"),
        (&["--offset", ""], "duration"),
        (&["--offset", "5x"], "unknown unit"),
        (&["--offset", "--1d"], "duration"),
        (&["--offset", "1e5"], "duration"),
        (&["--offset", "nan"], "duration"),
        (&["--offset", "300y"], "out of range"),
        (&["--offset", "0.0000000001s"], "duration"),
        (&["--offset", "-100y"], "1970"),
        (&["--offset", "250y"], "2262"),
        (&["--offset", "wall=5"], "unknown clock \"wall\""),
        (&["--offset", "tai=5"], "realtime"),
        (&["--offset", "=5"], "unknown clock"),
        (&["--offset", "monotonic=-100000d"], "below zero"),
        (&["--offset", "boottime=-100000d"], "below zero"),
        (&["--offset", "monotonic=291y", "--offset", "monotonic=1d"], "twice"),
        (&["--rate", "0"], "--freeze"),
        (&["--rate", "-1"], "1/1000 to 1000"),
        (&["--rate=-0.5"], "1/1000 to 1000"),
        (&["--rate", "nan"], "1/1000 to 1000"),
        (&["--rate", "inf"], "1/1000 to 1000"),
        (&["--rate", "-inf"], "1/1000 to 1000"),
        (&["--rate", "1001"], "1/1000 to 1000"),
        (&["--rate", "0.0001"], "1/1000 to 1000"),
        (&["--rate", "1/0"], "rate"),
        (&["--rate", "fast"], "rate"),
        (&["--rate", "monotonic"], "rate"),
        (&["--rate", "wall=2"], "unknown clock"),
        (&["--freeze=wall"], "unknown clock"),
        (&["--freeze=raw"], "unknown clock"),
        (&["--rate", "10", "--freeze"], "twice"),
        (&["--rate", "10", "--rate", "realtime=5"], "twice"),
        (&["--freeze=all", "--freeze"], "twice"),
        (&["--at", "2030-01-01", "--at", "2031-01-01"], "--at"),
        (&["--at", "2030-01-01", "--offset", "1d"], "twice"),
        (&["--at", "2030-01-01", "--offset", "all=1d"], "twice"),
        (&["--offset", "1d", "--offset", "2d"], "twice"),
        (&["--name", ""], "name"),
        (&["--name", "a/b"], "name"),
        (&["--name", "-a"], "-a"),
        (&["--name", "a name"], "name"),
        (&["--bogus"], "--bogus"),
        (&["-o", "1d"], "-o"),
    ];
    for (flags, words) in cases {
        let mut command = elsewhen(flags, "touch");
        command.arg(&touched);
        check_one_line(&run_quietly(command), 125, words);
        assert!(!touched.exists(), "{flags:?} started the program");
    }
    for arguments in [
        &["run"][..],
        &["run", "--"],
        &["run", "--offset", "1d"],
        &["bogus"],
        &["faketime"],
        &["faketime", "+1d"],
        &["completions"],
        &["completions", "csh"],
        &["doctor", "1", "2"],
        &["--bogus"],
        &[],
    ] {
        check_one_line(&run_quietly(typed(arguments)), 125, "");
    }
    for spec in [
        &["nonsense that is no date"][..],
        &["i2.0"],
        &["-f", "nonsense"],
        &["-f", "+1h30m"],
        &["-f", "2030-01-01 00:00:00 x2"],
        &["-f", ""],
        &["-f", "@1969-01-01 00:00:00"],
    ] {
        let mut command = typed(&["faketime"]);
        command.args(spec).arg("touch").arg(&touched);
        check_one_line(&run_quietly(command), 125, "");
        assert!(!touched.exists(), "{spec:?} started the program");
    }
}

#[test]
fn a_value_may_begin_with_its_sign() {
    let seconds = guest("seconds");
    for (flags, offset_s) in [
        (&["--offset", "-1.5h"][..], -5400),
        (&["--offset=-2d"], -2 * 86400),
        (&["--offset", "+2h45m"], 9900),
        (&["--offset", "realtime=-90"], -90),
        (&["--offset=all=+1d"], 86400),
        (&["--offset", "-P1DT1H"], -90000),
        (&["--offset", "-0"], 0),
        (&["--offset", "-100ms"], 0),
    ] {
        let before = Host::now();
        let outcome = run_quietly(elsewhen(flags, &seconds)).success();
        let shown = format!("{flags:?}");
        if flags[1..] == ["-100ms"] {
            let seconds: i128 = outcome.stdout.trim().parse().unwrap();
            let range = (before.of(0) - SECOND / 10) / SECOND..=(Host::now().of(0) - SECOND / 10) / SECOND;
            assert!(range.contains(&seconds), "{shown}: {seconds} is not in {range:?}");
        } else {
            check_seconds(&shown, &outcome.stdout, offset_s, &before, &Host::now());
        }
    }
}

#[test]
fn flags_behind_the_program_are_the_programs() {
    for arguments in [
        &["run", "echo", "--rate", "5", "-x", "--"][..],
        &["run", "--", "echo", "--rate", "5", "-x", "--"],
        &["run", "--offset", "1d", "echo", "--rate", "5", "-x", "--"],
        &["faketime", "-f", "-1d", "echo", "--rate", "5", "-x", "--"],
    ] {
        assert_eq!(run_quietly(typed(arguments)).success().stdout, "--rate 5 -x --\n", "{arguments:?}");
    }
}

#[test]
fn dates_are_read_in_the_local_zone_or_the_one_named() {
    for (zone, date, seconds) in [
        ("UTC", "2038-01-19T03:14:00Z", 2_147_483_640),
        ("UTC", "2038-01-19 03:14", 2_147_483_640),
        ("UTC", "@2147483640", 2_147_483_640),
        ("UTC", "2030-01-01", 1_893_456_000),
        ("JST-9", "2030-01-01", 1_893_456_000 - 9 * 3600),
        ("JST-9", "2030-01-01T00:00:00Z", 1_893_456_000),
        ("UTC", "2030-01-01 02:00 +02:00", 1_893_456_000),
        ("JST-9", "2030-01-01 00:00 UTC", 1_893_456_000),
    ] {
        let mut command = elsewhen(&["--freeze", "--at", date], guest("seconds"));
        command.env("TZ", zone);
        assert_eq!(run_quietly(command).success().stdout, format!("{seconds}\n"), "{date} in {zone}");
    }
}

#[test]
fn specifications_of_faketime_mean_what_they_mean_to_faketime() {
    let seconds = guest("seconds").to_string_lossy().into_owned();
    let run_spec = |arguments: &[&str]| {
        let mut command = typed(&["faketime"]);
        command.args(arguments).arg(&seconds);
        let before = Host::now();
        let outcome = run_quietly(command).success();
        assert_eq!(outcome.stderr, "", "{arguments:?}");
        (outcome.stdout, before, Host::now())
    };
    for (arguments, offset_s) in [
        (&["-f", "-15d"][..], -15 * 86400),
        (&["-f", "+2d"], 2 * 86400),
        (&["-f", "+90m"], 5400),
        (&["-f", "-120"], -120),
        (&["-m", "-f", "+1,5h"], 5400),
        (&["+15d"], 15 * 86400),
        (&["-f", "+1y"], 365 * 86400),
        (&["--exclude-monotonic", "-f", "+1h"], 3600),
    ] {
        let (printed, before, after) = run_spec(arguments);
        check_seconds(&format!("{arguments:?}"), &printed, offset_s, &before, &after);
    }
    // An absolute date with -f stands still; without, or behind '@', it runs.
    assert_eq!(run_spec(&["-f", "2000-01-01 11:12:13"]).0, "946725133\n");
    for arguments in [&["-f", "@2000-01-01 11:12:13"][..], &["2000-01-01 11:12:13"], &["2000-01-01 11:12:13 UTC"]] {
        let (printed, before, after) = run_spec(arguments);
        let seconds: i128 = printed.trim().parse().unwrap();
        let most = 946_725_133 + (after.of(1) - before.of(1)) / SECOND + 1;
        assert!((946_725_133..=most).contains(&seconds), "{arguments:?}: {seconds}");
    }
    // What GNU date reads.
    let (printed, before, after) = run_spec(&["3 days ago"]);
    check_seconds("3 days ago", &printed, -3 * 86400, &before, &after);
    // A rate drives the clock from there.
    let (printed, before, after) = run_spec(&["-f", "+2d x10"]);
    let seconds: i128 = printed.trim().parse().unwrap();
    let least = before.of(0) / SECOND + 2 * 86400;
    let most = least + 10 * (after.of(1) - before.of(1)) / SECOND + 10;
    assert!((least..=most).contains(&seconds), "{seconds} is not in {least}..={most}");
}

#[test]
fn a_specification_of_faketime_stops_or_drives_the_clock() {
    let clocks = guest("clocks").to_string_lossy().into_owned();
    for (arguments, rate) in [
        (&["-f", "2020-12-24 20:30:00"][..], 0),
        (&["-f", "@2020-12-24 20:30:00"], 1),
        (&["2020-12-24 20:30:00"], 1),
        (&["-15d"], 1),
        (&["-f", "+2d x10"], 10),
        (&["-f", "@2020-12-24 20:30:00 x4"], 4),
    ] {
        let mut command = typed(&["faketime"]);
        command.args(arguments).arg(&clocks);
        let mut asked = Asked::new(command);
        let first = asked.ask();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let second = asked.ask();
        asked.finish().success();
        let counted = reading_of(&second.readings, 0) - reading_of(&first.readings, 0);
        let inner = second.before.of(0) - first.after.of(0);
        let outer = second.after.of(0) - first.before.of(0);
        let range = rate * inner - 1..=rate * outer + 1;
        assert!(range.contains(&counted), "{arguments:?}: counted {counted}, not {range:?}");
    }
}

#[test]
fn the_doctor_examines_the_machine() {
    let outcome = run_quietly(typed(&["doctor"])).success();
    assert!(outcome.stdout.lines().count() > 5 && outcome.stderr.is_empty(), "{outcome:?}");
    for proof in ["ok       clock reads by the vdso: ", "ok       system calls: "] {
        assert!(outcome.stdout.lines().any(|line| line.starts_with(proof)), "{outcome:?}");
    }
    assert!(!outcome.stdout.contains("refused"), "{outcome:?}");
    if cfg!(target_arch = "aarch64") {
        assert!(outcome.stdout.contains("ok       programs: 64-bit (arm64) ones\n"), "{outcome:?}");
        return;
    }
    let runs = guest_as("seconds", Build::Bits32Static).is_ok_and(|path| Command::new(path).output().is_ok());
    let programs = outcome.stdout.lines().find(|line| line.starts_with("ok       programs: 64-bit (x86-64)"));
    assert!(programs.is_some_and(|line| line.contains("no 32-bit (i386)") != runs), "{outcome:?}");
    assert!(programs.is_some_and(|line| line.contains("no x32") != (runs_x32() == Ok(true))), "{outcome:?}");
}

#[test]
fn the_version_says_on_request_what_is_in_the_binary() {
    let short = run_quietly(typed(&["--version"])).success().stdout;
    for flags in [["--version", "--verbose"], ["-v", "-V"]] {
        let long = run_quietly(typed(&flags)).success().stdout;
        let (first, rest) = long.split_at(short.len());
        assert_eq!(first, short);
        let programs = if cfg!(target_arch = "x86_64") { "programs: x86-64, i386, x32\n" } else { "programs: arm64\n" };
        assert!(rest.starts_with(programs), "{long}");
    }
    assert_eq!(run_quietly(typed(&["--verbose"])).code(), 125);
}

#[test]
fn the_doctor_examines_programs() {
    let folder = Folder::new("doctor");
    let dynamic = guest("seconds");
    let bare = guest_as("bare", Build::Bare).unwrap();
    let script = folder.write("script", &format!("#!{}\n", dynamic.display()), 0o755);
    // On arm64 every program is entered in a trace of its start.
    let by_itself = if cfg!(target_arch = "x86_64") { "ok " } else { "limited" };
    for (program, words) in [
        (dynamic.to_str().unwrap(), by_itself),
        (bare.to_str().unwrap(), "limited"),
        (script.to_str().unwrap(), "script"),
        ("sh", by_itself),
    ] {
        let outcome = run_quietly(typed(&["doctor", program])).success();
        let first = outcome.stdout.lines().next().unwrap_or_default();
        assert!(first.contains(words), "{program}: no {words:?} in {outcome:?}");
    }
    let refused = run_quietly(typed(&["doctor", "no-such-program-anywhere"]));
    assert_eq!(refused.code(), 126);
    assert!(refused.stdout.starts_with("refused  no-such-program-anywhere: not found"), "{refused:?}");
    let plain = folder.write("plain", "no program", 0o644);
    assert_eq!(run_quietly(typed(&["doctor", plain.to_str().unwrap()])).code(), 126);
}

#[test]
fn the_doctor_examines_members_and_other_processes() {
    let flags = ["--name", "patient", "--offset", "10d", "--rate", "monotonic=2", "--freeze=boottime"];
    let mut command = elsewhen(&flags, guest("signals"));
    command.stdin(Stdio::piped());
    let mut member = start(command);
    let pid = member.must_say().strip_prefix("ready ").unwrap().to_owned();
    let outcome = run_quietly(typed(&["doctor", &pid])).success();
    for words in [
        format!("process {pid}: in the namespace \"patient\""),
        "realtime: 10d from the host".into(),
        "rate 2".into(),
        "frozen".into(),
    ] {
        assert!(outcome.stdout.contains(&words), "no {words:?} in {outcome:?}");
    }
    assert_eq!(member.finish().code(), 3);
    let outcome = run_quietly(typed(&["doctor", &std::process::id().to_string()])).success();
    assert!(outcome.stdout.starts_with("host ") && outcome.stdout.contains("not in a namespace"), "{outcome:?}");
    // No process has this id: it is above the greatest that Linux gives.
    check_one_line(&run_quietly(typed(&["doctor", "4194305"])), 125, "4194305");
}

#[test]
fn help_manual_and_completions_are_printed() {
    for arguments in [
        &["--help"][..],
        &["-h"],
        &["run", "--help"],
        &["faketime", "--help"],
        &["doctor", "--help"],
        &["help", "run"],
        &["--version"],
        &["man"],
    ] {
        let outcome = run_quietly(typed(arguments)).success();
        assert!(outcome.stdout.contains("elsewhen") && outcome.stderr.is_empty(), "{arguments:?}: {outcome:?}");
    }
    let manual = run_quietly(typed(&["man"])).stdout;
    for flag in ["\\-\\-at", "\\-\\-offset", "\\-\\-rate", "\\-\\-freeze"] {
        assert!(manual.contains(flag), "the manual does not name {flag}");
    }
    for name in ["bash", "zsh", "fish", "elvish"] {
        let outcome = run_quietly(typed(&["completions", name])).success();
        for flag in ["at", "offset", "rate", "freeze", "name"] {
            assert!(outcome.stdout.contains(flag), "{name} does not know {flag}");
        }
    }
    let script = run_quietly(typed(&["completions", "bash"])).stdout;
    let folder = Folder::new("completions");
    let script = folder.write("elsewhen.bash", &script, 0o644);
    if !has("bash") {
        return skip("help_manual_and_completions_are_printed", "there is no bash to read the completions");
    }
    let mut bash = Command::new("bash");
    bash.arg("-n").arg(script);
    run_quietly(bash).success();
}

#[test]
fn output_that_nobody_reads_is_no_failure_worth_a_trace() {
    for arguments in [&["--help"][..], &["man"], &["completions", "bash"], &["doctor", "sh"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = typed(arguments);
        command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!errors.contains("panicked") && errors.lines().count() <= 1, "{arguments:?}: {errors}");
    }
}

#[test]
fn a_program_reads_and_writes_the_callers_streams() {
    let mut command = elsewhen(&["--offset", "1d"], "cat");
    command.stdin(Stdio::piped());
    let mut cat = start(command);
    let mut stdin = cat.stdin();
    let text: String = (0..100_000).map(|line| format!("line {line}\n")).collect();
    let sent = text.clone();
    let writer = std::thread::spawn(move || stdin.write_all(sent.as_bytes()).unwrap());
    let outcome = cat.finish().success();
    writer.join().unwrap();
    assert!(outcome.stdout == text, "{} bytes of {}", outcome.stdout.len(), text.len());
    let outcome = run_quietly(shell("echo to stdout; echo to stderr >&2"));
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("to stdout\n", "to stderr\n"));
}

#[test]
fn a_stream_ends_when_the_program_closes_it() {
    // Its output: the reader sees the end while the program still runs.
    let mut command = shell("echo first; exec >&-; read line; exit 4");
    command.stdin(Stdio::piped());
    let mut program = start(command);
    assert_eq!(program.must_say(), "first");
    assert_eq!(program.line(), None);
    assert!(!program.has_ended());
    assert_eq!(program.finish().code(), 4);
    // Its input: the writer hears that nobody reads.
    let mut command = shell("exec <&-; echo closed; exec sleep 1000");
    command.stdin(Stdio::piped());
    let mut program = start(command);
    let mut stdin = program.stdin();
    assert_eq!(program.must_say(), "closed");
    // The processes of elsewhen let go of it when they have seen the program start, which may be a little later.
    until("nobody is left to read", || match stdin.write_all(b"?") {
        Ok(()) => false,
        Err(error) => error.kind() == std::io::ErrorKind::BrokenPipe,
    });
    program.signal(rustix::process::Signal::TERM);
    assert_eq!(program.finish().code(), 143);
}

#[test]
fn a_pipe_handed_on_ends_when_the_program_closes_it() {
    // Descriptors beyond the standard streams are not held open by elsewhen either.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new("/bin/sh");
    let inner = "exec 7>&1 1>&2; exec \"$0\" run --offset 1d -- sh -c 'echo through >&7; exec 7>&-; read line; exit 4'";
    command.args(["-c", inner, ELSEWHEN]).stdin(Stdio::piped()).stdout(writer).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(command);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = reader.read_to_string(&mut text).map(|_| text);
        let _ = sender.send(read);
    });
    let text = receiver.recv_timeout(PATIENCE);
    let running = child.try_wait().unwrap().is_none();
    drop(child.stdin.take());
    let status = child.wait().unwrap();
    assert_eq!(text.expect("the pipe ends").unwrap(), "through\n");
    assert!(running, "the pipe ended with the program only");
    assert_eq!(status.code(), Some(4));
}

/// What the state guest prints when it is started by `command`, which gets its path and arguments behind it.
fn state(command: Command, folder: &Path) -> Vec<String> {
    let mut command = command;
    command.arg(guest("state")).args(["", "an argument", "--flag"]).current_dir(folder);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("EMPTY", "").env("A", "b=c\nd");
    run_quietly(command).success().stdout.lines().map(without_internal_signals).collect()
}

/// Fails where a program inherits something else than outside, but for what an unprivileged user must give up.
#[track_caller]
fn check_same_state(inside: &[String], native: &[String]) {
    for (inside, native) in inside.iter().zip(native) {
        match native.as_str() {
            "NoNewPrivs:\t0" if !is_root() => assert_eq!(inside, "NoNewPrivs:\t1"),
            native => match native.strip_prefix("SigCgt:\t").map(|mask| u64::from_str_radix(mask, 16)) {
                // Members always handle SIGSYS.
                Some(Ok(mask)) => assert_eq!(*inside, format!("SigCgt:\t{:016x}", mask | 1 << (31 - 1))),
                _ => assert_eq!(inside, native),
            },
        }
    }
    assert_eq!(inside.len(), native.len(), "{inside:?}");
}

/// A line of the state guest, without the two signals that the C library keeps for itself: whether those are ignored
/// depends on how it started the program.
fn without_internal_signals(line: &str) -> String {
    const INTERNAL: u64 = 1 << (32 - 1) | 1 << (33 - 1);
    match line.strip_prefix("SigIgn:\t").and_then(|mask| u64::from_str_radix(mask, 16).ok()) {
        Some(mask) => format!("SigIgn:\t{:016x}", mask & !INTERNAL),
        None => line.to_owned(),
    }
}

#[test]
fn a_program_inherits_what_it_inherits_outside() {
    let folder = Folder::new("inherits");
    let (mut native, mut inside) = (Command::new("env"), Command::new(ELSEWHEN));
    native.arg("--");
    inside.args(["run", "--offset", "1d", "--"]);
    check_same_state(&state(inside, folder.path()), &state(native, folder.path()));
}

#[test]
fn a_program_inherits_masks_dispositions_descriptors_and_limits() {
    let folder = Folder::new("prepared");
    let (mut native, mut inside) = (Command::new(guest("prepare")), Command::new(guest("prepare")));
    native.args(["env", "--"]);
    inside.args([ELSEWHEN, "run", "--offset", "1d", "--"]);
    let (native, inside) = (state(native, folder.path()), state(inside, folder.path()));
    let is_set = |line: &&String| line.starts_with("SigBlk:") && !line.ends_with("\t0000000000000000");
    assert!(native.iter().any(|line| is_set(&line)), "{native:?}");
    check_same_state(&inside, &native);
}

#[test]
fn a_caller_that_ignores_the_end_of_children_gets_the_exit_code() {
    let mut command = Command::new(guest("prepare"));
    command.args(["--ignore-children", ELSEWHEN, "run", "--offset", "1d", "--", "/bin/sh", "-c", "exit 7"]);
    let outcome = run_quietly(command);
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (7, ""));
}

#[test]
fn a_program_whose_reader_has_gone_is_ended_by_sigpipe() {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "{ \"$0\" run --offset 1d -- yes; echo $? >&2; } | head -n 1", ELSEWHEN]);
    let outcome = run_quietly(command).success();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("y\n", "141\n"));
}

#[test]
fn a_name_is_seen_by_the_doctor_only() {
    let folder = Folder::new("name");
    let script = format!("env > {}", folder.at("environment").display());
    let mut command = elsewhen(&["--name", "secret-name"], "/bin/sh");
    command.args(["-c", &script]);
    run_quietly(command).success();
    assert!(!fs::read_to_string(folder.at("environment")).unwrap().contains("secret-name"));
}

#[test]
fn what_does_not_follow_a_moved_boottime_is_told() {
    for (flags, told) in [
        (&["--offset", "boottime=1h"][..], true),
        (&["--offset", "all=1h"], true),
        (&["--rate", "boottime=2"], true),
        (&["--freeze=boottime"], true),
        (&["--offset", "boottime=1h", "--quiet"], false),
        (&["--offset", "1h", "--offset", "monotonic=1h"], false),
        (&["--rate", "2"], false),
    ] {
        let outcome = run(typed(&[&["run"], flags, &["--", "true"]].concat())).success();
        assert_eq!(outcome.stderr.contains("/proc/uptime"), told, "{flags:?}: {outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), usize::from(told), "{flags:?}: {outcome:?}");
    }
}
