//! Containers in their own time, started by engines: podman, docker, containerd, and containerd as Kubernetes uses it.

use crate::containers::{OCI, OFFSET, OFFSET_S, ROOT, record_of, with_cgroups};
use crate::harness::*;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const IMAGE: &str = "localhost/elsewhen-test:1";
/// A program that ends at once when it is told to, and so shows that it is told.
const WAITS: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait; done";

/// Whether engines can be tested here; says why not.
fn can_test(test: &str, programs: &[&str]) -> bool {
    if !is_root() {
        skip(test, "not root");
        return false;
    }
    match programs.iter().find(|program| !has(program)) {
        Some(missing) => skip(test, &format!("no {missing}")),
        None => return true,
    }
    false
}

/// An archive of the root file system.
fn archive(folder: &Folder) -> PathBuf {
    let to = folder.at("rootfs.tar");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&*ROOT).arg("-c").arg("-f").arg(&to).arg(".");
    run(tar).success();
    to
}

/// The program under test by a name that says which runtime it stands in front of.
fn wrapper(folder: &Folder, runtime: &str) -> PathBuf {
    let copy = folder.at("elsewhen-oci");
    if !copy.exists() {
        folder.copy(OCI, "elsewhen-oci", 0o755);
    }
    let to = folder.at(&format!("elsewhen-{runtime}"));
    symlink(copy, &to).unwrap();
    to
}

/// `elsewhen ARGUMENTS`, as root's.
fn elsewhen(arguments: &[&str]) -> Command {
    let mut command = Command::new(ELSEWHEN);
    command.args(arguments).env_remove("ELSEWHEN_RUNTIME_DIR");
    command
}

/// Waits until no container of this id has an agent.
#[track_caller]
fn check_is_gone(id: &str) {
    until("the agent has gone", || record_of(Path::new("/run/elsewhen/.containers"), id).is_none());
}

/// What a container engine is called with.
struct Engine {
    program: PathBuf,
    before: Vec<String>,
    env: Vec<(String, String)>,
    in_cgroups: bool,
}

impl Engine {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = if self.in_cgroups { with_cgroups(&self.program) } else { Command::new(&self.program) };
        command.args(&self.before).args(arguments).envs(self.env.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// Runs it to its end, with more time than most programs: an engine can be slow.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Outcome {
        start_for(self.command(arguments), 3 * PATIENCE).finish()
    }

    /// Runs a container whose program prints the seconds, and checks them.
    #[track_caller]
    fn check(&self, what: &str, offset_s: i64, arguments: &[&str]) -> String {
        let before = Host::now();
        let outcome = self.run(arguments);
        assert!(outcome.status.success(), "{what}: {outcome:?}");
        check_seconds(what, &outcome.stdout, offset_s, &before, &Host::now());
        outcome.stdout
    }
}

/// A daemon, ended when the value goes.
struct Daemon {
    child: Child,
}

impl Daemon {
    fn start(mut command: Command, log: &Path, what: &str, is_ready: impl FnMut() -> bool) -> Self {
        let log = fs::File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let daemon = Self { child: command.spawn().unwrap() };
        until(what, is_ready);
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if std::time::Instant::now() > end {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Podman as root, with everything of its own in a folder.
fn podman(folder: &Folder, runtime: &str) -> Engine {
    let wrapper = wrapper(folder, runtime);
    let (_, most) = limits();
    let conf = format!(
        "[containers]\ndefault_ulimits=[\"nofile={most}:{most}\",\"nproc=4096:4096\"]\npids_limit=0\n[engine]\n\
         cgroup_manager=\"cgroupfs\"\nevents_logger=\"file\"\n[engine.runtimes]\nelsewhen=[\"{}\"]\n",
        wrapper.display(),
    );
    let conf = folder.write(&format!("{runtime}.conf"), &conf, 0o644);
    let path = |name: &str| folder.at(name).to_str().unwrap().to_owned();
    let before =
        ["--root", &path("root"), "--runroot", &path("run"), "--runtime", "elsewhen"].map(str::to_owned).to_vec();
    Engine {
        program: "podman".into(),
        before,
        env: vec![("CONTAINERS_CONF".into(), conf.to_str().unwrap().into())],
        in_cgroups: runtime == "crun",
    }
}

/// The limits of open files: a machine may not let even root raise them.
fn limits() -> (u64, u64) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    (limit.current.unwrap_or(1024), limit.maximum.unwrap_or(1024))
}

#[test]
fn podman_runs_containers_in_their_own_time() {
    const TEST: &str = "podman_runs_containers_in_their_own_time";
    for runtime in ["runc", "crun"] {
        if !can_test(TEST, &["podman", "busybox", runtime]) {
            continue;
        }
        let folder = Folder::new(&format!("podman-{runtime}"));
        let podman = podman(&folder, runtime);
        podman.run(&["import", archive(&folder).to_str().unwrap(), IMAGE]).success();
        let offset = format!("org.elsewhen.offset={OFFSET}");
        let run = ["run", "--rm", "--network", "none"];
        let shifted = [&run[..], &["--annotation", &offset]].concat();
        let of = |options: &[&'static str], command: &[&'static str]| -> Vec<&str> {
            [&shifted[..], options, &[IMAGE], command].concat()
        };
        podman.check("plain", 0, &[&run[..], &[IMAGE, "date", "+%s"]].concat());
        podman.check("shifted", OFFSET_S, &of(&[], &["date", "+%s"]));
        let restricted = ["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--user", "1000"];
        podman.check("restricted", OFFSET_S, &of(&restricted, &["date", "+%s"]));
        podman.check("user namespace", OFFSET_S, &of(&["--uidmap", "0:100000:65536"], &["date", "+%s"]));
        let privileges = podman.run(&of(&[], &["grep", "NoNewPrivs", "/proc/self/status"])).success().stdout;
        assert_eq!(privileges, "NoNewPrivs:\t0\n");
        let refused = podman.run(&[&run[..], &["--annotation", "org.elsewhen.offset=soon", IMAGE, "date"]].concat());
        assert!(
            !refused.status.success() && refused.stderr.contains("org.elsewhen.offset: duration \"soon\""),
            "{refused:?}"
        );

        let detached =
            ["run", "-d", "--name", "web", "--network", "none", "--annotation", &offset, IMAGE, "sh", "-c", WAITS];
        let id = podman.run(&detached).success().stdout.trim().to_owned();
        podman.check("session", OFFSET_S, &["exec", "web", "date", "+%s"]);
        podman.check("session of a user", OFFSET_S, &["exec", "--user", "1000", "web", "sh", "-c", "date +%s"]);
        let shown = crate::harness::run(elsewhen(&["show", "--container", "web"])).success().stdout;
        assert!(shown.contains(&format!("container  web ({id})")), "{shown}");
        crate::harness::run(elsewhen(&["set", "web", "--offset", "1h"])).success();
        podman.check("after a change", 3600, &["exec", "web", "date", "+%s"]);
        podman.run(&["restart", "-t", "30", "web"]).success();
        podman.check("after a restart", OFFSET_S, &["exec", "web", "date", "+%s"]);
        podman.run(&["stop", "-t", "30", "web"]).success();
        let inspected: Value = serde_json::from_str(&podman.run(&["inspect", "web"]).success().stdout).unwrap();
        assert_eq!(inspected[0]["State"]["ExitCode"], 0, "it was told to stop");
        podman.run(&["rm", "web"]).success();
        check_is_gone(&id);
    }
}

#[test]
fn podman_without_root_runs_containers_in_their_own_time() {
    const TEST: &str = "podman_without_root_runs_containers_in_their_own_time";
    /// Made for this by whoever runs the tests, with subordinate ids.
    const USER: &str = "elsewhen-ci";
    if !can_test(TEST, &["podman", "busybox", "runc", "newuidmap", "setpriv"]) {
        return;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let Some(line) = passwd.lines().find(|line| line.starts_with(&format!("{USER}:"))) else {
        return skip(TEST, &format!("no user {USER}"));
    };
    let fields: Vec<&str> = line.split(':').collect();
    let (uid, home) = (fields[2].parse().unwrap(), PathBuf::from(fields[5]));
    let folder = Folder::new("rootless");
    let own = |path: &Path| {
        let id = |id| Some(rustix::fs::Uid::from_raw(id));
        rustix::fs::chown(path, id(uid), None).unwrap();
    };
    let [runtime_dir, storage] = ["xdg", "storage"].map(|name| folder.at(name));
    for (path, mode) in [(&runtime_dir, 0o700), (&storage, 0o755)] {
        fs::create_dir_all(path).unwrap();
        own(path);
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let tool = folder.copy(ELSEWHEN, "elsewhen", 0o755);
    let conf = format!(
        "[containers]\ndefault_ulimits=[]\n[engine]\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"file\"\n\
         [engine.runtimes]\nelsewhen=[\"{}\"]\n",
        wrapper(&folder, "runc").display(),
    );
    let conf = folder.write("containers.conf", &conf, 0o644);
    let user = |program: &Path| Engine {
        program: "setpriv".into(),
        before: [
            &["--reuid", USER, "--regid", USER, "--init-groups", "env", "-i", "-C"][..],
            &[home.to_str().unwrap()],
            &[&format!("HOME={}", home.display()), &format!("XDG_RUNTIME_DIR={}", runtime_dir.display())],
            &[&format!("CONTAINERS_CONF={}", conf.display()), "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"],
            &[program.to_str().unwrap()],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect(),
        env: Vec::new(),
        in_cgroups: false,
    };
    let mut podman = user(Path::new("podman"));
    podman.before.extend(["--root", storage.to_str().unwrap(), "--runtime", "elsewhen"].map(str::to_owned));
    podman.run(&["import", archive(&folder).to_str().unwrap(), IMAGE]).success();
    let offset = format!("org.elsewhen.offset={OFFSET}");
    let run = ["run", "--rm", "--network", "none", "--annotation", &offset];
    podman.check("rootless", OFFSET_S, &[&run[..], &[IMAGE, "date", "+%s"]].concat());
    podman.check("the user's own id", OFFSET_S, &[&run[..], &["--userns", "keep-id", IMAGE, "date", "+%s"]].concat());
    let detached = ["run", "-d", "--name", "web", "--network", "none", "--annotation", "org.elsewhen.rate=1"];
    // A user who is not the one that sets the clock.
    let waits = [&detached[..], &["--user", "1000", IMAGE, "sh", "-c", "sleep 2000; exec sleep 100000"]].concat();
    podman.run(&waits).success();
    let elsewhen = user(&tool);
    elsewhen.run(&["set", "web", "--rate", "1000", "--offset", OFFSET]).success();
    // It has woken: two thousand seconds are two.
    let last = || {
        String::from_utf8_lossy(&podman.command(&["top", "web", "args"]).output().unwrap().stdout)
            .contains("sleep 100000")
    };
    until("the wait is over", last);
    podman.run(&["rm", "-f", "-t", "0", "web"]).success();
    let containers = runtime_dir.join("elsewhen/.containers");
    until("no container is left", || fs::read_dir(&containers).map_or(0, Iterator::count) == 0);
    // Ends the process that holds the user's namespaces.
    let _ = podman.command(&["system", "migrate"]).output();
}

#[test]
fn docker_runs_containers_in_their_own_time() {
    const TEST: &str = "docker_runs_containers_in_their_own_time";
    if !can_test(TEST, &["dockerd", "docker", "containerd", "busybox", "runc"]) {
        return;
    }
    let folder = Folder::new("docker");
    let (_, most) = limits();
    let config = serde_json::json!({
        "runtimes": { "elsewhen": { "path": wrapper(&folder, "runc") } },
        "default-ulimits": { "nofile": { "Name": "nofile", "Hard": most, "Soft": most } },
    });
    let config = folder.write("daemon.json", &config.to_string(), 0o644);
    let socket = format!("unix://{}", folder.at("d.sock").display());
    let mut command = with_cgroups("dockerd");
    command.arg("--config-file").arg(config).arg("--data-root").arg(folder.at("data"));
    command.arg("--exec-root").arg(folder.at("exec")).args(["-H", &socket]).arg("-p").arg(folder.at("pid"));
    command.args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver", "overlay2"]);
    let docker =
        Engine { program: "docker".into(), before: vec!["-H".into(), socket], env: Vec::new(), in_cgroups: false };
    let ready = || docker.command(&["version"]).output().unwrap().status.success();
    let _daemon = Daemon::start(command, &folder.at("log"), "dockerd is up", ready);
    docker.run(&["import", archive(&folder).to_str().unwrap(), IMAGE]).success();
    let run = ["run", "--rm", "--runtime", "elsewhen", "--network", "none"];
    let offset = format!("ELSEWHEN_OFFSET={OFFSET}");
    docker.check("plain", 0, &[&run[..], &[IMAGE, "date", "+%s"]].concat());
    docker.check("shifted", OFFSET_S, &[&run[..], &["-e", &offset, IMAGE, "date", "+%s"]].concat());
    let refused = docker.run(&[&run[..], &["-e", "ELSEWHEN_AT=someday", IMAGE, "date"]].concat());
    assert!(!refused.status.success() && refused.stderr.contains("ELSEWHEN_AT: date \"someday\""), "{refused:?}");
    let detached = [
        "run",
        "-d",
        "--name",
        "shop",
        "--runtime",
        "elsewhen",
        "--network",
        "none",
        "-e",
        &offset,
        IMAGE,
        "sh",
        "-c",
        WAITS,
    ];
    let id = docker.run(&detached).success().stdout.trim().to_owned();
    docker.check("session", OFFSET_S, &["exec", "shop", "date", "+%s"]);
    docker.check("session of a user", OFFSET_S, &["exec", "-u", "1000", "shop", "date", "+%s"]);
    let shown = crate::harness::run(elsewhen(&["show", "shop"])).success().stdout;
    assert!(shown.contains(&format!("container  shop ({id})")), "{shown}");
    docker.run(&["restart", "shop"]).success();
    docker.check("after a restart", OFFSET_S, &["exec", "shop", "date", "+%s"]);
    docker.run(&["stop", "-t", "30", "shop"]).success();
    let inspected: Value = serde_json::from_str(&docker.run(&["inspect", "shop"]).success().stdout).unwrap();
    assert_eq!(inspected[0]["State"]["ExitCode"], 0, "it was told to stop");
    docker.run(&["rm", "shop"]).success();
    check_is_gone(&id);
}

/// A containerd of its own, and a client for it.
struct Containerd {
    _daemon: Daemon,
    client: Engine,
    address: PathBuf,
}

fn containerd(folder: &Folder) -> Containerd {
    let address = folder.at("c.sock");
    let config = include_str!("../engines/containerd.toml").replace("@FOLDER@", folder.path().to_str().unwrap());
    let config = folder.write("containerd.toml", &config, 0o644);
    let mut install = Command::new(wrapper(folder, "runc"));
    install.args(["install", "containerd", "--config"]).arg(&config);
    run(install).success();
    let mut command = Command::new("containerd");
    command.arg("-c").arg(config);
    let client = Engine {
        program: "ctr".into(),
        before: vec!["-a".into(), address.to_str().unwrap().into()],
        env: Vec::new(),
        in_cgroups: false,
    };
    let ready = || client.command(&["version"]).output().unwrap().status.success();
    let daemon = Daemon::start(command, &folder.at("log"), "containerd is up", ready);
    // An image in a format that it reads; one that waits by itself is for pods.
    let podman = podman(folder, "crun");
    for (image, command) in [(IMAGE, "CMD=[\"sh\"]"), ("localhost/elsewhen-pause:1", "CMD=[\"/bin/sleep\",\"100000\"]")]
    {
        let saved = folder.at(&format!("{}.tar", image.replace(['/', ':'], "-")));
        podman.run(&["import", "--change", command, archive(folder).to_str().unwrap(), image]).success();
        podman.run(&["save", "-q", "--format", "docker-archive", "-o", saved.to_str().unwrap(), image]).success();
        for namespace in ["default", "k8s.io"] {
            client.run(&["-n", namespace, "images", "import", saved.to_str().unwrap()]).success();
        }
    }
    Containerd { _daemon: daemon, client, address }
}

#[test]
fn containerd_runs_containers_in_their_own_time() {
    const TEST: &str = "containerd_runs_containers_in_their_own_time";
    if !can_test(TEST, &["containerd", "ctr", "podman", "busybox", "runc"]) {
        return;
    }
    let folder = Folder::new("containerd");
    let Containerd { _daemon, client, .. } = &containerd(&folder);
    let runtime = folder.at("elsewhen-runc");
    let runtime = runtime.to_str().unwrap();
    let offset = format!("org.elsewhen.offset={OFFSET}");
    let run = ["run", "--rm", "--runc-binary", runtime];
    // What an earlier run of the tests has left is found by the id.
    let ids: Vec<String> = (0..5).map(|number| format!("elsewhen-{}-{number}", std::process::id())).collect();
    client.check("plain", 0, &[&run[..], &[IMAGE, &ids[0], "date", "+%s"]].concat());
    let shifted = [&run[..], &["--annotation", &offset]].concat();
    client.check("shifted", OFFSET_S, &[&shifted[..], &[IMAGE, &ids[1], "date", "+%s"]].concat());
    client.check("with a profile", OFFSET_S, &[&shifted[..], &["--seccomp", IMAGE, &ids[2], "date", "+%s"]].concat());
    let bad = ["--annotation", "org.elsewhen.at=someday", IMAGE, &ids[3], "date"];
    let refused = client.run(&[&run[..], &bad].concat());
    assert!(!refused.status.success() && refused.stderr.contains("org.elsewhen.at: date \"someday\""), "{refused:?}");
    let detached = ["run", "-d", "--runc-binary", runtime, "--annotation", &offset, IMAGE, &ids[4], "sh", "-c", WAITS];
    client.run(&detached).success();
    client.check("session", OFFSET_S, &["task", "exec", "--exec-id", "one", &ids[4], "date", "+%s"]);
    client.run(&["task", "kill", &ids[4]]).success();
    until("the task can be deleted", || client.run(&["task", "delete", &ids[4]]).status.success());
    client.run(&["container", "delete", &ids[4]]).success();
    check_is_gone(&ids[4]);
}

#[test]
fn pods_of_kubernetes_are_in_their_own_time() {
    const TEST: &str = "pods_of_kubernetes_are_in_their_own_time";
    if !can_test(TEST, &["containerd", "ctr", "podman", "busybox", "runc", "python3"]) {
        return;
    }
    let folder = Folder::new("pods");
    let stubs = folder.at("stubs");
    fs::create_dir_all(&stubs).unwrap();
    let engines = sources().with_file_name("engines");
    // A distribution's packages are its own interpreter's, which need not be the first in PATH.
    let pythons = ["python3", "/usr/bin/python3"];
    let Some(python) = pythons.iter().find(|python| {
        let mut compile = Command::new(python);
        compile.args(["-m", "grpc_tools.protoc", "-I"]).arg(&engines);
        compile.arg(format!("--python_out={}", stubs.display())).arg(format!("--grpc_python_out={}", stubs.display()));
        compile.arg("cri.proto");
        run_quietly(compile).status.success()
    }) else {
        return skip(TEST, "no grpc_tools of Python");
    };
    let Containerd { _daemon, address, .. } = &containerd(&folder);
    let before = Host::now();
    let mut client = Command::new(python);
    client.arg(engines.join("cri.py")).arg(&stubs).arg(address).arg(IMAGE).arg(folder.at("logs")).arg(OFFSET);
    let seen = start_for(client, 5 * PATIENCE).finish().success().stdout;
    let after = Host::now();
    let of = |label: &str| {
        let line = seen.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {label}: {seen}"))
    };
    for (pod, offset_s) in [("plain", 0), ("shifted", OFFSET_S), ("restricted", OFFSET_S)] {
        for what in ["session", "log", "restarted"] {
            check_seconds(pod, of(&format!("{pod}-{what}")), offset_s, &before, &after);
        }
        assert_eq!(of(&format!("{pod}-container")), "/bin/sh -c", "process 1 is the container's program");
    }
    assert!(of("bad").contains("org.elsewhen.offset: duration \"soon\""), "{seen}");
}

/// Containers of an engine, removed when the value goes.
struct Removed<'a>(&'a Engine, Vec<String>);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        for name in &self.1 {
            let _ = self.0.command(&["rm", "-f", "-t", "0", name]).output();
        }
    }
}

/// Ports of this machine that nobody listens at.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

#[test]
fn etcd_in_three_containers_notices_that_one_is_an_hour_ahead() {
    const TEST: &str = "etcd_in_three_containers_notices_that_one_is_an_hour_ahead";
    if !can_test(TEST, &["podman", "busybox", "runc", "etcd", "etcdctl"]) {
        return;
    }
    let folder = Folder::new("etcd");
    let podman = podman(&folder, "runc");
    podman.run(&["import", archive(&folder).to_str().unwrap(), IMAGE]).success();
    let ports: [u16; 6] = free_ports();
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let cluster: Vec<String> = (0..3).map(|node| format!("n{node}={}", url(ports[3 + node]))).collect();
    let mut removed = Removed(&podman, Vec::new());
    for node in 0..3 {
        let (name, client, peer) = (format!("n{node}"), url(ports[node]), url(ports[3 + node]));
        let offset = if node == 2 { "org.elsewhen.offset=1h" } else { "org.elsewhen.offset=0" };
        let engine =
            ["run", "-d", "--name", &name, "--network", "host", "-v", "/usr:/usr:ro", "--annotation", offset, IMAGE];
        let etcd =
            ["/usr/bin/etcd", "--name", &name, "--data-dir", "/tmp/data", "--logger", "zap", "--log-outputs", "stderr"];
        let clients = ["--listen-client-urls", &client, "--advertise-client-urls", &client];
        let peers = ["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer];
        let cluster = cluster.join(",");
        let cluster = ["--initial-cluster", &cluster, "--initial-cluster-state", "new"];
        podman.run(&[&engine[..], &etcd, &clients, &peers, &cluster].concat()).success();
        removed.1.push(name);
    }
    // Nodes look at each other's clocks every half minute.
    let logs = || {
        let of = |node: usize| podman.command(&["logs", &format!("n{node}")]).output().unwrap().stderr;
        (0..3).map(|node| String::from_utf8_lossy(&of(node)).into_owned()).collect::<Vec<_>>().concat()
    };
    // A probe that took long measures that as well.
    let is_an_hour = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        let drift = value["clock-drift"].as_str().unwrap();
        drift.starts_with("1h0m0") || drift.starts_with("59m59")
    };
    let is_noticed = || {
        let logs = logs();
        logs.lines().filter(|line| line.contains("prober found high clock drift")).any(is_an_hour)
    };
    let deadline = std::time::Instant::now() + 3 * PATIENCE;
    while !is_noticed() {
        assert!(std::time::Instant::now() < deadline, "etcd notices no drift of an hour: {}", logs());
        std::thread::sleep(Duration::from_millis(500));
    }
    let mut status = Command::new("etcdctl");
    status.env("ETCDCTL_API", "3").args(["--endpoints", &url(ports[2])]);
    status.args(["--command-timeout=50s", "--dial-timeout=30s", "put", "key", "value"]);
    run_quietly(status).success();
}
