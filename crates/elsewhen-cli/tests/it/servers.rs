//! Servers live in a namespace's time: what they say the date is, how long they keep what expires, when they give up.
//!
//! They listen in a folder of their own, and are asked from outside. As with [`waits`](crate::waits), nothing ends too
//! early, and what ends late is tried again.

use crate::harness::*;
use crate::waits::*;
use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::chown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where servers are tried: a place, and how far its date is from the host's.
const PLACES: [(Place, i128); 5] = [(AHEAD, 400 * DAY), (UP_LONGER, 0), (FAST, 0), (SLOW, 0), (FROZEN, 0)];

/// Servers count milliseconds, and take the time once for all that they find to do.
const EARLY: i128 = 2 * MS;

/// Runs `check` in every place at once.
fn in_places(check: impl Fn(&Place, i128) + Sync) {
    let check = &check;
    at_once(PLACES.iter().map(|(place, offset)| Box::new(move || check(place, *offset)) as Box<_>));
}

/// A folder for a server in one of the places.
fn folder_for(server: &str, place: &Place) -> Folder {
    Folder::new(&format!("{server}{}", place.flags.concat().replace(['-', '='], "")))
}

/// A connection to a server that may only just have been started, with a bound on every answer.
pub(crate) fn connect(path: &Path) -> UnixStream {
    let mut stream = None;
    until("the server listens", || {
        stream = UnixStream::connect(path).ok();
        stream.is_some()
    });
    let stream = stream.unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Ends a server, which must succeed.
fn end(server: Started, signal: Signal) {
    server.signal(signal);
    server.finish().success();
}

/// Fails unless a server's date, read twice by `read` in nanoseconds, is that of the place; it is given in steps of
/// `step`.
fn check_date(shown: &str, place: &Place, offset: i128, step: i128, mut read: impl FnMut() -> i128) {
    let before = Host::now().of(0);
    let first = read();
    let between = Instant::now();
    // So long that a step does not matter.
    sleep(Duration::from_millis(300));
    let least = nanoseconds(between.elapsed());
    let second = read();
    let most = Host::now().of(0) - before;
    let (num, den) = place.realtime;
    let shown = format!("{shown} with {:?} reads {first}, then {second}", place.flags);
    if place.realtime == STANDS {
        assert_eq!(first, second, "{shown}");
    }
    let moved = least * num / den - step..=most * num / den + step;
    assert!(moved.contains(&(second - first)), "{shown}: {} is not in {moved:?}", second - first);
    if num == den {
        let range = before + offset - step..=before + offset + most;
        assert!(range.contains(&first), "{shown}, which is not in {range:?}");
    }
}

/// A connection to redis.
pub(crate) struct Redis(pub(crate) BufReader<UnixStream>);

impl Redis {
    /// The answer to a command, flat: a line for a string, a number or an error, `nil` for nothing.
    pub(crate) fn ask(&mut self, command: &str) -> Vec<String> {
        writeln!(self.0.get_mut(), "{command}\r").unwrap();
        let mut answer = Vec::new();
        self.read(&mut answer);
        answer
    }

    fn read(&mut self, answer: &mut Vec<String>) {
        let line = self.line();
        let (kind, rest) = line.split_at(1);
        let length = rest.parse::<i64>().unwrap_or(0);
        match kind {
            "$" | "*" if length < 0 => answer.push("nil".to_owned()),
            "$" => answer.push(self.line()),
            "*" => (0..length).for_each(|_| self.read(answer)),
            _ => answer.push(rest.to_owned()),
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).unwrap() > 0, "redis hung up");
        line.trim_end().to_owned()
    }

    /// The answer to a command that has one number for an answer.
    fn number(&mut self, command: &str) -> i128 {
        let answer = self.ask(command).concat();
        answer.parse().unwrap_or_else(|_| panic!("{command}: {answer}"))
    }

    /// Asks until the answer is this.
    fn ask_until(&mut self, command: &str, answer: &str) {
        until(&format!("redis answers {answer} to {command}"), || self.ask(command) == [answer]);
    }
}

fn check_redis(place: &Place, offset: i128) {
    let folder = folder_for("redis", place);
    let socket = folder.at("socket");
    let mut command = place.command("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"]).arg(folder.path());
    command.arg("--unixsocket").arg(&socket).stdin(Stdio::null());
    let server = start(command);
    let mut redis = Redis(BufReader::new(connect(&socket)));
    let (set, ok) = (Instant::now(), redis.ask("SET lasting v EX 1000"));
    assert_eq!(ok, ["OK"]);
    let has_set = Instant::now();
    check_date("redis", place, offset, 1000, || {
        let now: Vec<i128> = redis.ask("TIME").iter().map(|part| part.parse().unwrap()).collect();
        now[0] * SECOND + now[1] * 1000
    });
    // What a key still has to live is less by what the date has moved.
    let least = nanoseconds(has_set.elapsed());
    let left = redis.number("PTTL lasting") * MS;
    let most = nanoseconds(set.elapsed());
    let (num, den) = place.realtime;
    let range = 1000 * SECOND - most * num / den - EARLY..=1000 * SECOND - least * num / den + EARLY;
    assert!(range.contains(&left), "redis with {:?}: {left} ns are left, not {range:?}", place.flags);
    if place.realtime == STANDS {
        // A date never comes there: no key expires, and BLPOP waits for ever.
        assert_eq!(redis.ask("SET short v PX 20"), ["OK"]);
        sleep(Duration::from_millis(100));
        assert_eq!(redis.ask("GET short"), ["v"]);
    } else {
        place.time("PX of redis", place.asked, EARLY, || {
            assert_eq!(redis.ask(&format!("SET short v PX {}", place.asked / MS)), ["OK"]);
            redis.ask_until("GET short", "nil");
        });
        place.time("BLPOP of redis", place.asked, EARLY, || {
            assert_eq!(redis.ask(&format!("BLPOP nothing {}", place.asked as f64 / 1e9)), ["nil"]);
        });
        // Whole seconds are too long where time is slow.
        if place.flags != SLOW.flags {
            let asked = place.asked.max(SECOND);
            place.time("EXPIRE of redis", asked, EARLY, || {
                assert_eq!(redis.ask("SET short v"), ["OK"]);
                assert_eq!(redis.number(&format!("EXPIRE short {}", asked / SECOND)), 1);
                redis.ask_until("EXISTS short", "0");
            });
        }
    }
    end(server, Signal::TERM);
}

#[test]
fn redis_is_in_time() {
    if !has("redis-server") {
        return skip("redis_is_in_time", "there is no redis-server");
    }
    in_places(check_redis);
}

/// What `nginx` answers to `GET PATH`: the status, the date, and the connection behind the answer.
pub(crate) fn get(socket: &Path, path: &str) -> (u32, String, BufReader<UnixStream>) {
    let mut stream = BufReader::new(connect(socket));
    write!(stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let (mut status, mut date, mut length) = (0, String::new(), 0);
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "nginx hung up");
        match line.trim_end().split_once(' ') {
            None => break,
            Some(("Date:", value)) => value.clone_into(&mut date),
            Some(("Content-Length:", value)) => length = value.parse().unwrap(),
            Some((version, rest)) if version.starts_with("HTTP/") => status = rest[..3].parse().unwrap(),
            Some(_) => {}
        }
    }
    stream.read_exact(&mut vec![0; length]).unwrap();
    (status, date, stream)
}

/// A date of HTTP in nanoseconds since 1970.
pub(crate) fn http_date(date: &str) -> i128 {
    let mut command = Command::new("date");
    command.args(["-u", "+%s", "-d", date]);
    run_quietly(command).success().stdout.trim().parse::<i128>().unwrap() * SECOND
}

/// Where `nginx` is asked for what.
pub(crate) fn nginx_configuration(folder: &Folder, place: &Place) -> String {
    let temporary = |kind: &str| format!("{kind}_temp_path {}; ", folder.at(kind).display());
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    format!(
        "{user}daemon off; worker_processes 1; pid {at}/pid; error_log stderr; events {{}}
        http {{
            {kinds} access_log off; keepalive_timeout {ms}ms; proxy_read_timeout {ms}ms;
            limit_req_zone $uri zone=one:1m rate={per_minute}r/m;
            server {{
                listen unix:{at}/socket;
                location = /date {{ return 200 now; }}
                location = /limited {{ limit_req zone=one; try_files /configuration =404; root {at}; }}
                location = /mute {{ proxy_pass http://unix:{at}/mute; }}
            }}
        }}",
        // Otherwise its workers would be somebody else, who may not enter the folder.
        user = if is_root() { "user root root; " } else { "" },
        at = folder.path().display(),
        kinds = kinds.map(temporary).concat(),
        ms = place.asked / MS,
        per_minute = 60 * SECOND / place.asked,
    )
}

/// The program, which is not in everybody's `PATH`.
pub(crate) fn nginx() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.find_map(|folder| Some(folder.join("nginx")).filter(|program| program.is_file()))
}

fn check_nginx(program: &Path, place: &Place, offset: i128) {
    let folder = folder_for("nginx", place);
    let configuration = folder.write("configuration", &nginx_configuration(&folder, place), 0o644);
    // Whoever connects is heard, but nobody answers.
    let _mute = UnixListener::bind(folder.at("mute")).unwrap();
    let mut command = place.command(program);
    command.args(["-e", "stderr", "-p"]).arg(folder.path()).arg("-c").arg(configuration).stdin(Stdio::null());
    let server = start(command);
    let socket = folder.at("socket");
    check_date("nginx", place, offset, SECOND, || http_date(&get(&socket, "/date").1));
    place.time("keepalive_timeout of nginx", place.asked, EARLY, || {
        let (status, _, mut stream) = get(&socket, "/date");
        assert_eq!(status, 200);
        // It hangs up.
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    });
    place.time("proxy_read_timeout of nginx", place.asked, EARLY, || {
        assert_eq!(get(&socket, "/mute").0, 504);
    });
    place.time("limit_req of nginx", place.asked, EARLY, || {
        for _ in 0..2 {
            until("the limit of nginx lets a request pass", || get(&socket, "/limited").0 == 200);
        }
    });
    end(server, Signal::TERM);
}

#[test]
fn nginx_is_in_time() {
    let Some(program) = nginx() else { return skip("nginx_is_in_time", "there is no nginx") };
    in_places(|place, offset| check_nginx(&program, place, offset));
}

/// The folder of PostgreSQL's programs: Debian has one for each version, outside `PATH`.
pub(crate) fn postgres_programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    let mut folders = folders.into_iter().rev().chain(std::env::split_paths(&path));
    folders.find(|folder| ["initdb", "postgres", "psql"].iter().all(|program| folder.join(program).is_file()))
}

/// The user `nobody`, and its group.
const NOBODY: u32 = 65534;

/// A program of PostgreSQL in a place, as an ordinary user since it refuses to be anything else.
fn postgres(place: &Place, program: &Path) -> Command {
    if !is_root() {
        return place.command(program);
    }
    let mut command = place.command("setpriv");
    let id = NOBODY.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program);
    command
}

fn check_postgres(programs: &Path, folder: &Folder, place: &Place, offset: i128) {
    let server = start_postgres(programs, folder, place);
    let ask = |query: &str| {
        let mut command = psql(programs, folder);
        run_quietly({
            command.arg("-c").arg(query);
            command
        })
    };
    until("PostgreSQL answers", || ask("select 1").status.success());
    check_date("PostgreSQL", place, offset, 1000, || {
        let microseconds = ask("select (extract(epoch from now()) * 1000000)::bigint").success().stdout;
        microseconds.trim().parse::<i128>().unwrap() * 1000
    });
    // Where the date stands, both would wait for ever: they compare dates.
    if place.realtime != STANDS {
        place.time("pg_sleep", place.asked, EARLY, || {
            ask(&format!("select pg_sleep({})", place.asked as f64 / 1e9)).success();
        });
        place.time("statement_timeout", place.asked, EARLY, || {
            let outcome = ask(&format!("set statement_timeout = {}; select pg_sleep(100000)", place.asked / MS));
            assert!(outcome.stderr.contains("canceling statement due to statement timeout"), "{outcome:?}");
        });
    }
    end(server, Signal::INT);
}

/// Makes a database of PostgreSQL's in a place.
pub(crate) fn make_data(programs: &Path, folder: &Folder, place: &Place) {
    if is_root() {
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut command = postgres(place, &programs.join("initdb"));
    command.args(["-U", "tester", "-A", "trust", "--locale", "C", "-E", "UTF8", "--no-sync", "-D"]);
    command.arg(folder.at("data"));
    run_quietly(command).success();
}

/// Starts PostgreSQL on it.
pub(crate) fn start_postgres(programs: &Path, folder: &Folder, place: &Place) -> Started {
    let mut command = postgres(place, &programs.join("postgres"));
    command.args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"]).arg(folder.path());
    command.arg("-D").arg(folder.at("data")).stdin(Stdio::null());
    start(command)
}

/// A client of it.
pub(crate) fn psql(programs: &Path, folder: &Folder) -> Command {
    let mut command = Command::new(programs.join("psql"));
    command.args(["--no-psqlrc", "-Atq", "-U", "tester", "-d", "postgres", "-h"]).arg(folder.path());
    command
}

/// Makes data in the first of these places, and has them live through all.
fn check_postgres_in(name: &str, programs: &Path, places: &[(Place, i128)]) {
    let folder = Folder::new(name);
    make_data(programs, &folder, &places[0].0);
    for (place, offset) in places {
        check_postgres(programs, &folder, place, *offset);
    }
}

#[test]
fn postgresql_is_in_time() {
    const TEST: &str = "postgresql_is_in_time";
    let Some(programs) = postgres_programs() else { return skip(TEST, "there is no PostgreSQL") };
    if is_root() && !has("setpriv") {
        return skip(TEST, "there is no setpriv to become unprivileged");
    }
    check_postgres_in("postgresql", &programs, &PLACES);
}

/// A start of `waits cron`: the flags, nanoseconds since 1970 at the start, how often it is to wake.
const CRONS: [(&[&str], i128, Pace, usize); 4] = [
    (&["--at", "2030-01-01T00:00:57Z"], NEW_YEAR + 57 * SECOND, (1, 1), 1),
    (&["--at", "2030-01-01T00:00:30Z", "--rate", "60"], NEW_YEAR + 30 * SECOND, (60, 1), 3),
    (&["--at", "2030-01-01T00:00:59.7Z", "--rate", "0.1"], NEW_YEAR + 59_700 * MS, (1, 10), 1),
    (&["--at", "2030-01-01T00:00:57Z", "--freeze"], NEW_YEAR + 57 * SECOND, STANDS, 1),
];
/// The first instant of 2030.
const NEW_YEAR: i128 = 1_893_456_000 * SECOND;
/// How late a wake may be, by the host.
const LATE: i128 = 5 * SECOND;

/// Starts it, and fails unless it wakes at full minutes, and as they come for the host.
fn check_cron((flags, at, pace, wakes): (&[&str], i128, Pace, usize)) {
    let before = Instant::now();
    let mut command = elsewhen(flags, guest("waits"));
    command.args(["cron", &wakes.to_string()]).stdin(Stdio::null());
    let mut cron = start(command);
    let mut last = at;
    for _ in 0..wakes {
        let line = cron.must_say();
        let host = nanoseconds(before.elapsed());
        let numbers: Vec<i128> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let (minute, now) = (numbers[0], numbers[1]);
        let shown = format!("cron with {flags:?} woke at {now} for {minute}, {host} ns after its start");
        assert!(minute > last && minute % (60 * SECOND) == 0, "{shown}");
        last = minute;
        let expected = by_host(minute - at, pace);
        // It cannot have started before `before`, so this holds however busy the machine is.
        assert!((expected - 2 * MS..=expected + LATE).contains(&host), "{shown}, not {expected}");
        if pace == STANDS {
            assert_eq!(now, at, "{shown}");
        } else {
            assert!((minute..=minute + LATE * pace.0 / pace.1).contains(&now), "{shown}");
        }
    }
    cron.finish().success();
}

#[test]
fn minutes_of_a_cron_come_by_the_date() {
    at_once(CRONS.map(|cron| Box::new(move || check_cron(cron)) as Box<_>));
}

/// Whoever changes these tests sees here what servers do without any namespace.
#[test]
#[ignore = "tests tests, not elsewhen"]
fn servers_are_in_time_natively() {
    let places = Place::natively().map(|place| (place, 0));
    for (place, offset) in places {
        check_redis(&place, offset);
        check_nginx(&nginx().unwrap(), &place, offset);
    }
    check_postgres_in("postgresql-natively", &postgres_programs().unwrap(), &places);
}
