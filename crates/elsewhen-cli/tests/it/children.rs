//! Everything that a program starts is in its time, however it is started.

use crate::harness::*;
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

const OFFSET: [&str; 2] = ["--offset", "1000d"];
const OFFSET_S: i64 = 1000 * 86400;

/// Runs a command that is inside, and fails unless it succeeds and every line of its output begins with the seconds
/// of the namespace. Returns what stands behind them.
#[track_caller]
fn check_lines(shown: &str, command: Command) -> Vec<String> {
    let before = Host::now();
    let outcome = run_quietly(command);
    let after = Host::now();
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""), "{shown}: {outcome:?}");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(!lines.is_empty(), "{shown} printed nothing");
    lines
        .into_iter()
        .map(|line| {
            check_seconds(shown, line, OFFSET_S, &before, &after);
            line.split_once(' ').map_or(String::new(), |(_, rest)| rest.to_owned())
        })
        .collect()
}

/// `elsewhen run --offset 1000d -- PROGRAM ARGUMENTS`.
fn inside(program: impl AsRef<Path>, arguments: &[&str]) -> Command {
    let mut command = elsewhen(&OFFSET, program.as_ref());
    command.args(arguments);
    command
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The seconds guest, in every build that differs in how it is entered.
fn targets() -> Vec<(String, PathBuf)> {
    let mut targets =
        vec![("bare".to_owned(), guest_as("bare", Build::Bare).unwrap()), ("dynamic".to_owned(), guest("seconds"))];
    for build in
        [Build::NoPie, Build::Static, Build::MuslStatic, Build::MuslDynamic, Build::Bits32, Build::Bits32Static]
    {
        match guest_as("seconds", build) {
            Ok(path) => targets.push((format!("{build:?}"), path)),
            Err(reason) => skip(&format!("children of build {build:?}"), &reason),
        }
    }
    match guest_as("bits32", Build::Bits32Bare) {
        Ok(path) => targets.push(("32-bit bare".to_owned(), path)),
        Err(reason) => skip("children without a C library of build Bits32Bare", &reason),
    }
    if runs_x32() == Ok(true) {
        let builds = [Build::X32, Build::X32Static].map(|build| (format!("{build:?}"), guest_as("seconds", build)));
        targets.extend(builds.into_iter().map(|(shown, path)| (shown, path.unwrap())));
    }
    targets
}

/// Starts every kind of target in these ways, and compares with what the same gives outside.
#[track_caller]
fn check_ways(ways: &[&str]) {
    let starter = guest("starter");
    for (kind, target) in targets() {
        for way in ways {
            let shown = format!("{way} of a {kind} program");
            let mut native = Command::new(&starter);
            native.args([way, text(&target), "one", "two"]);
            let native = run_quietly(native).success();
            let behind = native.stdout.trim_end().split_once(' ').map_or("", |(_, rest)| rest);
            let lines = check_lines(&shown, inside(&starter, &[way, text(&target), "one", "two"]));
            assert_eq!(lines, [behind], "{shown}");
        }
    }
}

#[test]
fn a_child_of_fork_is_in_time() {
    check_ways(&["fork", "execve"]);
}

#[test]
fn a_child_of_vfork_and_posix_spawn_is_in_time() {
    check_ways(&["vfork", "posix_spawn"]);
}

#[test]
fn a_child_of_clone3_is_in_time() {
    check_ways(&["clone3", "clone3-vfork"]);
}

#[test]
fn a_program_executed_by_a_descriptor_is_in_time() {
    check_ways(&["execveat", "execveat-memfd", "execveat-folder", "execveat-path", "fexecve", "proc-fd"]);
}

#[test]
fn a_program_executed_by_a_thread_is_in_time() {
    check_ways(&["thread"]);
}

#[test]
fn a_program_without_environment_or_arguments_is_in_time() {
    check_ways(&["no-environment", "null-environment", "empty-name", "no-arguments"]);
}

#[test]
fn an_execution_after_one_that_failed_is_in_time() {
    check_ways(&["twice"]);
}

#[test]
fn one_of_seven_threads_that_execute_at_once_wins() {
    let starter = guest("starter");
    for (kind, target) in targets() {
        for round in 0..20 {
            let shown = format!("{kind}, round {round}");
            let lines = check_lines(&shown, inside(&starter, &["seven-threads", text(&target), "one"]));
            assert_eq!(lines.len(), 1, "{shown}");
        }
    }
}

#[test]
fn an_execution_that_fails_gives_the_error_that_it_gives_outside() {
    let (folder, starter) = (Folder::new("failing"), guest("starter"));
    let seconds = guest("seconds");
    let elf = fs::read(&seconds).unwrap();
    folder.write("plain", "no program", 0o644);
    folder.write("garbage", "\u{1}\u{2}neither ELF nor script", 0o755);
    folder.write("empty", "", 0o755);
    folder.write("script", "#!/nonexistent/interpreter\n", 0o755);
    folder.write("blank", "#!\n", 0o755);
    folder.write("script-of-plain", &format!("#!{}\n", folder.at("plain").display()), 0o755);
    for (name, length) in [("header", 64), ("half-header", 20), ("magic", 4)] {
        fs::write(folder.at(name), &elf[..length]).unwrap();
        folder.copy(folder.at(name), &format!("elf-{name}"), 0o755);
    }
    symlink(folder.at("loop"), folder.at("loop")).unwrap();
    symlink("/nonexistent/target", folder.at("dangling")).unwrap();
    fs::create_dir(folder.at("folder")).unwrap();
    let mut recursive = folder.at("script");
    for depth in 0..8 {
        let name = format!("nested-{depth}");
        recursive = folder.write(&name, &format!("#!{}\n", recursive.display()), 0o755);
    }
    let busy = folder.copy(&seconds, "busy", 0o755);
    let _writer = fs::OpenOptions::new().write(true).open(&busy).unwrap();
    let names = [
        "missing",
        "plain",
        "garbage",
        "empty",
        "script",
        "blank",
        "script-of-plain",
        "elf-header",
        "elf-half-header",
        "elf-magic",
        "loop",
        "dangling",
        "folder",
        "nested-7",
        "busy",
        "plain/below",
    ];
    let mut paths: Vec<String> = names.iter().map(|name| folder.at(name).to_string_lossy().into_owned()).collect();
    paths.push(format!("/{}", "x".repeat(300)));
    paths.push("/".repeat(5000));
    for way in ["execve", "execveat", "posix_spawn", "fork", "thread"] {
        for path in &paths {
            let mut native = Command::new(&starter);
            native.args([way, path]);
            let (native, ours) = (run_quietly(native), run_quietly(inside(&starter, &[way, path])));
            assert!(native.stdout.starts_with("failed "), "{way} of {path}: {native:?}");
            let seen = |outcome: &Outcome| (outcome.code(), outcome.stdout.clone(), outcome.stderr.clone());
            assert_eq!(seen(&ours), seen(&native), "{way} of {path}");
        }
    }
    for way in ["bad-address", "bad-arguments", "empty-path"] {
        let mut native = Command::new(&starter);
        native.args([way, text(&seconds)]);
        let (native, ours) = (run_quietly(native), run_quietly(inside(&starter, &[way, text(&seconds)])));
        assert_eq!((ours.code(), ours.stdout, ours.stderr), (native.code(), native.stdout, native.stderr), "{way}");
    }
}

#[test]
fn a_program_that_ends_right_after_an_execution_failed_is_not_lost() {
    let (folder, starter) = (Folder::new("ends"), guest("starter"));
    // As much of a program as has to be traced to be entered, and too little to be one.
    fs::write(folder.at("header"), &fs::read(guest("seconds")).unwrap()[..64]).unwrap();
    let header = folder.copy(folder.at("header"), "elf-header", 0o755);
    for round in 0..100 {
        let mut two: Vec<Started> = (0..2).map(|_| start(inside(&starter, &["execve", text(&header)]))).collect();
        for run in two.drain(..) {
            let outcome = run.finish();
            assert_eq!((outcome.code(), outcome.stdout.as_str()), (99, "failed 8\n"), "round {round}: {outcome:?}");
        }
    }
}

#[test]
fn scripts_and_what_they_start_are_in_time() {
    let folder = Folder::new("scripts");
    let (seconds, bare) = (guest("seconds"), guest_as("bare", Build::Bare).unwrap());
    let direct = folder.write("direct", &format!("#!{} flag\n", text(&seconds)), 0o755);
    let nested = folder.write("nested", &format!("#! {}\n", text(&direct)), 0o755);
    let bare_script = folder.write("bare", &format!("#!{}\n", text(&bare)), 0o755);
    let bare_nested = folder.write("bare-nested", &format!("#!{}\n", text(&bare_script)), 0o755);
    let shell = folder.write(
        "shell",
        &format!(
            "#!/bin/sh\n{0} one\n{1}\n( {0} two )\n{0} three | cat\necho $({0} four)\n{2} five\nexec {1}\n",
            text(&seconds),
            text(&bare),
            text(&nested)
        ),
        0o755,
    );
    let by_env = folder.write("by-env", &format!("#!/usr/bin/env sh\n{} six\n", text(&seconds)), 0o755);
    assert_eq!(check_lines("a script", inside(&direct, &["a"])), [format!("flag {} a", text(&direct))]);
    let expected = format!("flag {} {} a", text(&direct), text(&nested));
    assert_eq!(check_lines("a script of a script", inside(&nested, &["a"])), [expected]);
    check_lines("a script of a bare program", inside(&bare_script, &[]));
    check_lines("a script of a script of a bare program", inside(&bare_nested, &[]));
    assert_eq!(check_lines("a shell script", inside(&shell, &[])).len(), 7);
    assert_eq!(check_lines("a script by env", inside(&by_env, &[])), ["six"]);
}

#[test]
fn a_shell_starts_bare_programs_in_time() {
    let bare = guest_as("bare", Build::Bare).unwrap();
    let script = format!("{0}; {0} | cat; ({0}); exec {0}", text(&bare));
    assert_eq!(check_lines("sh", inside("/bin/sh", &["-c", &script])).len(), 4);
}

#[test]
fn a_set_user_id_program_keeps_its_rights_and_is_in_time() {
    const TEST: &str = "a_set_user_id_program_keeps_its_rights_and_is_in_time";
    if !is_root() {
        return skip(TEST, "not root");
    }
    let folder = Folder::new("setuid");
    for (name, from) in [("dynamic", Ok(guest("identity"))), ("static", guest_as("identity", Build::Static))] {
        let Ok(from) = from else { return skip(TEST, "there is no static C library") };
        let program = folder.copy(from, name, 0o755);
        chown(&program, Some(12345), None).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
        if !run_quietly(Command::new(&program)).success().stdout.ends_with(" 12345\n") {
            return skip(TEST, "the folder for temporary files ignores set-user-ID");
        }
        assert_eq!(check_lines(name, inside(&program, &[])), ["12345"]);
        assert_eq!(check_lines(name, inside(guest("starter"), &["fork", text(&program)])), ["12345"]);
    }
}

#[test]
fn a_program_in_a_chroot_without_proc_is_in_time() {
    const TEST: &str = "a_program_in_a_chroot_without_proc_is_in_time";
    if !is_root() {
        return skip(TEST, "not root");
    }
    let folder = Folder::new("chroot");
    folder.copy(guest_as("bare", Build::Bare).unwrap(), "bare", 0o755);
    fs::create_dir(folder.at("tools")).unwrap();
    let root = text(folder.path()).to_owned();
    check_lines("bare", inside("chroot", &[&root, "/bare"]));
    for build in [Build::Static, Build::StaticPie, Build::MuslStatic] {
        let (Ok(seconds), Ok(starter)) = (guest_as("seconds", build), guest_as("starter", build)) else {
            skip(TEST, &format!("no {build:?}"));
            continue;
        };
        folder.copy(seconds, "tools/seconds", 0o755);
        folder.copy(starter, "tools/starter", 0o755);
        assert_eq!(check_lines("chroot", inside("chroot", &[&root, "/tools/seconds", "a"])), ["a"], "{build:?}");
        for way in ["fork", "vfork", "execveat-folder", "fexecve", "thread"] {
            let command = || inside("chroot", &[&root, "/tools/starter", way, "/tools/seconds", "a"]);
            // fexecve of musl goes through /proc, which is missing.
            if way == "fexecve" && build == Build::MuslStatic {
                continue;
            }
            assert_eq!(check_lines(&format!("{way}, {build:?}"), command()), ["a"]);
            check_lines(
                &format!("{way} of bare, {build:?}"),
                inside("chroot", &[&root, "/tools/starter", "fork", "/bare"]),
            );
        }
    }
}

#[test]
fn programs_in_namespaces_of_their_own_are_in_time() {
    const TEST: &str = "programs_in_namespaces_of_their_own_are_in_time";
    let (starter, seconds) = (guest("starter"), guest("seconds"));
    for flags in [
        &["-U", "-r"][..],
        &["-p", "-f"],
        &["-p", "-f", "--mount-proc"],
        &["-m"],
        &["-U", "-r", "-p", "-f"],
        &["-n", "-i", "-u"],
    ] {
        let mut native = Command::new("unshare");
        native.args(flags).arg(&seconds);
        if !has("unshare") || !run_quietly(native).status.success() {
            skip(TEST, &format!("unshare {flags:?} does not work here"));
            continue;
        }
        for target in [&seconds, &guest_as("bare", Build::Bare).unwrap()] {
            let mut command = elsewhen(&OFFSET, "unshare");
            command.args(flags).arg(target);
            check_lines(&format!("unshare {flags:?}"), command);
            let mut command = elsewhen(&OFFSET, "unshare");
            command.args(flags).arg(&starter).arg("fork").arg(target);
            check_lines(&format!("unshare {flags:?} starter"), command);
        }
    }
}

/// Fails unless an outcome is one refusal: this code, nothing on standard output, and one line that says these words.
#[track_caller]
fn check_refusal(outcome: &Outcome, code: i32, stdout: &str, words: &str) {
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (code, stdout), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    assert!(outcome.stderr.starts_with("elsewhen: ") && outcome.stderr.contains(words), "{outcome:?}");
}

/// 64-bit programs start 32-bit ones, and the other way round, again and again.
#[test]
fn trees_of_32_bit_and_64_bit_programs_are_in_one_time() {
    const TEST: &str = "trees_of_32_bit_and_64_bit_programs_are_in_one_time";
    let [starter, seconds] = ["starter", "seconds"].map(|name| guest_as(name, Build::Bits32));
    let (starter, seconds) = match (starter, seconds) {
        (Ok(starter), Ok(seconds)) => (starter, seconds),
        (Err(reason), _) | (_, Err(reason)) => return skip(TEST, &reason),
    };
    let folder = Folder::new("bits");
    for way in ["execve", "fork", "vfork", "posix_spawn", "thread"] {
        // Each line is a program of the one kind that is started by one of the other.
        let script = format!(
            "{seconds}; {starter} {way} {wide}; exec {starter} {way} {wide_starter} {way} {starter} {way} {seconds}",
            seconds = text(&seconds),
            starter = text(&starter),
            wide = text(&guest("seconds")),
            wide_starter = text(&guest("starter")),
        );
        let script = folder.write("script", &format!("#!/bin/sh\n{script}\n"), 0o755);
        assert_eq!(check_lines(way, inside(&script, &[])).len(), 3, "{way}");
    }
}

#[test]
fn a_program_that_is_in_the_way_is_refused_with_the_reason() {
    let path = guest_as("seconds", Build::InTheWay).unwrap();
    const REASON: &str = "it occupies the addresses";
    check_refusal(&run_quietly(inside(&path, &[])), 126, "", REASON);
    for way in ["execve", "fork", "posix_spawn", "thread", "execveat-memfd"] {
        let outcome = run_quietly(inside(guest("starter"), &[way, text(&path)]));
        check_refusal(&outcome, 99, "failed 1\n", REASON);
    }
    let folder = Folder::new("in-the-way");
    let script = folder.write("script", &format!("#!{}\n", text(&path)), 0o755);
    check_refusal(&run_quietly(inside(&script, &[])), 126, "", REASON);
}

#[test]
fn a_program_executed_by_the_32_bit_call_is_in_time() {
    const TEST: &str = "a_program_executed_by_the_32_bit_call_is_in_time";
    let path = match guest_as("foreign", Build::NoPie) {
        Ok(path) => path,
        Err(reason) => return skip(TEST, &reason),
    };
    let seconds = guest("seconds");
    let mut native = Command::new(&path);
    native.arg(&seconds);
    if !run_quietly(native).status.success() {
        return skip(TEST, "this kernel has no 32-bit interface");
    }
    for (shown, target) in targets() {
        check_lines(&shown, inside(&path, &[text(&target)]));
    }
}

#[test]
fn time_calls_of_the_32_bit_interface_are_refused_and_never_tell_the_hosts_time() {
    const TEST: &str = "time_calls_of_the_32_bit_interface_are_refused_and_never_tell_the_hosts_time";
    const ENOSYS: &str = "-38";
    let path = match guest_as("int80", Build::NoPie) {
        Ok(path) => path,
        Err(reason) => return skip(TEST, &reason),
    };
    let native = run_quietly(Command::new(&path));
    if !native.status.success() {
        return skip(TEST, "this kernel has no 32-bit interface");
    }
    let answers = |refused: &[&str]| -> String {
        let answer = |name: &str| match name {
            "getpid" => "getpid 1\n".to_owned(),
            _ => format!("{name} {}\n", if refused.contains(&name) { ENOSYS } else { "0" }),
        };
        ["getpid", "time", "clock_gettime", "clock_gettime64", "rt_sigprocmask", "nanosleep"].map(answer).concat()
    };
    assert_eq!(native.stdout, answers(&[]));
    let always = ["time", "clock_gettime", "rt_sigprocmask"];
    assert_eq!(run_quietly(elsewhen(&["--offset", "1h"], &path)).success().stdout, answers(&always));
    // It asks for MONOTONIC.
    let moved = [&always[..], &["clock_gettime64"]].concat();
    let outcome = run_quietly(elsewhen(&["--offset", "monotonic=1h"], &path));
    assert_eq!(outcome.success().stdout, answers(&moved));
    let rated = [&moved[..], &["nanosleep"]].concat();
    assert_eq!(run_quietly(elsewhen(&["--rate", "2"], &path)).success().stdout, answers(&rated));
}

/// A command as an unprivileged user, with the program that it is to run behind it.
fn as_nobody(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    command
}

/// Why nothing can be tested as an unprivileged user.
fn no_nobody() -> Option<&'static str> {
    (is_root() && !has("setpriv")).then_some("there is no setpriv to become unprivileged")
}

#[test]
fn a_program_that_may_be_executed_but_not_read_is_refused() {
    const TEST: &str = "a_program_that_may_be_executed_but_not_read_is_refused";
    if let Some(reason) = no_nobody() {
        return skip(TEST, reason);
    }
    let folder = Folder::new("unreadable");
    let command = folder.copy(ELSEWHEN, "elsewhen", 0o755);
    let unreadable = folder.copy(guest("seconds"), "unreadable", if is_root() { 0o711 } else { 0o111 });
    let starter = folder.copy(guest("starter"), "starter", 0o755);
    let mut direct = as_nobody(&command);
    direct.args(["run", "--offset", "1000d", "--"]).arg(&unreadable);
    check_refusal(&run_quietly(direct), 126, "", "not read");
    for way in ["fork", "posix_spawn", "thread"] {
        let mut child = as_nobody(&command);
        child.args(["run", "--offset", "1000d", "--"]).arg(&starter).arg(way).arg(&unreadable);
        check_refusal(&run_quietly(child), 99, "failed 1\n", "not read");
    }
}

#[test]
fn an_unprivileged_user_needs_nothing_else() {
    const TEST: &str = "an_unprivileged_user_needs_nothing_else";
    if let Some(reason) = no_nobody() {
        return skip(TEST, reason);
    }
    let folder = Folder::new("unprivileged");
    let command = folder.copy(ELSEWHEN, "elsewhen", 0o755);
    let starter = folder.copy(guest("starter"), "starter", 0o755);
    let targets = [("dynamic", guest("seconds")), ("bare", guest_as("bare", Build::Bare).unwrap())];
    for (name, target) in targets {
        let target = folder.copy(target, name, 0o755);
        let run = |arguments: &[&str]| {
            let mut command = as_nobody(&command);
            command.args(["run", "--offset", "1000d", "--"]).args(arguments);
            command
        };
        check_lines(name, run(&[text(&target)]));
        for way in ["fork", "vfork", "posix_spawn", "thread", "seven-threads", "execveat-memfd", "fexecve"] {
            check_lines(&format!("{way} of {name}"), run(&[text(&starter), way, text(&target)]));
        }
        assert_eq!(check_lines(name, run(&[text(&starter), "many", text(&target)])).len(), 1000);
        check_lines(name, run(&["/bin/sh", "-c", &format!("{0}; {0}; exec {0}", text(&target))]));
    }
}

#[test]
fn not_one_of_a_thousand_children_is_missed() {
    for (kind, target) in targets() {
        assert_eq!(check_lines(&kind, inside(guest("starter"), &["many", text(&target)])).len(), 1000, "{kind}");
    }
}

#[test]
fn two_hundred_targets_of_a_parallel_make_are_in_time() {
    const TEST: &str = "two_hundred_targets_of_a_parallel_make_are_in_time";
    if !has("make") {
        return skip(TEST, "there is no make");
    }
    let folder = Folder::new("make");
    let rule =
        format!("all: $(foreach n,$(shell seq 200),t$(n))\nt%:\n\t@{} $@\n.PHONY: all\n", text(&guest("seconds")));
    let makefile = folder.write("Makefile", &rule, 0o644);
    let mut names = check_lines("make", inside("make", &["-j8", "-s", "-f", text(&makefile)]));
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 200);
}

#[test]
fn daemons_keep_their_time_and_start_programs_in_it() {
    let (folder, starter) = (Folder::new("daemon"), guest("starter"));
    for (kind, target) in [("dynamic", guest("seconds")), ("bare", guest_as("bare", Build::Bare).unwrap())] {
        let written = folder.at(kind);
        let before = Host::now();
        let mut command = inside(&starter, &["daemon", text(&target), text(&written)]);
        command.stdin(Stdio::null());
        let mut front = start(command);
        assert!(front.end().success(), "{kind}");
        // The program is gone, and the front with it; the daemon has written nothing yet, or not much.
        until("the daemon has written three lines", || {
            fs::read_to_string(&written).unwrap_or_default().lines().count() >= 3
        });
        let after = Host::now();
        for line in fs::read_to_string(&written).unwrap().lines() {
            check_seconds(kind, line, OFFSET_S, &before, &after);
        }
        front.finish();
    }
}

#[test]
fn nothing_of_elsewhen_is_left_when_the_last_member_has_ended() {
    let name = Folder::new("last");
    let written = name.at("written");
    let mut command = inside(guest("starter"), &["daemon", text(&guest("seconds")), text(&written)]);
    command.stdin(Stdio::null());
    let mut front = start(command);
    let supervisor = supervisor_of(front.id().as_raw_nonzero().get());
    assert!(front.end().success());
    // It serves the daemon, and ends with it.
    if let Some(supervisor) = supervisor {
        until("the supervisor has ended", || !is_elsewhen(supervisor));
        assert_eq!(fs::read_to_string(&written).unwrap().lines().count(), 3);
    }
    front.finish();
}

/// The supervisor that a front has started; `None` if the front has ended before it was seen.
fn supervisor_of(front: i32) -> Option<i32> {
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while std::time::Instant::now() < deadline {
        let children = fs::read_to_string(format!("/proc/{front}/task/{front}/children")).ok()?;
        if let Some(child) = children.split_whitespace().next().and_then(|child| child.parse().ok()) {
            return Some(child);
        }
        sleep(Duration::from_millis(1));
    }
    None
}

/// Whether a process with this id is a supervisor that runs.
fn is_elsewhen(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.contains("(elsewhen") && !stat.contains(") Z"))
}
