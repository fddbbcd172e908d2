//! Debuggers, tracers and profilers, inside a namespace and on its members.

use crate::harness::*;
use std::process::Command;

const OFFSET_S: i64 = 400 * 24 * 3600;

/// The id of the guest's own process: the grandchild of the one that was started.
fn member_of(asked: &Asked) -> String {
    let children = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let supervisor = children(&asked.guest.id().as_raw_nonzero().to_string());
    children(supervisor.trim()).trim().to_owned()
}

#[test]
fn gdb_runs_programs_inside_a_namespace() {
    if !has("gdb") {
        return skip("gdb_runs_programs_inside_a_namespace", "no gdb");
    }
    let before = Host::now();
    let mut command = elsewhen(&["--offset", "400d"], "gdb");
    command.args(["-nx", "-batch", "-ex", "run"]).arg(guest("seconds"));
    let output = run_quietly(command).success().stdout;
    let printed = output.lines().find(|line| line.bytes().all(|byte| byte.is_ascii_digit()) && !line.is_empty());
    check_seconds("gdb", printed.unwrap_or_else(|| panic!("{output}")), OFFSET_S, &before, &Host::now());
}

#[test]
fn strace_follows_programs_inside_a_namespace() {
    const TEST: &str = "strace_follows_programs_inside_a_namespace";
    if !has("strace") {
        return skip(TEST, "no strace");
    }
    let folder = Folder::new("strace");
    let before = Host::now();
    let mut command = elsewhen(&["--offset", "400d"], "strace");
    command
        .args(["-f", "-o"])
        .arg(folder.at("calls"))
        .args(["sh", "-c"])
        .arg(format!("{}; true", guest("seconds").display()));
    let output = run_quietly(command).success().stdout;
    check_seconds("strace", output.trim(), OFFSET_S, &before, &Host::now());
    let calls = std::fs::read_to_string(folder.at("calls")).unwrap();
    assert!(calls.lines().filter(|line| line.contains("execve(")).count() >= 2, "{calls}");
}

#[test]
fn gdb_and_strace_attach_to_a_member() {
    const TEST: &str = "gdb_and_strace_attach_to_a_member";
    if !is_root() || !has("gdb") || !has("strace") {
        return skip(TEST, "not root, no gdb or no strace");
    }
    let mut asked = Asked::new(elsewhen(&["--offset", "400d"], guest("clocks")));
    asked.ask();
    let member = member_of(&asked);
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-p", &member, "-ex", "backtrace"]);
    let output = run_quietly(gdb).success().stdout;
    assert!(output.contains("main ("), "{output}");
    until("strace has attached in time", || {
        let mut strace = Command::new("timeout");
        strace.args(["-s", "INT", "1", "strace", "-f", "-p", &member]);
        run_quietly(strace).stderr.contains("attached")
    });
    // Still a member, and alive.
    asked.ask();
    asked.finish().success();
}

#[test]
fn a_backtrace_from_the_image_reaches_main_when_gdb_is_told_of_the_image() {
    const TEST: &str = "a_backtrace_from_the_image_reaches_main_when_gdb_is_told_of_the_image";
    if !has("gdb") {
        return skip(TEST, "no gdb");
    }
    let program = guest("seconds");
    let gdb = |told: bool| {
        let mut command = elsewhen(&["--offset", "400d"], "gdb");
        command.args(["-nx", "-batch", "-ex", "break main", "-ex", "run"]);
        if told {
            command.args(["-ex", "add-symbol-file-from-memory 0x100000"]);
        }
        let hook = format!("break *{:#x}", 0x10_0000 + elsewhen_vdso::image::HOOK_CLOCK_GETTIME);
        command.args(["-ex", &hook, "-ex", "continue", "-ex", "stepi 12", "-ex", "backtrace"]).arg(&program);
        run_quietly(command).success().stdout
    };
    let told = gdb(true);
    let frames: Vec<&str> = told.lines().filter(|line| line.starts_with('#')).collect();
    assert!(frames.first().is_some_and(|frame| frame.contains("elsewhen_clock_gettime")), "{told}");
    assert!(frames.iter().any(|frame| frame.contains("main (")), "{told}");
    // Without being told the unwinder may stop early, but it does stop, and gdb ends in peace.
    assert!(gdb(false).lines().any(|line| line.starts_with("#0")));
}

#[test]
fn perf_records_a_member() {
    const TEST: &str = "perf_records_a_member";
    let folder = Folder::new("perf");
    let perf = |program: Command| {
        let mut command = program;
        command.args(["record", "-q", "-e", "cpu-clock", "-g", "-o"]).arg(folder.at("data")).arg(guest("seconds"));
        run_quietly(command)
    };
    if !has("perf") || !perf(Command::new("perf")).status.success() {
        return skip(TEST, "perf does not work here");
    }
    let before = Host::now();
    let output = perf(elsewhen(&["--offset", "400d"], "perf")).success().stdout;
    check_seconds("perf", output.trim(), OFFSET_S, &before, &Host::now());
}
