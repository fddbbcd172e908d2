//! Running processes that enter a namespace, leave it, and notice nothing but the time.

use crate::harness::{
    self, Asked, Build, DAY, ELSEWHEN, Folder, HOUR, Host, SECOND, Shift, Started, cli, guest, guest_as, has,
    kill_whole, run, skip, start, until,
};
use crate::waits::at_once;
use elsewhen_linux::attach::{Membership, membership};
use rustix::process::{Pid, Signal};
use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

fn id(guest: &Started) -> String {
    guest.id().as_raw_nonzero().to_string()
}

#[track_caller]
fn attach(folder: &Folder, pid: &str, flags: &[&str]) {
    let outcome = run(cli(folder, &[&["attach", "-t", pid], flags].concat()));
    assert!(outcome.status.success() && outcome.stderr.is_empty(), "attach {flags:?}: {outcome:?}");
}

#[track_caller]
fn detach(folder: &Folder, pid: &str) {
    let outcome = run(cli(folder, &["detach", "-t", pid]));
    assert!(outcome.status.success() && outcome.stderr.is_empty(), "detach: {outcome:?}");
}

/// Fails unless the command fails with a line that has this in it, and soon.
#[track_caller]
fn refused(folder: &Folder, arguments: &[&str], reason: &str) {
    let began = Instant::now();
    let outcome = run(cli(folder, arguments));
    assert_eq!(outcome.code(), 125, "{arguments:?}: {outcome:?}");
    assert!(outcome.stderr.contains(reason) && outcome.stderr.lines().count() == 1, "{arguments:?}: {outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(30), "{arguments:?}: took {:?}", began.elapsed());
}

#[test]
fn a_running_program_reads_the_time_of_its_namespace() {
    let folder = Folder::new("attach-reads");
    for build in [Build::Dynamic, Build::NoPie, Build::Static, Build::StaticPie, Build::MuslStatic, Build::MuslDynamic]
    {
        let path = match guest_as("clocks", build) {
            Ok(path) => path,
            Err(reason) => {
                skip("a_running_program_reads_the_time_of_its_namespace", &format!("{build:?}: {reason}"));
                continue;
            }
        };
        let shown = format!("{build:?}");
        let mut guest = Asked::new(Command::new(path));
        let pid = id(&guest.guest);
        let check = |guest: &mut Asked, shift: Shift| {
            let answer = guest.ask();
            shift.check(&shown, &answer.readings, &answer.before, &answer.after);
        };
        check(&mut guest, Shift::default());
        attach(&folder, &pid, &["--offset", "10d", "--offset", "monotonic=2h", "--offset", "boottime=3h", "-q"]);
        let away = Shift { realtime: 10 * DAY, monotonic: 2 * HOUR, boottime: 3 * HOUR };
        check(&mut guest, away);
        check(&mut guest, away);
        detach(&folder, &pid);
        check(&mut guest, Shift::default());
        attach(&folder, &pid, &["--offset", "-1d", "--name", &format!("again-{pid}")]);
        check(&mut guest, Shift::realtime(-DAY));
        let set = run(cli(&folder, &["set", &pid, "--by", "1h"]));
        assert!(set.status.success(), "{set:?}");
        check(&mut guest, Shift::realtime(HOUR - DAY));
        guest.finish().success();
    }
}

/// Writes over the vDSO of a process.
fn write_vdso(pid: &str, bytes: &[u8]) {
    let memory = fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/mem")).unwrap();
    memory.write_all_at(bytes, place_of_vdso(pid).0).unwrap();
}

/// The vDSO of a process.
fn vdso(pid: &str) -> Vec<u8> {
    let (start, end) = place_of_vdso(pid);
    let mut bytes = vec![0; (end - start) as usize];
    fs::File::open(format!("/proc/{pid}/mem")).unwrap().read_exact_at(&mut bytes, start).unwrap();
    bytes
}

/// What the kernel has put into the vDSO of a process that nobody has touched: all but the unused end.
fn original_of(pid: &str) -> Vec<u8> {
    let mut bytes = vdso(pid);
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    bytes
}

fn place_of_vdso(pid: &str) -> (u64, u64) {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap();
    let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
    let number = |text| u64::from_str_radix(text, 16).unwrap();
    (number(start), number(end))
}

/// `hammer` in conversation.
struct Hammer {
    guest: Started,
    stdin: ChildStdin,
}

impl Hammer {
    fn start(threads: usize) -> Self {
        let mut command = Command::new(guest("hammer"));
        command.arg(threads.to_string()).stdin(Stdio::piped());
        let mut guest = start(command);
        let stdin = guest.stdin();
        assert_eq!(guest.must_say(), "ready");
        Self { guest, stdin }
    }

    /// How far its realtime is from the host's.
    #[track_caller]
    fn is_ahead(&mut self, ns: i128) -> bool {
        let before = Host::now();
        self.stdin.write_all(b"?\n").unwrap();
        let line = self.guest.must_say();
        let after = Host::now();
        let reading: i128 = line.split(' ').next().unwrap().parse().unwrap();
        (before.of(0) + ns..=after.of(0) + ns).contains(&reading)
    }

    /// Waits for a thread to come to its end that was sent by a tool which has been killed. Whether it is a member then, whose
    /// realtime must be so far ahead; else that is the host's.
    #[track_caller]
    fn settles(&mut self, ns: i128) -> bool {
        sleep(Duration::from_millis(400));
        let pid = id(&self.guest).parse().unwrap();
        let mut is_member = false;
        until("its clock is of the side that it is on", || {
            is_member = membership(pid).unwrap() == Membership::Member;
            self.is_ahead(if is_member { ns } else { 0 })
        });
        is_member
    }

    /// Has it leave again, after a tool that did so was killed, and fails unless it has the host's time then and every byte of
    /// its vDSO.
    #[track_caller]
    fn leaves_wholly(&mut self, folder: &Folder, original: &[u8], when: &str) {
        let pid = id(&self.guest);
        // Where its code is not the kernel's yet, this gives it that back; where it has left and has that, it is refused.
        let again = run(cli(folder, &["detach", "-t", &pid]));
        assert!(again.status.success() || again.stderr.contains("has left its namespace already"), "{when}: {again:?}");
        assert!(self.is_ahead(0), "{when}");
        assert_eq!(&vdso(&pid)[..original.len()], original, "{when}");
    }

    #[track_caller]
    fn finish(self) {
        assert_eq!(self.last_line(), "back 0 senseless 0 failed 0");
    }

    /// As [`finish`](Self::finish), where whoever had stopped it was killed: nobody is left to have calls made again that a
    /// stop ends with EINTR.
    #[track_caller]
    fn finish_interrupted(self) {
        let last = self.last_line();
        assert!(last.starts_with("back 0 senseless 0 failed "), "{last}");
    }

    #[track_caller]
    fn last_line(self) -> String {
        drop(self.stdin);
        let outcome = self.guest.finish().success();
        outcome.stdout.lines().last().unwrap_or_else(|| panic!("{outcome:?}")).to_owned()
    }
}

#[test]
fn entering_and_leaving_again_and_again_disturbs_nothing() {
    let folder = Folder::new("attach-cycles");
    run(cli(&folder, &["create", "away", "--offset", "1h"])).success();
    let mut hammer = Hammer::start(8);
    let pid = id(&hammer.guest);
    let original = original_of(&pid);
    for round in 0..20 {
        attach(&folder, &pid, &["--to", "away"]);
        assert!(hammer.is_ahead(HOUR), "round {round}");
        assert_ne!(vdso(&pid)[..original.len()], original, "round {round}");
        detach(&folder, &pid);
        assert!(hammer.is_ahead(0), "round {round}");
        assert_eq!(vdso(&pid)[..original.len()], original, "round {round}: every byte that was there");
    }
    hammer.finish();
}

#[test]
fn threads_interrupted_in_the_first_instructions_go_on() {
    let folder = Folder::new("attach-entry");
    for function in ["clock_gettime", "gettimeofday", "time", "clock_getres"] {
        let mut command = Command::new(guest("entry"));
        command.arg(function).stdin(Stdio::piped());
        let mut guest = start(command);
        let mut stdin = guest.stdin();
        assert_eq!(guest.must_say(), "inside", "{function}");
        let pid = id(&guest);
        attach(&folder, &pid, &["--offset", "10d"]);
        let before = Host::now();
        stdin.write_all(b"\n").unwrap();
        let mut say = || guest.must_say().parse::<i128>().unwrap_or_else(|_| panic!("{function} gave no number"));
        let (first, second) = (say(), say());
        let after = Host::now();
        // A reading that had begun may be of either side.
        let near = |seconds: i128, ahead: i128| {
            ((before.of(5) + ahead) / SECOND..=(after.of(0) + ahead) / SECOND).contains(&seconds)
        };
        assert!(
            function == "clock_getres" && first == 0 || near(first, 0) || near(first, 10 * DAY),
            "{function}: {first}"
        );
        assert!(near(second, 10 * DAY), "{function}: {second}");
        guest.finish().success();
    }
}

/// A shell that reads commands.
struct Shell {
    guest: Started,
    stdin: ChildStdin,
}

impl Shell {
    fn start() -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "while read -r line; do eval \"$line\"; done"]).stdin(Stdio::piped());
        let mut guest = start(command);
        let stdin = guest.stdin();
        Self { guest, stdin }
    }

    fn say(&mut self, line: &str) -> String {
        writeln!(self.stdin, "{line}").unwrap();
        self.guest.must_say()
    }

    /// Whether a program that it starts reads a realtime so far ahead, and a program which that starts.
    #[track_caller]
    fn starts_ahead(&mut self, ns: i128) -> bool {
        let before = Host::now().of(5);
        let (child, grandchild) = (self.say("date +%s"), self.say("sh -c 'date +%s; :'"));
        let after = Host::now().of(0);
        [child, grandchild].iter().all(|seconds| {
            let seconds: i128 = seconds.parse().unwrap_or_else(|_| panic!("date said {seconds:?}"));
            ((before + ns) / SECOND..=(after + ns) / SECOND).contains(&seconds)
        })
    }
}

#[test]
fn what_a_process_starts_is_where_the_process_is() {
    let folder = Folder::new("attach-children");
    let mut shell = Shell::start();
    let pid = id(&shell.guest);
    assert!(shell.starts_ahead(0));
    attach(&folder, &pid, &["--offset", "10d", "--name", "first"]);
    assert!(shell.starts_ahead(10 * DAY));
    detach(&folder, &pid);
    assert!(shell.starts_ahead(0), "after it has left");
    attach(&folder, &pid, &["--offset", "-10d", "--name", "second"]);
    assert!(shell.starts_ahead(-10 * DAY), "in another namespace than its supervisor's");
    detach(&folder, &pid);
    assert!(shell.starts_ahead(0), "after it has left again");
}

#[test]
fn a_supervisor_keeps_nothing_of_each_program_that_a_process_starts_after_it_has_left() {
    let folder = Folder::new("attach-many");
    let mut shell = Shell::start();
    let pid = id(&shell.guest);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 40; exec \"$0\" attach -t \"$1\" --offset 10d", ELSEWHEN, &pid]);
    command.env("ELSEWHEN_RUNTIME_DIR", folder.path()).stdin(Stdio::null());
    run(command).success();
    detach(&folder, &pid);
    let many = "i=0; while [ $i -lt 200 ]; do /bin/true || { echo failed; break; }; i=$((i+1)); done; echo $i";
    assert_eq!(shell.say(many), "200");
    assert!(shell.starts_ahead(0));
}

#[test]
fn a_program_that_was_started_inside_can_leave() {
    let folder = Folder::new("attach-inside");
    let mut command = cli(&folder, &["run", "--offset", "10d", "--", "sh", "-c"]);
    command.arg("echo $$; while read -r line; do eval \"$line\"; done").stdin(Stdio::piped());
    let mut guest = start(command);
    let stdin = guest.stdin();
    let pid = guest.must_say();
    let mut shell = Shell { guest, stdin };
    assert!(shell.starts_ahead(10 * DAY));
    detach(&folder, &pid);
    assert!(shell.starts_ahead(0));
    attach(&folder, &pid, &["--offset", "-3d"]);
    assert!(shell.starts_ahead(-3 * DAY));
}

#[test]
fn a_member_whose_supervisor_has_died_is_adopted() {
    let folder = Folder::new("attach-adopt");
    let mut shell = Shell::start();
    let pid = id(&shell.guest);
    for (round, flags) in [["--offset", "10d"], ["--to", &format!("attached-{pid}")]].iter().enumerate() {
        if round > 0 {
            detach(&folder, &pid);
        }
        attach(&folder, &pid, flags);
        kill_supervisor(&folder);
        let printed = shell.say("date +%s || echo cannot");
        assert_eq!(printed, "cannot", "nobody lets it start programs");
        let adopted = run(cli(&folder, &["adopt", &pid]));
        assert!(adopted.status.success(), "{adopted:?}");
        assert!(shell.starts_ahead(10 * DAY));
        let again = run(cli(&folder, &["adopt", &pid]));
        assert_eq!(again.code(), 125, "{again:?}");
        assert!(again.stderr.contains("has a supervisor"), "{again:?}");
    }
}

#[test]
fn a_member_that_has_lost_what_was_added_to_its_vdso_is_repaired() {
    let folder = Folder::new("attach-lost");
    let mut guest = Asked::new(Command::new(guest("clocks")));
    let pid = id(&guest.guest);
    // It has been executed then.
    guest.ask();
    let original = vdso(&pid);
    attach(&folder, &pid, &["--offset", "10d"]);
    // As after a checkpoint, with its supervisor gone. The guest waits for input.
    write_vdso(&pid, &original);
    kill_supervisor(&folder);
    let adopted = run(cli(&folder, &["adopt", &pid]));
    assert!(adopted.status.success(), "{adopted:?}");
    let answer = guest.ask();
    Shift::realtime(10 * DAY).check("the program", &answer.readings, &answer.before, &answer.after);
    guest.finish().success();
}

/// Kills the one process that holds a namespace of this folder without being a member.
fn kill_supervisor(folder: &Folder) {
    let is_one = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        name == "elsewhen-super\n" && maps.contains(folder.path().to_str().unwrap())
    };
    let processes =
        || fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut supervisors: Vec<u32> = Vec::new();
    // One that has nobody to serve ends by itself.
    until("there is one supervisor", || {
        supervisors = processes().filter(is_one).collect();
        supervisors.len() == 1
    });
    kill_whole(supervisors[0] as i32);
}

#[test]
fn a_tree_enters_as_a_whole() {
    let folder = Folder::new("attach-tree");
    let script = "import os, subprocess, sys\n\
        child = 'import os, sys, time; sys.stdin.readline(); os.write(1, b\"%d\\\\n\" % time.time()); sys.stdin.readline()'\n\
        middle = 'import subprocess, sys; subprocess.run([sys.executable, \"-c\", sys.argv[1]])'\n\
        children = [subprocess.Popen([sys.executable, '-c', middle, child], stdin=subprocess.PIPE) for _ in range(2)]\n\
        print(os.getpid(), flush=True)\n\
        for line in sys.stdin:\n    [(c.stdin.write(b'\\n'), c.stdin.flush()) for c in children]\n\
        [c.stdin.close() for c in children]; [c.wait() for c in children]";
    let mut command = Command::new("python3");
    command.args(["-c", script]).stdin(Stdio::piped());
    let mut guest = start(command);
    let mut stdin = guest.stdin();
    let pid = guest.must_say();
    until("all have started", || elsewhen::tree(pid.parse().unwrap()).is_ok_and(|tree| tree.len() == 5));
    // Python has read what it starts with.
    sleep(Duration::from_millis(500));
    attach(&folder, &pid, &["--tree", "--offset", "10d"]);
    let name = format!("attached-{pid} 5");
    let listed = || run(cli(&folder, &["ls", "-n", "-o", "NAME,MEMBERS"])).success().stdout;
    assert!(listed().lines().any(|line| line == name), "{}", listed());
    let before = Host::now();
    stdin.write_all(b"\n").unwrap();
    let seconds = [guest.must_say(), guest.must_say()];
    let after = Host::now();
    for seconds in seconds {
        let seconds: i128 = seconds.parse().unwrap();
        assert!(
            ((before.of(5) + 10 * DAY) / SECOND..=(after.of(0) + 10 * DAY) / SECOND).contains(&seconds),
            "{seconds}"
        );
    }
    run(cli(&folder, &["detach", "-t", &pid, "--tree"])).success();
    drop(stdin);
    guest.finish().success();
    until("it is gone with its supervisor", || !listed().contains("attached"));
}

#[test]
fn what_cannot_enter_is_refused_and_left_as_it_was() {
    let folder = Folder::new("attach-refused");
    let attach = |pid: &str| ["attach", "-t", pid, "--offset", "1d", "--name", "refused"].map(str::to_owned);
    let refused = |pid: &str, reason: &str| {
        let arguments = attach(pid);
        refused(&folder, &arguments.each_ref().map(String::as_str), reason);
    };
    refused("4194304", "there is no process 4194304");
    refused("2", "kernel");
    // A member already.
    let mut command = cli(&folder, &["run", "--offset", "1d", "--", "sleep", "60"]);
    let member = start({
        command.stdout(Stdio::null());
        command
    });
    until("it has started", || !elsewhen::tree(id(&member).parse().unwrap()).unwrap_or_default().is_empty());
    let sleeper = || {
        let supervisors = elsewhen_linux::process::children(id(&member).parse().unwrap());
        supervisors.iter().flat_map(|pid| elsewhen_linux::process::children(*pid)).next()
    };
    until("it sleeps", || sleeper().is_some_and(|pid| elsewhen::name_of(pid).is_ok_and(|name| name.is_some())));
    refused(&sleeper().unwrap().to_string(), "in a namespace already");
    // Nothing but what was asked for.
    let nothing = run(cli(&folder, &["attach", "-t", "1"]));
    assert!(nothing.code() == 125 && nothing.stderr.contains("nothing is asked for"), "{nothing:?}");
    let gone = run(cli(&folder, &["attach", "-t", "1", "--to", "nowhere"]));
    assert!(gone.code() == 125 && gone.stderr.contains("no namespace \"nowhere\""), "{gone:?}");
    // Not a member.
    let mut outsider = Asked::new(Command::new(guest("clocks")));
    let pid = id(&outsider.guest);
    let detach = run(cli(&folder, &["detach", "-t", &pid]));
    assert!(detach.code() == 125 && detach.stderr.contains("is in no namespace"), "{detach:?}");
    let answer = outsider.ask();
    Shift::default().check("an outsider", &answer.readings, &answer.before, &answer.after);
    outsider.finish().success();
    assert_eq!(
        run(cli(&folder, &["ls", "-n", "-o", "NAME"])).stdout.lines().filter(|name| *name == "refused").count(),
        0
    );
}

#[test]
fn a_program_under_a_tracer_is_refused() {
    if !has("strace") {
        return skip("a_program_under_a_tracer_is_refused", "no strace");
    }
    let folder = Folder::new("attach-traced");
    let mut command = Command::new("strace");
    command.args(["-qq", "-o", "/dev/null", "sh", "-c", "echo $$; read -r line"]).stdin(Stdio::piped());
    let mut guest = start(command);
    let pid = guest.must_say();
    refused(&folder, &["attach", "-t", &pid, "--offset", "1d"], "is traced by process");
    drop(guest.stdin());
    guest.finish();
}

#[test]
fn a_32_bit_program_is_refused_and_goes_on() {
    const TEST: &str = "a_32_bit_program_is_refused_and_goes_on";
    let path = match guest_as("clocks", Build::Bits32) {
        Ok(path) => path,
        Err(reason) => return skip(TEST, &reason),
    };
    let folder = Folder::new("attach-32");
    let mut guest = Asked::new(Command::new(path));
    guest.ask();
    refused(&folder, &["attach", "-t", &id(&guest.guest), "--offset", "1d"], "32-bit");
    let answer = guest.ask();
    Shift::default().check("after a refusal", &answer.readings, &answer.before, &answer.after);
    guest.finish().success();
}

#[test]
fn a_program_that_waits_for_a_vfork_child_is_refused_until_that_has_gone() {
    let folder = Folder::new("attach-vfork");
    let mut command = Command::new(guest("vforks"));
    command.stdin(Stdio::piped());
    let mut guest = start(command);
    let mut stdin = guest.stdin();
    assert_eq!(guest.must_say(), "waiting");
    let pid = id(&guest);
    refused(&folder, &["attach", "-t", &pid, "--offset", "1d", "--name", "refused"], "cannot be stopped");
    stdin.write_all(b"\n").unwrap();
    until("it has gone", || elsewhen::tree(pid.parse().unwrap()).is_ok_and(|tree| tree.len() == 1));
    attach(&folder, &pid, &["--offset", "10d"]);
    let before = Host::now().of(5);
    stdin.write_all(b"?\n").unwrap();
    let seconds: i128 = guest.must_say().parse().unwrap();
    let after = Host::now().of(0);
    assert!(((before + 10 * DAY) / SECOND..=(after + 10 * DAY) / SECOND).contains(&seconds), "{seconds}");
    drop(stdin);
    guest.finish().success();
}

#[test]
fn a_program_of_another_user_is_refused() {
    if !harness::is_root() {
        return skip("a_program_of_another_user_is_refused", "needs root");
    }
    let folder = Folder::new("attach-user");
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut guest = Asked::new(Command::new(guest("clocks")));
    let pid = id(&guest.guest);
    let binary = folder.copy(ELSEWHEN, "elsewhen", 0o755);
    let mut command = Command::new(binary);
    command.args(["attach", "-t", &pid, "--offset", "1d"]).env_remove("ELSEWHEN_RUNTIME_DIR").stdin(Stdio::null());
    command.uid(65534).gid(65534);
    let outcome = run(command);
    assert_eq!(outcome.code(), 125, "{outcome:?}");
    assert!(outcome.stderr.contains("permission denied"), "{outcome:?}");
    let answer = guest.ask();
    Shift::default().check("the program", &answer.readings, &answer.before, &answer.after);
    guest.finish().success();
}

/// Whether a process runs that has this among its arguments.
fn runs(argument: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|found| found == argument.as_bytes())
    })
}

/// Has a tool, which takes so long by itself, killed at many points in time: few while it starts, and some when it has surely
/// ended. `round` is given these, and says whether the tool had done its work. Some must come before that and some after:
/// there are more rounds, earlier or later ones, until that is so.
fn kill_at_many_moments(took: Duration, mut round: impl FnMut(usize, Duration) -> bool) {
    const MORE: usize = 20;
    let within = (0..30).map(|step| 0.3 + 0.03 * f64::from(step));
    let parts: Vec<f64> = within.chain([1.5, 2.0, 3.0]).collect();
    let (mut done, mut not_done) = (0, 0);
    let mut part = 1.0;
    for at in 0..parts.len() + MORE {
        if at >= parts.len() && done > 0 && not_done > 0 {
            break;
        }
        part = match parts.get(at) {
            Some(part) => *part,
            None if done == 0 => part * 2.0,
            None => part.min(1.0) * 0.7,
        };
        *if round(at, took.mul_f64(part)) { &mut done } else { &mut not_done } += 1;
    }
    println!("it was killed {done} times after its work was done, and {not_done} times before");
    assert!(done > 0 && not_done > 0, "{done} times it was done, {not_done} times not: some of each must be tried");
}

#[test]
fn a_tool_that_is_killed_leaves_right_clocks_of_one_side() {
    let folder = Folder::new("attach-killed");
    let took = {
        let hammer = Hammer::start(3);
        let began = Instant::now();
        attach(&folder, &id(&hammer.guest), &["--offset", "1h"]);
        began.elapsed()
    };
    kill_at_many_moments(took, |round, moment| {
        let mut hammer = Hammer::start(3);
        let pid = id(&hammer.guest);
        let name = format!("killed-{round}");
        let mut command = cli(&folder, &["attach", "-t", &pid, "--offset", "1h", "--name", &name]);
        command.process_group(0).stderr(Stdio::null());
        let mut tool = command.spawn().unwrap();
        sleep(moment);
        let group = Pid::from_child(&tool);
        // Both processes of it, but where the second has a session of its own already.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        tool.wait().unwrap();
        // What has a session of its own completes the work, and a thread that was sent comes to its end by itself.
        until("it has entered, or nobody is left to let it enter", || hammer.is_ahead(HOUR) || !runs(&name));
        let mut has_entered = hammer.settles(HOUR);
        if !has_entered {
            // It can still enter, unless the thread has come to its end only now.
            let repaired = format!("repaired-{round}");
            let again = run(cli(&folder, &["attach", "-t", &pid, "--offset", "2h", "--name", &repaired]));
            if again.status.success() {
                assert!(hammer.is_ahead(2 * HOUR), "round {round}: after it was repaired");
            } else {
                has_entered = true;
                assert!(again.stderr.contains("is in a namespace already"), "round {round}: {again:?}");
                until("the thread has come to its end", || hammer.is_ahead(HOUR));
            }
        }
        detach(&folder, &pid);
        assert!(hammer.is_ahead(0), "round {round}: after it has left");
        hammer.finish_interrupted();
        has_entered
    });
}

#[test]
fn a_tool_that_is_killed_while_a_process_leaves_leaves_right_clocks_of_one_side() {
    let folder = Folder::new("detach-killed");
    let mut hammer = Hammer::start(3);
    let pid = id(&hammer.guest);
    let original = original_of(&pid);
    run(cli(&folder, &["create", "away", "--offset", "1h"])).success();
    attach(&folder, &pid, &["--to", "away"]);
    let began = Instant::now();
    detach(&folder, &pid);
    let took = began.elapsed();
    kill_at_many_moments(took, |round, moment| {
        attach(&folder, &pid, &["--to", "away"]);
        assert!(hammer.is_ahead(HOUR), "round {round}");
        let mut command = cli(&folder, &["detach", "-t", &pid]);
        let mut tool = command.stderr(Stdio::null()).spawn().unwrap();
        sleep(moment);
        // Fails where it has ended, and has then done all of it.
        let _ = tool.kill();
        tool.wait().unwrap();
        let has_left = !hammer.settles(HOUR);
        hammer.leaves_wholly(&folder, &original, &format!("round {round}"));
        has_left
    });
    hammer.finish_interrupted();
}

const KILL: &str = "signal=KILL";

/// Runs a command of elsewhen to which something happens, as `strace(1)` injects it, right before the call of this kind and
/// number that one of its threads makes. Whether it did not succeed.
fn is_hit(folder: &Folder, what: &str, call: &str, number: u32, arguments: &[&str]) -> bool {
    let mut command = Command::new("strace");
    // The tracer stays for as long as the supervisor does: it is no parent of the command.
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:{what}:when={number}"), ELSEWHEN]).args(arguments);
    command.env("ELSEWHEN_RUNTIME_DIR", folder.path());
    let mut tool = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut status = None;
    until("the tool has ended", || {
        status = tool.try_wait().unwrap();
        status.is_some()
    });
    !status.unwrap().success()
}

/// Does something for the first call of a kind, the second and so on, until it says that there was none, and for other
/// kinds at the same time.
fn at_every<const N: usize>(calls: [&str; N], act: impl Fn(&str, u32) -> bool + Sync) {
    at_once(calls.map(|call| {
        let act = &act;
        let all = move || {
            let hit = (1..).take_while(|number| act(call, *number)).count();
            println!("it was hit at {hit} calls of {call}");
            assert!(hit > 0, "no {call} was met");
        };
        Box::new(all) as Box<_>
    }));
}

#[test]
fn a_tool_that_is_killed_before_it_writes_leaves_a_process_that_can_enter() {
    const TEST: &str = "a_tool_that_is_killed_before_it_writes_leaves_a_process_that_can_enter";
    if !has("strace") {
        return skip(TEST, "no strace");
    }
    let folder = Folder::new("attach-killed-at");
    at_every(["pwrite64", "ioctl", "pidfd_getfd"], |call, number| {
        let mut hammer = Hammer::start(2);
        let pid = id(&hammer.guest);
        let when = format!("{call} {number}");
        let name = format!("{call}-{number}");
        let is_killed = is_hit(&folder, KILL, call, number, &["attach", "-t", &pid, "--offset", "1h", "--name", &name]);
        if !hammer.settles(HOUR) {
            assert!(is_killed, "{when}");
            attach(&folder, &pid, &["--offset", "2h", "--name", &format!("{name}-again")]);
            assert!(hammer.is_ahead(2 * HOUR), "{when}");
        }
        detach(&folder, &pid);
        assert!(hammer.is_ahead(0), "{when}");
        hammer.finish_interrupted();
        is_killed
    });
}

#[test]
fn a_tool_that_is_killed_before_it_writes_leaves_a_process_that_can_leave() {
    const TEST: &str = "a_tool_that_is_killed_before_it_writes_leaves_a_process_that_can_leave";
    if !has("strace") {
        return skip(TEST, "no strace");
    }
    let folder = Folder::new("detach-killed-at");
    run(cli(&folder, &["create", "away", "--offset", "1h"])).success();
    at_every(["pwrite64"], |call, number| {
        let mut hammer = Hammer::start(2);
        let pid = id(&hammer.guest);
        let original = original_of(&pid);
        let when = format!("{call} {number}");
        attach(&folder, &pid, &["--to", "away"]);
        let is_killed = is_hit(&folder, KILL, call, number, &["detach", "-t", &pid]);
        let is_inside = hammer.settles(HOUR);
        assert!(is_killed || !is_inside, "{when}");
        hammer.leaves_wholly(&folder, &original, &when);
        hammer.finish_interrupted();
        is_killed
    });
}

#[test]
fn a_tool_that_fails_leaves_a_process_that_can_enter() {
    const TEST: &str = "a_tool_that_fails_leaves_a_process_that_can_enter";
    if !has("strace") {
        return skip(TEST, "no strace");
    }
    let folder = Folder::new("attach-fails-at");
    at_every(["pwrite64", "ioctl", "pidfd_getfd"], |call, number| {
        let mut hammer = Hammer::start(2);
        let pid = id(&hammer.guest);
        let when = format!("{call} {number}");
        let name = format!("{call}-{number}");
        let enter = ["attach", "-t", &pid, "--offset", "1h", "--name", &name];
        let has_failed = is_hit(&folder, "error=EIO", call, number, &enter);
        let is_member = hammer.settles(HOUR);
        if has_failed {
            assert!(!is_member, "{when}");
            let again =
                run(cli(&folder, &["attach", "-t", &pid, "--offset", "2h", "--name", &format!("{name}-again")]));
            assert!(hammer.is_ahead(if again.status.success() { 2 * HOUR } else { 0 }), "{when}: {again:?}");
            // Whoever has failed stays to let pass what the process announces.
            assert!(again.status.success() || again.stderr.contains("has a supervisor"), "{when}: {again:?}");
        } else {
            detach(&folder, &pid);
            assert!(hammer.is_ahead(0), "{when}");
        }
        hammer.finish();
        has_failed
    });
}

#[test]
fn a_process_with_no_descriptor_left_is_refused_and_goes_on() {
    let folder = Folder::new("attach-descriptors");
    let mut hammer = Hammer::start(2);
    let pid = id(&hammer.guest);
    let process = hammer.guest.id();
    let limit_to = |current: Option<u64>| {
        let limit = rustix::process::Rlimit { current, maximum: Some(64) };
        rustix::process::prlimit(Some(process), rustix::process::Resource::Nofile, limit).unwrap();
    };
    // Its three, and none for a filter's listener.
    limit_to(Some(3));
    refused(&folder, &["attach", "-t", &pid, "--offset", "1h"], "too many open files");
    assert!(hammer.is_ahead(0));
    limit_to(Some(64));
    attach(&folder, &pid, &["--offset", "1h", "--name", "first"]);
    assert!(hammer.is_ahead(HOUR));
    detach(&folder, &pid);
    // None for the page.
    limit_to(Some(3));
    refused(&folder, &["attach", "-t", &pid, "--offset", "1h", "--name", "second"], "too many open files");
    assert!(hammer.is_ahead(0));
    limit_to(Some(64));
    attach(&folder, &pid, &["--offset", "1h", "--name", "third"]);
    assert!(hammer.is_ahead(HOUR));
    hammer.finish();
}
