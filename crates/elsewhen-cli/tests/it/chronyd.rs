//! `chronyd` disciplines the clock of its namespace by the host's.

use crate::harness::*;
use crate::setting::*;
use crate::waits::MS;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// The program, which is not in everybody's `PATH`.
fn chronyd() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.find_map(|folder| Some(folder.join("chronyd")).filter(|program| program.is_file()))
}

/// A port that nobody used a moment ago.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Who these tests run as.
fn user() -> String {
    let mut command = Command::new("id");
    command.arg("-un");
    run_quietly(command).success().stdout.trim().to_owned()
}

/// A `chronyd` that tells the host's time on a port, and never sets it.
fn time_server(chronyd: &Path, folder: &Folder, port: u16) -> Started {
    let at = folder.path().display();
    let configuration = format!(
        "port {port}\nallow 127.0.0.1\nbindaddress 127.0.0.1\ncmdport 0\nbindcmdaddress /\nlocal stratum 1\n\
         pidfile {at}/server.pid\ndriftfile {at}/server.drift\n"
    );
    let configuration = folder.write("server.conf", &configuration, 0o644);
    let mut command = Command::new(if is_root() { "setpriv".as_ref() } else { chronyd.as_os_str() });
    if is_root() {
        command.arg("--bounding-set=-sys_time").arg(chronyd);
    }
    command.args(["-x", "-d", "-U", "-u", &user(), "-f"]).arg(configuration).stdin(Stdio::null());
    let server = start(command);
    let words = || fs::read(format!("/proc/{}/cmdline", server.id().as_raw_nonzero())).unwrap_or_default();
    until("the server runs", || words().split(|byte| *byte == 0).next().is_some_and(|name| name.ends_with(b"chronyd")));
    // It must not touch the clock of this machine.
    assert!(words().split(|byte| *byte == 0).any(|word| word == b"-x"), "{:?}", String::from_utf8_lossy(&words()));
    server
}

/// A `chronyd` that disciplines the clock of its namespace, and beside it, in another process, the setting guest.
struct Disciplined {
    guest: Setting,
    /// How far the host's date is ahead of MONOTONIC.
    host: i128,
}

impl Disciplined {
    /// Starts both in a namespace that `command` makes, the daemon with these arguments and lines of configuration.
    fn new(mut command: Command, chronyd: &Path, folder: &Folder, port: u16, arguments: &str, lines: &str) -> Self {
        let at = folder.path().display();
        let configuration = format!(
            "server 127.0.0.1 port {port} iburst minpoll -2 maxpoll -2\nport 0\ncmdport 0\nbindcmdaddress /\n\
             bindacqaddress 127.0.0.1\npidfile {at}/client.pid\ndriftfile {at}/client.drift\n{lines}\n"
        );
        let configuration = folder.write("client.conf", &configuration, 0o644);
        // The guest has the clock read before the daemon starts.
        let script = format!("\"$1\" read; \"$0\" -d {arguments} -f \"$2\" >&2 & \"$1\"; kill $!; wait $!");
        command.args(["-c", &script]).arg(chronyd).arg(guest("setting")).arg(configuration).stdin(Stdio::piped());
        let mut guest = start(command);
        let stdin = guest.stdin();
        Self { guest: Setting { guest, stdin }, host: Unmoved::distance() }
    }

    /// How far the namespace's date was ahead of the host's before the daemon began.
    fn before(&mut self) -> i128 {
        let line = self.guest.guest.must_say();
        let words: Vec<i128> = line.split(' ').map(|word| word.parse().unwrap()).collect();
        words[2] - words[3] - self.host
    }

    /// How far the namespace's date is ahead of the host's, and MONOTONIC.
    fn now(&mut self) -> (i128, i128) {
        let clocks = self.guest.clocks();
        (ahead(clocks) - self.host, clocks.monotonic)
    }

    /// Asks until the date is as near as this to the host's. Returns all that has been seen.
    fn until_near(&mut self, bound: i128) -> Vec<(i128, i128)> {
        let mut seen = vec![self.now()];
        until("the date is near the host's", || {
            sleep(Duration::from_millis(50));
            seen.push(self.now());
            seen.last().is_some_and(|(distance, _)| distance.abs() < bound)
        });
        seen
    }

    fn finish(self) -> String {
        drop(self.guest.stdin);
        // It is ended by a signal that it expects.
        self.guest.guest.finish().success().stderr
    }
}

fn check_steps(chronyd: &Path, name: &str, command: Command, arguments: &str) {
    let folder = Folder::new(name);
    if is_root() {
        // For a daemon that becomes another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let port = free_port();
    let _server = time_server(chronyd, &folder, port);
    let mut inside = Disciplined::new(command, chronyd, &folder, port, arguments, "makestep 1 3");
    let before = inside.before();
    assert!((before - 37 * SECOND).abs() < 100 * MS, "{before}");
    inside.until_near(50 * MS);
    // There it stays.
    for _ in 0..10 {
        sleep(Duration::from_millis(100));
        let (distance, _) = inside.now();
        assert!(distance.abs() < 50 * MS, "{distance}");
    }
    let log = inside.finish();
    assert!(!log.contains("support"), "nothing is missing: {log}");
    assert!(
        log.contains("System clock was stepped by -36.9") || log.contains("System clock was stepped by -37.0"),
        "{log}"
    );
}

#[test]
fn chronyd_steps_the_namespaces_clock_to_the_hosts() {
    const TEST: &str = "chronyd_steps_the_namespaces_clock_to_the_hosts";
    let Some(chronyd) = chronyd() else { return skip(TEST, "there is no chronyd") };
    if let Some(reason) = cannot_drop() {
        return skip(TEST, reason);
    }
    let _unmoved = Unmoved::new();
    let flags = ["--settable", "--offset", "37s"];
    check_steps(&chronyd, "chrony-steps", unprivileged(&flags, "sh"), &format!("-U -u {}", user()));
    if is_root() {
        // As it usually runs: it becomes an ordinary user that keeps the right to set the clock.
        check_steps(&chronyd, "chrony-steps-as-usual", elsewhen(&flags, "sh"), "");
    }
}

#[test]
fn chronyd_slews_the_namespaces_clock_to_the_hosts() {
    const TEST: &str = "chronyd_slews_the_namespaces_clock_to_the_hosts";
    let Some(chronyd) = chronyd() else { return skip(TEST, "there is no chronyd") };
    if let Some(reason) = cannot_drop() {
        return skip(TEST, reason);
    }
    let _unmoved = Unmoved::new();
    let folder = Folder::new("chrony-slews");
    let port = free_port();
    let _server = time_server(&chronyd, &folder, port);
    let command = unprivileged(&["--settable", "--offset", "30ms"], "sh");
    let mut inside = Disciplined::new(command, &chronyd, &folder, port, &format!("-U -u {}", user()), "");
    let before = inside.before();
    assert!((before - 30 * MS).abs() < 5 * MS, "{before}");
    let seen = inside.until_near(3 * MS);
    for pair in seen.windows(2) {
        let ((distance, at), (next, later)) = (pair[0], pair[1]);
        // Eight parts in a hundred are the most that it asks for.
        let most = (later - at) / 10 + MS / 10;
        assert!((next - distance).abs() <= most, "from {distance} to {next} in {} ns", later - at);
    }
    let log = inside.finish();
    assert!(!log.contains("stepped"), "{log}");
}
