//! Containers in their own time, started as engines start them: bundles, by runc and by crun.

use crate::harness::*;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Instant;

/// The program under test.
pub(crate) const OCI: &str = env!("CARGO_BIN_EXE_elsewhen-oci");
/// As an annotation.
pub(crate) const OFFSET: &str = "400d";
pub(crate) const OFFSET_S: i64 = 400 * 24 * 3600;

/// Makes a tree of cgroups of version 1 alone, says so, and waits for the end of the tests.
const CGROUP1: &str = "mount -t tmpfs -o mode=755 cg1 /sys/fs/cgroup || exit
for c in cpu cpuacct cpuset memory devices freezer blkio pids; do
  mkdir /sys/fs/cgroup/$c && mount -t cgroup -o $c cgroup /sys/fs/cgroup/$c || exit
done
mkdir /sys/fs/cgroup/systemd && mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd || exit
echo mounted
exec cat";

/// Where only cgroup version 1 controllers are mounted beside an empty version 2, which crun refuses: a process with mounts that crun
/// can use. There is one for all commands, since podman keeps in files what it has mounted: its next command must find it mounted.
static CGROUPS: LazyLock<Option<Child>> = LazyLock::new(|| {
    if !Path::new("/sys/fs/cgroup/unified").exists() {
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "bash", "-c", CGROUP1]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "mounted\n", "no cgroups of version 1");
    Some(child)
});

/// A command for programs that need one kind of cgroups.
pub(crate) fn with_cgroups(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let Some(child) = &*CGROUPS else { return Command::new(program) };
    let mut command = Command::new("nsenter");
    command.arg("-m").arg("-t").arg(child.id().to_string()).arg("--").arg(program);
    command
}

/// A root file system of busybox, with the host's libraries and programs in `/usr`.
pub(crate) static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let make = |to: &Path| {
        for folder in ["bin", "dev", "etc", "guests", "proc", "run", "sys", "tmp", "usr"] {
            fs::create_dir_all(to.join(folder)).unwrap();
        }
        install(Path::new("/bin/busybox"), &to.join("bin/busybox"), 0o755, "");
        for name in ["sh", "date", "sleep", "cat", "ps", "grep", "id", "true", "echo", "touch", "stat", "seq", "kill"] {
            symlink("busybox", to.join("bin").join(name)).unwrap();
        }
        for name in ["lib", "lib64", "lib32", "libx32"] {
            symlink(format!("usr/{name}"), to.join(name)).unwrap();
        }
        fs::write(to.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        Command::new("true")
    };
    make_once("rootfs", make).unwrap()
});

/// A runtime that is wrapped, with a state folder of its own.
struct Runtime {
    name: String,
    folder: Folder,
}

/// Every runtime of this machine; says which are missing.
fn runtimes(test: &str) -> Vec<Runtime> {
    if !is_root() || !has("busybox") || !Path::new("/bin/busybox").exists() {
        skip(test, "not root, or no busybox");
        return Vec::new();
    }
    let mut found = Vec::new();
    for (name, of) in [("runc", test), ("crun", test), ("youki", "containers_of_youki")] {
        if !has(name) {
            skip(of, &format!("no {name}"));
            continue;
        }
        found.push(Runtime::new(name, test));
    }
    found
}

impl Runtime {
    /// One that is found by its name or path.
    fn new(name: &str, test: &str) -> Self {
        let folder = Folder::new(&format!("oci-{}-{test}", name.replace('/', "-")));
        folder.write("oci.toml", &format!("runtime = '{name}'\nlog = '{}'\n", folder.at("log").display()), 0o644);
        Self { name: name.to_owned(), folder }
    }

    /// `elsewhen-oci ARGUMENTS`, in front of this runtime.
    fn command(&self, arguments: &[&str]) -> Command {
        self.command_in("state", arguments)
    }

    /// The same, with another folder for the runtime's containers.
    fn command_in(&self, root: &str, arguments: &[&str]) -> Command {
        let mut command = if self.name.contains("crun") { with_cgroups(OCI) } else { Command::new(OCI) };
        command.arg("--elsewhen-config").arg(self.folder.at("oci.toml")).arg("--root").arg(self.folder.at(root));
        command.args(arguments).env("ELSEWHEN_RUNTIME_DIR", self.folder.path()).stdin(Stdio::null());
        command
    }

    /// The runtime itself, behind the back of `elsewhen-oci`.
    fn direct(&self, arguments: &[&str]) -> Command {
        let mut command = if self.name.contains("crun") { with_cgroups(&self.name) } else { Command::new(&self.name) };
        command.arg("--root").arg(self.folder.at("state")).args(arguments).stdin(Stdio::null());
        command
    }

    /// A bundle whose program is a command of the shell.
    fn bundle(&self, id: &str, annotations: Value, script: &str) -> PathBuf {
        self.edited_bundle(id, annotations, script, |_| {})
    }

    fn edited_bundle(&self, id: &str, annotations: Value, script: &str, edit: impl FnOnce(&mut Value)) -> PathBuf {
        let bundle = self.folder.at(&format!("bundle-{id}"));
        let _ = fs::remove_dir_all(&bundle);
        fs::create_dir_all(&bundle).unwrap();
        let mut spec = Command::new(&self.name);
        spec.arg("spec").current_dir(&bundle);
        run(spec).success();
        let path = bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["noNewPrivileges"] = json!(false);
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        config["root"] = json!({ "path": &*ROOT, "readonly": true });
        config["annotations"] = annotations;
        let mounts = config["mounts"].as_array_mut().unwrap();
        let guests = guest("clocks");
        for (from, to) in [(Path::new("/usr"), "/usr"), (guests.parent().unwrap(), "/guests")] {
            mounts.push(json!({ "destination": to, "type": "bind", "source": from, "options": ["bind", "ro"] }));
        }
        edit(&mut config);
        fs::write(&path, config.to_string()).unwrap();
        bundle
    }

    /// `run` of a new container.
    fn run(&self, id: &str, annotations: Value, script: &str) -> Outcome {
        let bundle = self.bundle(id, annotations, script);
        run(self.command(&["run", "--bundle", bundle.to_str().unwrap(), id]))
    }

    /// Starts a container, as an engine does it.
    fn start(&self, id: &str, annotations: Value, script: &str) -> Container<'_> {
        let bundle = self.bundle(id, annotations, script);
        let output = fs::File::create(self.folder.at(&format!("{id}.out"))).unwrap();
        let mut create = self.command(&["create", "--bundle", bundle.to_str().unwrap(), id]);
        create.stdout(output.try_clone().unwrap()).stderr(output);
        assert!(create.status().unwrap().success(), "{}", self.output(id));
        let container = Container { runtime: self, id: id.to_owned() };
        run(self.command(&["start", id])).success();
        container
    }

    /// The same with one that waits, and has begun to: nothing more is to be executed for that.
    fn start_idle(&self, id: &str, annotations: Value) -> Container<'_> {
        let script = "busybox mkfifo /dev/shm/never; echo ready; read line </dev/shm/never";
        let container = self.start(id, annotations, script);
        until("it waits", || self.output(id) == "ready\n");
        container
    }

    /// What a container has written.
    fn output(&self, id: &str) -> String {
        fs::read_to_string(self.folder.at(&format!("{id}.out"))).unwrap()
    }

    /// `elsewhen ARGUMENTS`, where this runtime's containers are found.
    fn elsewhen(&self, arguments: &[&str]) -> Command {
        cli(&self.folder, arguments)
    }

    /// Fails where anything is left of containers that have ended.
    #[track_caller]
    fn check_nothing_is_left(&self) {
        let containers = self.folder.at("elsewhen/.containers");
        let left = || fs::read_dir(&containers).map_or(0, Iterator::count);
        until("no container is left", || left() == 0);
        let names = fs::read_dir(self.folder.at("elsewhen")).into_iter().flatten();
        let names = names.map(|entry| entry.unwrap().file_name());
        let names: Vec<_> = names.filter(|name| name != ".containers" && name != ".lock").collect();
        assert!(names.is_empty(), "namespaces are left: {names:?}");
    }

    /// The record of a container.
    fn record(&self, id: &str) -> Value {
        record_of(&self.folder.at("elsewhen/.containers"), id).unwrap_or_else(|| panic!("no record of {id}"))
    }

    /// Kills the agent of a container.
    fn kill_agent(&self, id: &str) {
        kill_whole(self.record(id)["agent"].as_i64().unwrap().try_into().unwrap());
    }
}

/// The record of a container, in the folder with those of all.
pub(crate) fn record_of(containers: &Path, id: &str) -> Option<Value> {
    let folders = fs::read_dir(containers).into_iter().flatten();
    let mut records = folders.filter_map(|folder| {
        serde_json::from_slice::<Value>(&fs::read(folder.ok()?.path().join("record.json")).ok()?).ok()
    });
    records.find(|record| record["id"] == id)
}

/// Starts a container that goes on, which has the streams of what starts it.
#[track_caller]
fn detach(mut command: Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// A container that runs; killed and deleted when the value goes.
struct Container<'a> {
    runtime: &'a Runtime,
    id: String,
}

impl Container<'_> {
    /// `exec` of a command of the shell.
    fn exec(&self, script: &str) -> Outcome {
        run(self.runtime.command(&["exec", &self.id, "/bin/sh", "-c", script]))
    }

    /// Checks the seconds that a session reads.
    #[track_caller]
    fn check(&self, what: &str, offset_s: i64) {
        let before = Host::now();
        let seen = self.exec("date +%s").success().stdout;
        check_seconds(what, &seen, offset_s, &before, &Host::now());
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.runtime.command(&["delete", "--force", &self.id]).output();
    }
}

fn ahead() -> Value {
    json!({ "org.elsewhen.offset": OFFSET })
}

#[test]
fn every_program_of_a_container_is_in_its_time() {
    for runtime in runtimes("every_program_of_a_container_is_in_its_time") {
        let before = Host::now();
        let script =
            "date +%s; /guests/clocks-dynamic; /usr/bin/python3 -c 'import time; print(\"py\", int(time.time()))'";
        let output = runtime.run("every", ahead(), script).success().stdout;
        let after = Host::now();
        check_seconds("date", &output, OFFSET_S, &before, &after);
        let rest = output.split_once('\n').unwrap().1;
        let (read, python) = rest.split_once("py ").map_or((rest, None), |(read, python)| (read, Some(python)));
        Shift::realtime(i128::from(OFFSET_S) * SECOND).check("clocks", &readings(read), &before, &after);
        if has("python3") {
            check_seconds("python", python.unwrap(), OFFSET_S, &before, &after);
        }
        runtime.check_nothing_is_left();
    }
}

#[test]
fn a_containers_first_process_is_its_program_and_gains_no_restriction() {
    for runtime in runtimes("a_containers_first_process_is_its_program_and_gains_no_restriction") {
        let script = "echo $$; grep -E 'NoNewPrivs|Cap|Uid' /proc/self/status";
        let with = runtime.run("first", ahead(), script).success().stdout;
        let without = runtime.run("plain", json!({}), script).success().stdout;
        assert_eq!(with, without);
        assert!(with.starts_with("1\n") && with.contains("NoNewPrivs:\t0"), "{with}");
    }
}

#[test]
fn a_container_that_asks_for_nothing_is_left_alone() {
    for runtime in runtimes("a_container_that_asks_for_nothing_is_left_alone") {
        let before = Host::now();
        let script = "date +%s; grep Seccomp: /proc/self/status";
        let sandbox = json!({ "org.elsewhen.offset": OFFSET, "io.kubernetes.cri.container-type": "sandbox" });
        for annotations in [json!({}), json!(null), sandbox] {
            let container = runtime.start("plain", annotations, "exec sleep 100");
            let output = container.exec(script).success().stdout;
            check_seconds("date", &output, 0, &before, &Host::now());
            assert!(output.contains("Seccomp:\t0"), "{output}");
            assert_eq!(record_of(&runtime.folder.at("elsewhen/.containers"), "plain"), None);
        }
    }
}

#[test]
fn sessions_in_a_container_are_in_its_time() {
    for runtime in runtimes("sessions_in_a_container_are_in_its_time") {
        let container = runtime.start("sessions", ahead(), "exec sleep 100");
        let before = Host::now();
        let output = container.exec("date +%s; sh -c 'date +%s'").success().stdout;
        let after = Host::now();
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines.len(), 2, "{output}");
        for line in lines {
            check_seconds("a session", line, OFFSET_S, &before, &after);
        }
        assert_eq!(container.exec("exit 7").code(), 7);
        assert!(!run(runtime.command(&["exec", "sessions", "/no/such/program"])).status.success());
        drop(container);
        runtime.check_nothing_is_left();
    }
}

#[test]
fn containers_are_listed_shown_and_changed_by_their_ids() {
    for runtime in runtimes("containers_are_listed_shown_and_changed_by_their_ids") {
        let container = runtime.start("4711-web", json!({ "org.elsewhen.offset": "1h" }), "exec sleep 100");
        let list = run(runtime.elsewhen(&["ls", "--json"])).success().stdout;
        let list: Value = serde_json::from_str(&list).unwrap();
        let mut listed = list["namespaces"].as_array().unwrap().iter();
        assert!(listed.any(|namespace| namespace["container"]["id"] == "4711-web"), "{list}");
        let shown = run(runtime.elsewhen(&["show", "4711-w"])).success().stdout;
        assert!(shown.contains("container  4711-web (4711-web), agent "), "{shown}");
        run(runtime.elsewhen(&["set", "--container", "4711", "--offset", OFFSET])).success();
        let before = Host::now();
        check_seconds("a session", &container.exec("date +%s").success().stdout, OFFSET_S, &before, &Host::now());
        let refused = run(runtime.elsewhen(&["set", "--container", "4712", "--offset", "1h"]));
        assert_eq!(refused.code(), 125);
        assert!(refused.stderr.contains("no container \"4712\""), "{}", refused.stderr);
    }
}

#[test]
fn a_change_wakes_who_waits_in_a_container_whoever_it_is() {
    for runtime in runtimes("a_change_wakes_who_waits_in_a_container_whoever_it_is") {
        let bundle = runtime.edited_bundle("waits", json!({ "org.elsewhen.rate": "1" }), "exec sleep 2000", |config| {
            config["process"]["user"] = json!({ "uid": 1234, "gid": 1234 });
        });
        let run = start(runtime.command(&["run", "--bundle", bundle.to_str().unwrap(), "waits"]));
        let namespace = || runtime.elsewhen(&["show", "--json", "waits"]).output().unwrap().stdout;
        until("it runs", || String::from_utf8_lossy(&namespace()).contains("sleep 2000"));
        crate::harness::run(runtime.elsewhen(&["set", "waits", "--rate", "1000"])).success();
        run.finish().success();
        runtime.check_nothing_is_left();
    }
}

#[test]
fn settings_of_the_environment_are_heard_and_paces_apply() {
    for runtime in runtimes("settings_of_the_environment_are_heard_and_paces_apply") {
        let bundle = runtime.edited_bundle("env", json!(null), "date +%s; sleep 2000; date +%s", |config| {
            let env = config["process"]["env"].as_array_mut().unwrap();
            env.extend([json!("ELSEWHEN_RATE=1000"), json!("ELSEWHEN_NAME=lab"), json!("ELSEWHEN_FILES=follow")]);
        });
        let before = Host::now();
        let output = run(runtime.command(&["run", "--bundle", bundle.to_str().unwrap(), "env"])).success().stdout;
        let after = Host::now();
        let seconds: Vec<i64> = output.lines().map(|line| line.parse().unwrap()).collect();
        let passed = i128::from(seconds[1] - seconds[0]) * SECOND;
        assert!(passed >= 1999 * SECOND, "{output}");
        assert!(passed <= (after.of(1) - before.of(1)) * 1000 + SECOND, "{output}");
        runtime.check_nothing_is_left();
    }
}

#[test]
fn what_cannot_be_is_refused_in_one_line_and_starts_nothing() {
    for runtime in runtimes("what_cannot_be_is_refused_in_one_line_and_starts_nothing") {
        let notify = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["mount"], "action": "SCMP_ACT_NOTIFY" }] });
        for (annotations, seccomp, reason) in [
            (json!({ "org.elsewhen.at": "someday" }), json!(null), "org.elsewhen.at: date \"someday\""),
            (json!({ "org.elsewhen.ofset": "1h" }), json!(null), "org.elsewhen.ofset: there is no such setting"),
            (json!({ "org.elsewhen.at": "3000-01-01T00:00:00Z" }), json!(null), "2262"),
            (ahead(), notify, "seccomp profile has a listener"),
        ] {
            let bundle = runtime.edited_bundle("refused", annotations, "echo started", |config| {
                config["linux"]["seccomp"] = seccomp;
            });
            let log = runtime.folder.at("runtime.log");
            let arguments = ["--log", log.to_str().unwrap(), "--log-format", "json", "run", "--bundle"];
            let mut command = runtime.command(&arguments);
            command.arg(bundle).arg("refused");
            let outcome = run(command);
            assert_eq!(outcome.code(), 1, "{outcome:?}");
            assert_eq!(outcome.stdout, "");
            assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
            assert!(outcome.stderr.starts_with("elsewhen-oci: ") && outcome.stderr.contains(reason), "{outcome:?}");
            let log = fs::read_to_string(log).unwrap();
            let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
            assert!(last["level"] == "error" && last["msg"].as_str().unwrap().contains(reason), "{log}");
        }
        runtime.check_nothing_is_left();
    }
}

#[test]
fn a_name_that_is_taken_keeps_a_container_from_starting() {
    for runtime in runtimes("a_name_that_is_taken_keeps_a_container_from_starting") {
        let named = json!({ "org.elsewhen.name": "lab", "org.elsewhen.offset": "1h" });
        let first = runtime.start("one", named.clone(), "exec sleep 100");
        let outcome = runtime.run("two", named, "echo started");
        assert_eq!(outcome.code(), 1);
        assert!(outcome.stderr.contains("there is a namespace \"lab\" already"), "{outcome:?}");
        drop(first);
        runtime.check_nothing_is_left();
    }
}

#[test]
fn clocks_go_on_when_the_agent_dies_and_the_next_session_starts_another() {
    for runtime in runtimes("clocks_go_on_when_the_agent_dies_and_the_next_session_starts_another") {
        // Reads its clock by itself, and tries to execute a program each time it is asked to.
        let script = "while read line; do /bin/date +%s || echo failed; done </tmp/ask";
        let bundle = runtime.edited_bundle("orphan", ahead(), script, |config| {
            let folder = runtime.folder.at("tmp");
            fs::create_dir_all(&folder).unwrap();
            run({
                let mut fifo = Command::new("mkfifo");
                fifo.arg(folder.join("ask"));
                fifo
            })
            .success();
            let mount = json!({ "destination": "/tmp", "type": "bind", "source": folder, "options": ["bind"] });
            config["mounts"].as_array_mut().unwrap().push(mount);
        });
        let mut container = start(runtime.command(&["run", "--bundle", bundle.to_str().unwrap(), "orphan"]));
        let _deleted = Container { runtime: &runtime, id: "orphan".into() };
        let mut ask = fs::File::options().write(true).open(runtime.folder.at("tmp/ask")).unwrap();
        let mut answer = || {
            std::io::Write::write_all(&mut ask, b"?\n").unwrap();
            let before = Host::now();
            (before, container.must_say(), Host::now())
        };
        let (before, line, after) = answer();
        check_seconds("the container", &line, OFFSET_S, &before, &after);
        runtime.kill_agent("orphan");
        assert_eq!(answer().1, "failed", "nothing can be executed without an agent");
        let before = Host::now();
        let outcome = run(runtime.command(&["exec", "orphan", "/bin/date", "+%s"])).success();
        check_seconds("a session", &outcome.stdout, OFFSET_S, &before, &Host::now());
        let (before, line, after) = answer();
        check_seconds("the container", &line, OFFSET_S, &before, &after);
        let shown = run(runtime.elsewhen(&["show", "orphan"])).success().stdout;
        assert!(shown.contains("adopted"), "{shown}");
        let log = fs::read_to_string(runtime.folder.at("log")).unwrap();
        assert!(log.contains("orphan: the agent, process"), "{log}");
        drop(ask);
        container.finish().success();
        runtime.check_nothing_is_left();
    }
}

#[test]
fn a_container_whose_agent_was_killed_leaves_nothing_when_it_is_deleted() {
    for runtime in runtimes("a_container_whose_agent_was_killed_leaves_nothing_when_it_is_deleted") {
        let container = runtime.start_idle("gone", ahead());
        runtime.kill_agent("gone");
        drop(container);
        runtime.check_nothing_is_left();
        let before = Host::now();
        let output = runtime.run("gone", ahead(), "date +%s").success().stdout;
        check_seconds("the next of that id", &output, OFFSET_S, &before, &Host::now());
        runtime.check_nothing_is_left();
    }
}

#[test]
fn what_the_runtime_refuses_takes_no_time_from_a_container_without_agent() {
    for runtime in runtimes("what_the_runtime_refuses_takes_no_time_from_a_container_without_agent") {
        let container = runtime.start_idle("kept", ahead());
        let check = |what: &str| {
            container.check(what, OFFSET_S);
        };
        for annotations in [ahead(), json!({})] {
            runtime.kill_agent("kept");
            let bundle = runtime.bundle("another", annotations, "exec sleep 100");
            let outcome = run(runtime.command(&["create", "--bundle", bundle.to_str().unwrap(), "kept"]));
            assert!(!outcome.status.success(), "{outcome:?}");
            check("a session after another container of this id was refused");
        }
        runtime.kill_agent("kept");
        let outcome = run(runtime.command(&["delete", "kept"]));
        assert!(!outcome.status.success(), "{outcome:?}");
        check("a session after the container could not be deleted");
        drop(container);
        runtime.check_nothing_is_left();
    }
}

#[test]
fn a_container_that_has_not_begun_keeps_its_time() {
    for runtime in runtimes("a_container_that_has_not_begun_keeps_its_time") {
        let bundle = runtime.bundle("waiting", ahead(), "exec sleep 100");
        let create = ["create", "--bundle", bundle.to_str().unwrap(), "waiting"];
        let container = Container { runtime: &runtime, id: "waiting".into() };
        detach(runtime.command(&create));
        let plain = runtime.bundle("plain", json!({}), "exec sleep 100");
        let begun = Instant::now();
        for again in [create, ["create", "--bundle", plain.to_str().unwrap(), "waiting"]] {
            let outcome = run(runtime.command(&again));
            assert!(!outcome.status.success(), "{outcome:?}");
        }
        assert!(begun.elapsed() < PATIENCE, "it is refused without waiting for the container's end");
        run(runtime.command(&["start", "waiting"])).success();
        container.check("a session after it has begun", OFFSET_S);
        drop(container);
        runtime.check_nothing_is_left();

        detach(runtime.command(&create));
        let container = Container { runtime: &runtime, id: "waiting".into() };
        runtime.kill_agent("waiting");
        let before = Host::now();
        // Some runtimes let nothing be executed in one that has not begun.
        let outcome = container.exec("date +%s");
        if outcome.status.success() {
            check_seconds("a session before it begins", &outcome.stdout, OFFSET_S, &before, &Host::now());
        }
        drop(container);
        runtime.check_nothing_is_left();
    }
}

#[test]
fn another_path_of_a_runtimes_folder_means_the_same_container() {
    for runtime in runtimes("another_path_of_a_runtimes_folder_means_the_same_container") {
        let container = runtime.start_idle("one", ahead());
        symlink(runtime.folder.at("state"), runtime.folder.at("alias")).unwrap();
        let before = Host::now();
        let seen = run(runtime.command_in("alias", &["exec", "one", "/bin/date", "+%s"])).success().stdout;
        check_seconds("a session by another path", &seen, OFFSET_S, &before, &Host::now());
        runtime.kill_agent("one");
        run(runtime.command_in("alias", &["delete", "--force", "one"])).success();
        runtime.check_nothing_is_left();
        drop(container);
    }
}

#[test]
fn an_agent_that_dies_just_before_leaves_nothing() {
    for runtime in runtimes("an_agent_that_dies_just_before_leaves_nothing") {
        for round in 0..10 {
            let id = format!("short-{round}");
            let container = runtime.start_idle(&id, ahead());
            let agent = runtime.record(&id)["agent"].as_i64().unwrap();
            let agent = rustix::process::Pid::from_raw(agent.try_into().unwrap()).unwrap();
            rustix::process::kill_process(agent, rustix::process::Signal::KILL).unwrap();
            if round % 2 == 0 {
                container.check("a session just after", OFFSET_S);
            }
            drop(container);
            runtime.check_nothing_is_left();
        }
    }
}

#[test]
fn what_is_left_of_a_container_is_not_the_next_ones() {
    for runtime in runtimes("what_is_left_of_a_container_is_not_the_next_ones") {
        for is_known in [true, false] {
            let first = runtime.start_idle("left", ahead());
            runtime.kill_agent("left");
            // Deleted behind our back.
            run(runtime.direct(&["delete", "--force", "left"])).success();
            std::mem::forget(first);
            let bundle = runtime.bundle("left", json!({}), "exec sleep 100");
            let arguments = ["run", "--detach", "--bundle", bundle.to_str().unwrap(), "left"];
            detach(if is_known { runtime.command(&arguments) } else { runtime.direct(&arguments) });
            let second = Container { runtime: &runtime, id: "left".into() };
            second.check("a session in a container that asks for nothing", 0);
            drop(second);
            runtime.check_nothing_is_left();
        }
    }
}

#[test]
fn sessions_at_once_after_the_agent_has_died_all_run() {
    for runtime in runtimes("sessions_at_once_after_the_agent_has_died_all_run") {
        let container = runtime.start_idle("probed", ahead());
        for _ in 0..3 {
            runtime.kill_agent("probed");
            let before = Host::now();
            let sessions: Vec<Started> =
                (0..6).map(|_| start(runtime.command(&["exec", "probed", "/bin/date", "+%s"]))).collect();
            for session in sessions {
                let seen = session.finish().success().stdout;
                check_seconds("one of six sessions", &seen, OFFSET_S, &before, &Host::now());
            }
        }
        drop(container);
        runtime.check_nothing_is_left();
    }
}

#[test]
fn one_id_in_two_folders_means_two_containers() {
    for runtime in runtimes("one_id_in_two_folders_means_two_containers") {
        let containers =
            [("a", ahead(), OFFSET_S), ("b", json!({}), 0), ("c", json!({ "org.elsewhen.offset": "1h" }), 3600)];
        for (root, annotations, _) in &containers {
            let bundle = runtime.bundle(&format!("web-{root}"), annotations.clone(), "exec sleep 100");
            detach(runtime.command_in(root, &["run", "--detach", "--bundle", bundle.to_str().unwrap(), "web"]));
        }
        for (root, _, offset_s) in &containers {
            let before = Host::now();
            let seen = run(runtime.command_in(root, &["exec", "web", "/bin/date", "+%s"])).success().stdout;
            check_seconds(root, &seen, *offset_s, &before, &Host::now());
        }
        let shown = run(runtime.elsewhen(&["show", "--container", "web"]));
        assert!(shown.code() == 125 && shown.stderr.contains("more than one container"), "{shown:?}");
        for (root, ..) in &containers {
            run(runtime.command_in(root, &["delete", "--force", "web"])).success();
        }
        runtime.check_nothing_is_left();
    }
}

#[test]
fn ids_that_begin_alike_and_long_ones_are_known() {
    for runtime in runtimes("ids_that_begin_alike_and_long_ones_are_known") {
        let ids = ["my-long-service-name-for-testing-0001", "my-long-service-name-for-testing-0002"];
        let containers = ids.map(|id| runtime.start_idle(id, ahead()));
        for id in ids {
            let shown = run(runtime.elsewhen(&["show", id])).success().stdout;
            assert!(shown.contains(&format!("container  {}", &id[..12])) && shown.contains(id), "{shown}");
        }
        let shown = run(runtime.elsewhen(&["show", "my-long"]));
        assert!(shown.stderr.contains("more than one container"), "{shown:?}");
        drop(containers);
        runtime.check_nothing_is_left();
    }
}

#[test]
fn a_container_cannot_change_what_it_may_not() {
    const TEST: &str = "a_container_cannot_change_what_it_may_not";
    // The inodes of a file system in memory are small numbers, as those of /run are.
    let memory = Path::new("/dev/shm");
    if !memory.exists() {
        return skip(TEST, "no /dev/shm");
    }
    guest("intruder");
    for mut runtime in runtimes(TEST) {
        let folder = Folder::new_in(memory, &format!("oci-{}-{TEST}", runtime.name));
        let config = fs::read_to_string(runtime.folder.at("oci.toml")).unwrap();
        folder.write("oci.toml", &config, 0o644);
        runtime.folder = folder;
        let mut settable = ahead();
        settable["org.elsewhen.settable"] = json!("true");
        let victim = runtime.start_idle("victim", settable);
        let intruder = runtime.start_idle("intruder", ahead());
        let inode = fs::metadata(runtime.folder.at("elsewhen/victim")).unwrap();
        let inode = std::os::unix::fs::MetadataExt::ino(&inode);
        let page = elsewhen_linux::page::PAGE_ADDRESS;
        let belongs = elsewhen_linux::page::STATE_ADDRESS as usize
            + elsewhen_vdso::state::WIPED_SIZE
            + std::mem::offset_of!(elsewhen_vdso::state::Boot, belongs);
        let forged =
            intruder.exec(&format!("/guests/intruder-dynamic forge {inode} {page:#x} {belongs:#x}")).success().stdout;
        assert_eq!(forged, "set EPERM\n");
        let reopened = intruder.exec("/guests/intruder-dynamic reopen").success().stdout;
        assert_eq!(reopened, "reopen EROFS\ntruncate EINVAL\n");
        intruder.exec("/guests/intruder-dynamic lock").success();
        for container in [&victim, &intruder] {
            container.check(&container.id, OFFSET_S);
        }
        run(runtime.elsewhen(&["set", "intruder", "--offset", "1h"])).success();
        drop((victim, intruder));
        runtime.check_nothing_is_left();
    }
}

#[test]
fn fifty_containers_start_at_once() {
    for runtime in runtimes("fifty_containers_start_at_once") {
        // Some of fifty hang at youki 0.7 by itself.
        if runtime.name == "youki" {
            continue;
        }
        let before = Host::now();
        let started: Vec<Started> = (0..50)
            .map(|number| {
                let id = format!("many-{number}");
                let bundle = runtime.bundle(&id, ahead(), "date +%s; sh -c 'exec date +%s'");
                start_for(runtime.command(&["run", "--bundle", bundle.to_str().unwrap(), &id]), 5 * PATIENCE)
            })
            .collect();
        for container in started {
            let output = container.finish().success().stdout;
            assert_eq!(output.lines().count(), 2);
            for line in output.lines() {
                check_seconds("one of fifty", line, OFFSET_S, &before, &Host::now());
            }
        }
        runtime.check_nothing_is_left();
    }
}

#[test]
fn the_kernels_time_namespaces_are_used_on_request() {
    const TEST: &str = "the_kernels_time_namespaces_are_used_on_request";
    /// A runtime that makes them, where those in `PATH` do not.
    const RUNTIME: &str = "ELSEWHEN_TIMENS_RUNTIME";
    let asked =
        json!({ "org.elsewhen.offset": "realtime=400d,monotonic=30d,boottime=30d", "org.elsewhen.timens": "true" });
    for runtime in runtimes(TEST) {
        let outcome = runtime.run("kernels", asked.clone(), "echo started");
        // These of Debian 12 do not.
        if outcome.code() == 1 {
            assert!(outcome.stderr.contains("makes no time namespaces"), "{outcome:?}");
            assert_eq!(outcome.stdout, "");
        }
    }
    let Some(path) = std::env::var_os(RUNTIME) else {
        return skip(TEST, &format!("{RUNTIME} names no runtime that makes them"));
    };
    let runtime = Runtime::new(path.to_str().unwrap(), TEST);
    let before = Host::now();
    let script = "date +%s; cut -d. -f1 /proc/uptime; exec /guests/clocks-dynamic";
    let output = runtime.run("kernels", asked.clone(), script).success().stdout;
    let after = Host::now();
    let mut lines = output.lines();
    check_seconds("date", lines.next().unwrap(), OFFSET_S, &before, &after);
    let uptime = i128::from(lines.next().unwrap().parse::<i64>().unwrap());
    let boottime = |host: &Host| host.of(7) / SECOND + 30 * 24 * 3600;
    assert!((boottime(&before)..=boottime(&after)).contains(&uptime), "uptime {uptime}");
    let shift = Shift { realtime: i128::from(OFFSET_S) * SECOND, monotonic: 30 * DAY, boottime: 30 * DAY };
    let rest: Vec<&str> = lines.collect();
    shift.check("clocks", &readings(&rest.join("\n")), &before, &after);
    let container = runtime.start_idle("kernels", asked);
    let before = Host::now();
    let read = container.exec("/guests/clocks-dynamic").success().stdout;
    shift.check("a session", &readings(&read), &before, &Host::now());
    let shown = run(runtime.elsewhen(&["show", "kernels"])).success().stdout;
    assert!(shown.contains("monotonic 30d, boottime 30d more"), "{shown}");
    drop(container);
    runtime.check_nothing_is_left();
}
