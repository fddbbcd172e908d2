//! Namespaces with names: found, changed, listed, waited for, removed; and namespaces in namespaces.

use crate::harness::{
    self, Asked, DAY, ELSEWHEN, Folder, HOUR, Host, Outcome, SECOND, Shift, cli, guest, run, skip, start,
    unless_each_time_back, until,
};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[track_caller]
fn does(folder: &Folder, arguments: &[&str]) -> String {
    let outcome = run(cli(folder, arguments));
    assert!(outcome.status.success() && outcome.stderr.is_empty(), "{arguments:?}: {outcome:?}");
    outcome.stdout
}

#[track_caller]
fn fails(folder: &Folder, arguments: &[&str], code: i32, reason: &str) -> Outcome {
    let outcome = run(cli(folder, arguments));
    assert_eq!(outcome.code(), code, "{arguments:?}: {outcome:?}");
    assert!(outcome.stderr.contains(reason) && outcome.stderr.lines().count() == 1, "{arguments:?}: {outcome:?}");
    outcome
}

/// The names in a folder, after it has been looked at. Other tests have namespaces in others.
fn names(folder: &Folder) -> Vec<String> {
    let listed = does(folder, &["ls", "-n", "-o", "NAME"]);
    let entries = fs::read_dir(folder.at("elsewhen")).unwrap();
    let entries = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // By which writers exclude each other, in all of them.
    let names: Vec<String> = entries.filter(|name| name != ".lock").collect();
    assert!(names.iter().all(|name| listed.lines().any(|line| line == name)), "{names:?}: {listed}");
    names
}

/// A `clocks` guest that answers, in a namespace.
fn member(folder: &Folder, arguments: &[&str]) -> Asked {
    let mut command = cli(folder, arguments);
    command.arg("--").arg(guest("clocks"));
    Asked::new(command)
}

#[track_caller]
fn reads(guest: &mut Asked, shift: Shift) {
    let answer = guest.ask();
    shift.check("the member", &answer.readings, &answer.before, &answer.after);
}

#[test]
fn a_name_is_found_by_others_and_gone_with_its_last_member() {
    let folder = Folder::new("names-run");
    let mut first = member(&folder, &["run", "--name", "lab", "--offset", "10d"]);
    reads(&mut first, Shift::realtime(10 * DAY));
    let mut second = member(&folder, &["exec", "lab"]);
    reads(&mut second, Shift::realtime(10 * DAY));
    does(&folder, &["set", "lab", "--by", "1h"]);
    reads(&mut first, Shift::realtime(10 * DAY + HOUR));
    reads(&mut second, Shift::realtime(10 * DAY + HOUR));
    assert_eq!(names(&folder), ["lab"]);
    fails(&folder, &["run", "--name", "lab", "--", "true"], 125, "a namespace \"lab\" already");
    fails(&folder, &["rm", "lab"], 125, "has members");
    first.finish().success();
    sleep(Duration::from_millis(100));
    reads(&mut second, Shift::realtime(10 * DAY + HOUR));
    assert_eq!(names(&folder), ["lab"]);
    second.finish().success();
    until("its name is free", || names(&folder).is_empty());
    fails(&folder, &["exec", "lab", "--", "true"], 125, "no namespace \"lab\"");
}

#[test]
fn what_was_created_stays_until_it_is_removed() {
    let folder = Folder::new("names-create");
    does(&folder, &["create", "lab", "--at", "2038-01-19T03:14:00Z", "--freeze", "--adjustable"]);
    assert_eq!(does(&folder, &["exec", "lab", "--", "date", "-u", "+%F %T"]), "2038-01-19 03:14:00\n");
    assert_eq!(names(&folder), ["lab"]);
    let outcome = run(cli(&folder, &["exec", "lab", "--", "sh", "-c", "exit 7"]));
    assert_eq!(outcome.code(), 7);
    does(&folder, &["set", "lab", "--by", "1h", "--rate", "monotonic=2"]);
    assert_eq!(does(&folder, &["exec", "lab", "--", "date", "-u", "+%F %T"]), "2038-01-19 04:14:00\n");
    let shown = does(&folder, &["show", "lab"]);
    for line in [
        "name       lab",
        "realtime   2038-01-19T04:14:00",
        "frozen",
        "rate 2",
        "prepared   realtime, monotonic, boottime, rate",
        "members    0",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    does(&folder, &["set", "lab", "--thaw"]);
    assert!(!does(&folder, &["show", "lab"]).contains("frozen"));
    // The supervisors of what has been executed may have to end first.
    until("nobody holds it", || run(cli(&folder, &["rm", "lab"])).status.success());
    assert!(names(&folder).is_empty());
    fails(&folder, &["rm", "lab"], 125, "no namespace \"lab\"");
    fails(&folder, &["set", "lab", "--by", "1s"], 125, "no namespace \"lab\"");
}

#[test]
fn a_forced_removal_leaves_members_their_clocks() {
    let folder = Folder::new("names-force");
    let mut guest = member(&folder, &["run", "--name", "lab", "--offset", "1d"]);
    reads(&mut guest, Shift::realtime(DAY));
    does(&folder, &["rm", "--force", "lab"]);
    reads(&mut guest, Shift::realtime(DAY));
    assert!(names(&folder).is_empty());
    guest.finish().success();
}

#[test]
fn bad_requests_are_refused_with_a_reason() {
    let folder = Folder::new("names-bad");
    does(&folder, &["create", "lab"]);
    fails(&folder, &["set", "lab"], 125, "nothing is asked for");
    fails(&folder, &["set", "lab", "--by", "1h", "--offset", "1h"], 125, "name each clock once");
    fails(&folder, &["set", "lab", "--by", "monotonic=-1h"], 125, "not prepared");
    fails(&folder, &["set", "lab", "--at", "1969-01-01"], 125, "1970");
    fails(&folder, &["set", "lab", "--by", "1h", "--smooth", "-1s"], 125, "negative");
    fails(&folder, &["set", "lab", "--by", "1h", "--smooth", "50ms"], 125, "a tenth of a second");
    fails(&folder, &["set", "lab", "--by", "-1h", "--smooth", "1s"], 125, "give it more time");
    fails(&folder, &["create", "../lab"], 125, "invalid name");
    fails(&folder, &["exec", "../lab", "--", "true"], 125, "invalid name");
    fails(&folder, &["rm", "../lab", "--force"], 125, "invalid name");
    fails(&folder, &["ls", "-o", "NAME,COLOUR"], 125, "no column \"COLOUR\"");
    let outsider = std::process::id().to_string();
    fails(&folder, &["show", &outsider], 1, "is in no namespace");
    fails(&folder, &["set", &outsider, "--by", "1h"], 125, "is in no namespace");
    fails(&folder, &["wait", "lab", "--until", "never"], 125, "--until");
    // What is no namespace is not taken for one, and not removed.
    folder.write("elsewhen/text", "no page", 0o600);
    fails(&folder, &["exec", "text", "--", "true"], 125, "not the page of a namespace");
    assert!(folder.at("elsewhen/text").exists());
}

#[test]
fn a_member_of_no_named_namespace_is_said_to_be_out_of_reach() {
    let folder = Folder::new("names-unnamed");
    let mut command = cli(&folder, &["run", "--offset", "1d", "--", "sh", "-c", "echo $$; read -r a || :"]);
    command.stdin(Stdio::piped());
    let mut guest = start(command);
    let pid = guest.must_say();
    fails(&folder, &["set", &pid, "--by", "1h"], 125, "without a name");
    let shown = does(&folder, &["show", &pid, "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert!(shown["name"].is_null());
    assert_eq!(shown["members"][0]["pid"].to_string(), pid);
    drop(guest.stdin());
    guest.finish().success();
}

#[test]
fn json_says_what_the_tables_say() {
    let folder = Folder::new("names-json");
    let mut guest = member(&folder, &["run", "--name", "lab", "--offset", "-1h", "--rate", "realtime=2", "--settable"]);
    reads_once(&mut guest);
    let before = Host::now();
    let shown: serde_json::Value = serde_json::from_str(&does(&folder, &["show", "lab", "--json"])).unwrap();
    let after = Host::now();
    assert_eq!(shown["name"], "lab");
    assert_eq!(shown["clocks"]["realtime"]["rate"], 2.0);
    assert_eq!(shown["settable"], true);
    assert_eq!(shown["files"], "real");
    let host = i128::from(shown["clocks"]["realtime"]["host_ns"].as_i64().unwrap());
    assert!((before.of(0)..=after.of(0)).contains(&host));
    let offset = shown["clocks"]["realtime"]["offset_ns"].as_i64().unwrap();
    assert!(offset >= -3_600_000_000_000);
    assert_eq!(shown["clocks"]["monotonic"]["offset_ns"], 0);
    let listed: serde_json::Value = serde_json::from_str(&does(&folder, &["ls", "--json"])).unwrap();
    let rows = listed["namespaces"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == "lab").unwrap();
    assert_eq!((&row["members"], &row["rate"]), (&1.into(), &2.0.into()));
    assert_eq!(row["pid"], shown["members"][0]["pid"]);
    let watched = does(&folder, &["watch", "lab", "--interval", "10ms", "--count", "3"]);
    assert_eq!(watched.lines().count(), 4, "{watched}");
    assert!(watched.starts_with("NAME"), "{watched}");
    guest.finish().success();
}

fn reads_once(guest: &mut Asked) {
    assert!(!guest.ask().readings.is_empty());
}

#[test]
fn waiting_for_a_date_follows_changes() {
    let folder = Folder::new("names-wait");
    does(&folder, &["create", "lab", "--at", "2030-01-01T00:00:00Z", "--freeze", "--adjustable"]);
    let waits = |until: &str| {
        start({
            let mut command = cli(&folder, &["wait", "lab", "--until", until]);
            command.stderr(Stdio::piped());
            command
        })
    };
    let given_up = run(cli(&folder, &["wait", "lab", "--until", "2030-01-02", "--timeout", "300ms"]));
    assert!(given_up.code() == 1 && given_up.stderr.contains("has not been reached"), "{given_up:?}");
    let mut waiting = waits("2030-01-01T10:00:00Z");
    until("it says that it may wait for ever", || waiting.errors().contains("stands still"));
    sleep(Duration::from_millis(300));
    assert!(!waiting.has_ended());
    does(&folder, &["set", "lab", "--at", "2030-01-01T10:00:00Z"]);
    let outcome = waiting.finish().success();
    assert!(outcome.stderr.contains("stands still"), "{outcome:?}");
    // Ten minutes in 0.6 seconds.
    does(&folder, &["set", "lab", "--rate", "1000"]);
    let shown: serde_json::Value = serde_json::from_str(&does(&folder, &["show", "lab", "--json"])).unwrap();
    let ns = shown["clocks"]["realtime"]["member_ns"].as_i64().unwrap();
    let date = format!("@{}", ns / 1_000_000_000 + 600);
    let began = Instant::now();
    waits(&date).finish().success();
    assert!(began.elapsed() < Duration::from_secs(20));
    let shown: serde_json::Value = serde_json::from_str(&does(&folder, &["show", "lab", "--json"])).unwrap();
    assert!(shown["clocks"]["realtime"]["member_ns"].as_i64().unwrap() / 1_000_000_000 >= ns / 1_000_000_000 + 600);
    let removed = waits("2200-01-01");
    let maps = format!("/proc/{}/maps", removed.id().as_raw_nonzero());
    let holds = |maps: String| maps.contains(folder.path().to_str().unwrap());
    until("it has the namespace", || fs::read_to_string(&maps).is_ok_and(holds));
    does(&folder, &["rm", "--force", "lab"]);
    let outcome = removed.finish();
    assert!(outcome.code() == 125 && outcome.stderr.contains("has been removed"), "{outcome:?}");
}

#[test]
fn a_smooth_change_never_jumps() {
    let folder = Folder::new("names-smooth");
    let script = "import time\nstart = before = time.monotonic()\nlast = time.time()\nmost = 0\nprint('ready', flush=True)\n\
        while time.monotonic() - start < 5:\n    m = time.monotonic(); now = time.time(); after = time.monotonic()\n    most = max(most, now - last - 3 * (after - before))\n    assert now >= last, 'back'\n    last = now; before = m\n\
        print('%.6f' % most)";
    let mut command = cli(&folder, &["run", "--name", "lab", "--", "python3", "-c", script]);
    command.stdin(Stdio::null());
    let mut guest = start(command);
    assert_eq!(guest.must_say(), "ready");
    does(&folder, &["set", "lab", "--by", "6s", "--smooth", "3s"]);
    let slewing: serde_json::Value = serde_json::from_str(&does(&folder, &["show", "lab", "--json"])).unwrap();
    assert_eq!(slewing["clocks"]["realtime"]["rate"], 3.0, "{slewing}");
    assert_eq!(slewing["clocks"]["realtime"]["change_ahead"]["rate"], 1.0, "{slewing}");
    let most: f64 = guest.must_say().parse().unwrap();
    // So much more than at three times the pace of a clock that goes on.
    assert!(most < 0.01, "a step of {most} s");
    let settled: serde_json::Value = serde_json::from_str(&does(&folder, &["ls", "--json"])).unwrap();
    drop(settled);
    guest.finish().success();
}

#[test]
fn a_name_can_be_used_again_at_once() {
    let folder = Folder::new("names-again");
    for _ in 0..20 {
        does(&folder, &["run", "--name", "lab", "--", "true"]);
    }
}

#[test]
fn letting_clocks_go_on_needs_no_preparation_and_ends_nothing() {
    let folder = Folder::new("names-thaw");
    does(&folder, &["create", "lab", "--freeze"]);
    does(&folder, &["set", "lab", "--thaw"]);
    does(&folder, &["set", "lab", "--by", "1h", "--smooth", "1h"]);
    does(&folder, &["set", "lab", "--thaw"]);
    let shown: serde_json::Value = serde_json::from_str(&does(&folder, &["show", "lab", "--json"])).unwrap();
    assert_eq!(shown["clocks"]["realtime"]["rate"], 2.0, "{shown}");
    assert!(shown["clocks"]["realtime"]["change_ahead"]["in"].as_f64().unwrap() > 3000.0, "{shown}");
}

#[test]
fn what_a_member_is_called_moves_no_terminals_cursor() {
    let folder = Folder::new("named-printed");
    let script = "echo ready; read line; true";
    let mut command = cli(&folder, &["run", "--name", "odd", "--", "sh", "-c", script, "\x1b[31m\nforged"]);
    command.stdin(Stdio::piped());
    let mut guest = start(command);
    assert_eq!(guest.must_say(), "ready");
    for arguments in [&["ls"][..], &["show", "odd"]] {
        let listed = does(&folder, arguments);
        assert!(listed.contains("forged") && !listed.contains('\x1b'), "{listed:?}");
        assert!(!listed.lines().any(|line| line.starts_with("forged")), "{listed:?}");
    }
    drop(guest.stdin());
    guest.finish().success();
}

#[test]
fn entries_of_the_dead_are_cleaned_up() {
    let folder = Folder::new("names-stale");
    let mut guest = member(&folder, &["run", "--name", "lab", "--offset", "1d"]);
    reads(&mut guest, Shift::realtime(DAY));
    let front = guest.guest.id().as_raw_nonzero().get();
    let supervisor = elsewhen_linux::process::children(front as u32)[0];
    let program = elsewhen_linux::process::children(supervisor)[0];
    for pid in [supervisor, program] {
        kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    }
    drop(guest);
    until("its entry is gone", || names(&folder).is_empty());
    assert!(!folder.at("elsewhen/lab").exists());
}

#[test]
fn other_users_have_no_part_in_it() {
    if !harness::is_root() {
        return skip("other_users_have_no_part_in_it", "needs root");
    }
    let folder = Folder::new("names-users");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let binary = folder.copy(ELSEWHEN, "elsewhen-binary", 0o755);
    let mut guest = member(&folder, &["run", "--name", "lab", "--offset", "1d"]);
    reads(&mut guest, Shift::realtime(DAY));
    for arguments in [["ls", "-n", "-o", "NAME"], ["set", "lab", "--by", "1h"], ["exec", "lab", "--", "true"]] {
        let mut command = Command::new(&binary);
        command.args(arguments).env("ELSEWHEN_RUNTIME_DIR", folder.path()).stdin(Stdio::null());
        let outcome = run({
            command.uid(65534).gid(65534);
            command
        });
        assert_eq!(outcome.code(), 125, "{arguments:?}: {outcome:?}");
        assert!(outcome.stderr.contains("only you can look into"), "{arguments:?}: {outcome:?}");
    }
    // A member of another user cannot write the page that it maps.
    let script = "import glob, os, sys\nos.setgid(65534); os.setuid(65534)\n\
        path = sys.argv[1]\n\
        for way in [path] + glob.glob('/proc/self/map_files/ff000-*'):\n    try:\n        open(way, 'r+b'); print('opened', way)\n    except OSError as error:\n        print('refused')\n";
    let page = folder.at("elsewhen/lab");
    let tried = does(&folder, &["exec", "lab", "--", "python3", "-c", script, page.to_str().unwrap()]);
    assert!(!tried.contains("opened") && tried.contains("refused"), "{tried}");
    reads(&mut guest, Shift::realtime(DAY));
    guest.finish().success();
}

#[test]
fn a_folder_that_others_can_look_into_is_refused() {
    let folder = Folder::new("names-folder");
    fs::create_dir(folder.at("elsewhen")).unwrap();
    fs::set_permissions(folder.at("elsewhen"), fs::Permissions::from_mode(0o755)).unwrap();
    fails(&folder, &["create", "lab"], 125, "only you can look into");
    fs::remove_dir(folder.at("elsewhen")).unwrap();
    std::os::unix::fs::symlink("/tmp", folder.at("elsewhen")).unwrap();
    fails(&folder, &["create", "lab"], 125, "only you can look into");
}

#[test]
fn writers_that_meet_or_die_never_break_the_clocks() {
    unless_each_time_back(writers_that_meet_or_die);
}

/// How often a reader saw a clock go back meanwhile.
fn writers_that_meet_or_die() -> u64 {
    let folder = Folder::new("names-writers");
    let mut command = cli(&folder, &["run", "--name", "lab", "--adjustable", "--"]);
    command.arg(guest("watch")).stdin(Stdio::piped());
    let mut guest = start(command);
    let mut stdin = guest.stdin();
    let set = |rate: &str| {
        let mut command = cli(&folder, &["set", "lab", "--rate", rate, "--by", "1s"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    for round in 0..40 {
        let (mut one, mut other) = (set("0.5"), set("2"));
        sleep(Duration::from_micros(500 + 150 * round));
        one.kill().unwrap();
        if round % 2 == 0 {
            other.kill().unwrap();
        }
        one.wait().unwrap();
        other.wait().unwrap();
    }
    // The next writer finds everything as it must be.
    does(&folder, &["set", "lab", "--rate", "1", "--offset", "1d"]);
    let before = Host::now().of(0);
    std::io::Write::write_all(&mut stdin, b"?\n").unwrap();
    let line = guest.must_say();
    let reading: i128 = line.split(' ').next().unwrap().parse().unwrap();
    assert!((before + DAY..=Host::now().of(0) + DAY).contains(&reading), "{line}");
    drop(stdin);
    let outcome = guest.finish().success();
    let last = outcome.stdout.lines().last().and_then(|line| line.strip_prefix("steps back ")?.parse().ok());
    last.unwrap_or_else(|| panic!("{outcome:?}"))
}

#[test]
fn a_namespace_in_a_namespace_starts_from_its_time() {
    let folder = Folder::new("names-nested");
    let script = "date +%s; $0 run --offset 1d -- sh -c 'date +%s; sh -c \"date +%s; :\"; $0 run --offset 1h -- date +%s' \"$0\"; \
        $0 create other --offset 2d; $0 exec other -- date +%s; date +%s";
    let before = Host::now().of(5);
    let printed = does(&folder, &["run", "--offset", "10d", "--", "sh", "-c", script, ELSEWHEN]);
    let after = Host::now().of(0);
    let away = [10 * DAY, 11 * DAY, 11 * DAY, 11 * DAY + HOUR, 12 * DAY, 10 * DAY];
    let seconds: Vec<i128> = printed.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(seconds.len(), away.len(), "{printed}");
    for (at, (seconds, away)) in seconds.into_iter().zip(away).enumerate() {
        assert!(((before + away) / SECOND..=(after + away) / SECOND).contains(&seconds), "line {at}: {printed}");
    }
    // From outside, the time of one that was made inside is what it is.
    let shown: serde_json::Value = serde_json::from_str(&does(&folder, &["show", "other", "--json"])).unwrap();
    let offset = i128::from(shown["clocks"]["realtime"]["offset_ns"].as_i64().unwrap());
    assert!((12 * DAY - SECOND..12 * DAY + SECOND).contains(&offset), "{offset}");
}

#[test]
fn rates_and_waits_multiply_in_a_namespace_in_a_namespace() {
    let folder = Folder::new("names-nested-rate");
    let began = Instant::now();
    let script = "exec $0 run --rate 10 -- sleep 100";
    does(&folder, &["run", "--rate", "20", "--", "sh", "-c", script, ELSEWHEN]);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn a_clock_set_inside_is_that_of_the_inner_namespace() {
    let folder = Folder::new("names-nested-set");
    let script = "$0 run --settable --name inner -- sh -c 'date -u -s 2040-01-01 >/dev/null; date -u +%Y'; date -u +%Y";
    let printed = does(&folder, &["run", "--at", "2030-06-01", "--settable", "--", "sh", "-c", script, ELSEWHEN]);
    assert_eq!(printed, "2040\n2030\n");
}
