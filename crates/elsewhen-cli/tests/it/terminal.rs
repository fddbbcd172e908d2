//! Signals and job control: `elsewhen run` stands in for the program.

use crate::harness::*;
use rustix::process::Signal;
use std::process::Command;

/// Runs a script of Python with the tested command's path; skips without Python.
fn python(test: &str, script: &str) -> Option<Outcome> {
    if !has("python3") {
        skip(test, "no python3");
        return None;
    }
    let mut command = Command::new("python3");
    command.args(["-c", script, env!("CARGO_BIN_EXE_elsewhen")]);
    Some(run_quietly(command))
}

/// A program that says when it runs, and what it is sent.
fn told() -> Started {
    let mut command = elsewhen(&["--offset", "1d"], "sh");
    command
        .args(["-c", "trap 'echo term; exit 5' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.02; done"]);
    let mut started = start(command);
    assert_eq!(started.must_say(), "ready");
    started
}

#[test]
fn what_is_sent_to_elsewhen_reaches_the_program() {
    let mut started = told();
    started.signal(Signal::USR1);
    assert_eq!(started.must_say(), "usr1");
    started.signal(Signal::TERM);
    assert_eq!(started.must_say(), "term");
    assert_eq!(started.finish().code(), 5);
}

#[test]
fn killing_elsewhen_kills_the_program() {
    let mut command = elsewhen(&[], "sh");
    command.args(["-c", "echo $$; exec sleep 100"]);
    let mut started = start(command);
    let program = started.must_say();
    started.signal(Signal::KILL);
    until("the program has ended", || is_over(&program));
    until("elsewhen has ended", || started.has_ended());
}

#[test]
fn a_stopped_program_stops_elsewhen_and_both_go_on() {
    let mut command = elsewhen(&[], "sh");
    command.args(["-c", "echo $$; read line; echo again; exit 3"]).stdin(std::process::Stdio::piped());
    let mut started = start(command);
    let program = started.must_say();
    let front = started.id().as_raw_nonzero().to_string();
    let state = |pid: &str| state_of(pid).unwrap();
    let kill = |signal: &str, pid: &str| assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
    kill("-STOP", &program);
    until("elsewhen stops with its program", || state(&front) == 'T');
    kill("-CONT", &front);
    until("the program goes on with elsewhen", || state(&program) != 'T');
    kill("-STOP", &program);
    until("elsewhen stops again", || state(&front) == 'T');
    kill("-CONT", &program);
    until("elsewhen goes on with its program", || state(&front) != 'T');
    drop(started.stdin());
    assert_eq!(started.must_say(), "again");
    assert_eq!(started.finish().code(), 3);
}

#[test]
fn keys_of_a_terminal_interrupt_stop_and_continue() {
    const TEST: &str = "keys_of_a_terminal_interrupt_stop_and_continue";
    // A shell with job control on a terminal of its own: ^C, then ^Z and fg.
    let script = r#"
import os, pty, sys, time, select
pid, fd = pty.fork()
if pid == 0:
    os.environ['PS1'] = 'shell> '
    os.environ['TERM'] = 'dumb'
    os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])
seen = b''
def wait(what, seconds=20):
    global seen
    end = time.monotonic() + seconds
    while what not in seen:
        if time.monotonic() > end:
            print('no', what, 'in', seen); os.kill(pid, 9); sys.exit(1)
        if select.select([fd], [], [], 0.1)[0]:
            seen += os.read(fd, 4096)
    seen = seen[seen.index(what) + len(what):]
def key(text): os.write(fd, text)
def interrupt(what):
    # As a person does: again, if nothing happens.
    global seen
    for _ in range(20):
        key(b'\x03')
        end = time.monotonic() + 1
        while time.monotonic() < end and what not in seen:
            if select.select([fd], [], [], 0.1)[0]:
                seen += os.read(fd, 4096)
        if what in seen:
            break
    wait(what)
wait(b'shell> ')
key(sys.argv[1].encode() + b" run -- sh -c 'echo be''gun; sleep 60'; echo status-$?\n")
wait(b'begun\r\n'); interrupt(b'status-130')
wait(b'shell> ')
key(sys.argv[1].encode() + b" run -- sh -c 'echo be''gun; read line; echo got-$line'; echo status-$?\n")
wait(b'begun\r\n'); key(b'\x1a'); wait(b'Stopped'); wait(b'shell> ')
key(b'fg\n'); wait(b'run'); time.sleep(0.2); key(b'text\n'); wait(b'got-text')
wait(b'shell> '); key(b'exit\n')
os.waitpid(pid, 0)
print('all done')
"#;
    if let Some(outcome) = python(TEST, script) {
        assert_eq!(outcome.success().stdout, "all done\n");
    }
}

#[test]
fn process_1_of_a_container_collects_orphans_and_passes_signals_on() {
    const TEST: &str = "process_1_of_a_container_collects_orphans_and_passes_signals_on";
    if !is_root() || !has("unshare") {
        return skip(TEST, "not root or no unshare");
    }
    let script = "(sleep 0.1 & sleep 0.1 &) ; sleep 0.5; ps -o stat= -A | grep -c Z; kill -TERM 1; sleep 20";
    let mut command = Command::new("unshare");
    command.args(["-p", "-f", "--mount-proc", env!("CARGO_BIN_EXE_elsewhen"), "run", "--", "sh", "-c", script]);
    let outcome = run_quietly(command);
    assert_eq!((outcome.stdout.as_str(), outcome.code()), ("0\n", 143), "{}", outcome.stderr);
}

/// The signals guest, running inside, and the process id that it has told.
fn signals_guest() -> (Started, String) {
    let mut command = elsewhen(&["--offset", "1d"], guest("signals"));
    command.stdin(std::process::Stdio::piped());
    let mut started = start(command);
    let program = started.must_say().strip_prefix("ready ").unwrap().to_owned();
    (started, program)
}

#[test]
fn a_signal_that_is_sent_to_elsewhen_arrives_once() {
    let (mut started, _) = signals_guest();
    let sent = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::WINCH, Signal::ALARM];
    for signal in sent {
        started.signal(signal);
        assert_eq!(started.must_say(), format!("got {}", signal.as_raw()));
    }
    started.signal(Signal::USR2);
    assert_eq!(started.must_say(), "got 12");
    let outcome = started.finish();
    assert_eq!((outcome.code(), outcome.stdout.lines().count()), (3, 1 + sent.len() + 1), "{outcome:?}");
}

#[test]
fn a_signal_that_is_sent_before_the_program_runs_is_not_lost() {
    for round in 0..40 {
        let mut command = elsewhen(&["--offset", "1d"], "sleep");
        command.arg("1000").stdin(std::process::Stdio::null());
        let started = start(command);
        std::thread::sleep(std::time::Duration::from_micros(round * 250));
        started.signal(Signal::TERM);
        let outcome = started.finish();
        // Ended as itself, or as the program.
        use std::os::unix::process::ExitStatusExt;
        assert!(outcome.status.code() == Some(143) || outcome.status.signal() == Some(15), "{round}: {outcome:?}");
    }
}

#[test]
fn elsewhen_killed_while_it_starts_the_program_leaves_nothing() {
    let folder = Folder::new("killed-early");
    for round in 0..200 {
        let mut command = elsewhen(&["--name", "killed-early"], "sleep");
        command.arg("1000").current_dir(folder.path()).stdin(std::process::Stdio::null());
        let started = start(command);
        std::thread::sleep(std::time::Duration::from_micros(round * 61 % 7000));
        started.signal(Signal::KILL);
        // The output ends with the last process that holds it: the supervisor or the program.
        let outcome = started.finish();
        assert_eq!(outcome.stdout, "", "{outcome:?}");
    }
    let here =
        |entry: &std::fs::DirEntry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder.path());
    until("no process of these is left", || !std::fs::read_dir("/proc").unwrap().flatten().any(|entry| here(&entry)));
}
