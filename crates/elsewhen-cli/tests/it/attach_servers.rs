//! Servers enter a namespace and leave it while they serve: no request fails, and what they say the date is follows.

use crate::harness::*;
use crate::servers::{
    Redis, connect, get, http_date, make_data, nginx, nginx_configuration, postgres_programs, psql, start_postgres,
};
use crate::waits::Place;
use elsewhen::{Family, Namespace, SignedDuration, Spec};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const AWAY: i128 = 10 * DAY;

fn away() -> Namespace {
    Namespace::new(&Spec::new().offset(Family::Realtime, SignedDuration::from_hours(240))).unwrap()
}

fn pid_of(server: &Started) -> u32 {
    server.id().as_raw_nonzero().get() as u32
}

fn tree(server: &Started) -> Vec<u32> {
    elsewhen::tree(pid_of(server)).unwrap()
}

/// Fails unless a date that `read` gives, in nanoseconds and steps of `step`, is that far ahead of the host's.
#[track_caller]
fn is_ahead(shown: &str, ahead: i128, step: i128, read: impl FnOnce() -> i128) {
    let before = Host::now().of(5) - step;
    let reading = read();
    let after = Host::now().of(0) + step;
    assert!((before + ahead..=after + ahead).contains(&reading), "{shown} reads {reading}, at {before} and {ahead}");
}

/// Lets processes enter and leave while `serve` is called over and over, which fails where a request does.
fn cycle_under_load(pids: &[u32], serve: impl Fn() + Sync) {
    let (namespace, over) = (away(), AtomicBool::new(false));
    let served = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let (serve, over) = (&serve, &over);
    thread::scope(|scope| {
        for served in &served {
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    serve();
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // They end even where this fails.
        let _over = Over(over);
        let mut cycles = 0;
        until("both clients have been served often, and in many cycles", || {
            pids.iter().for_each(|pid| namespace.attach(*pid).unwrap());
            thread::sleep(Duration::from_millis(5));
            pids.iter().for_each(|pid| Namespace::detach(*pid).unwrap());
            cycles += 1;
            cycles >= 15 && served.iter().all(|served| served.load(Ordering::Relaxed) > 10)
        });
    });
}

/// Says that it is over when it goes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does something to the processes of a server, of which all but some may have ended before their turn.
fn each_that_lives(server: &Started, lasting: &[u32], act: impl Fn(u32) -> elsewhen::Result<()>) {
    for pid in tree(server) {
        if let Err(error) = act(pid) {
            assert!(!lasting.contains(&pid), "{error}");
            until(&format!("{pid} has ended, which said {error}"), || is_over(pid));
        }
    }
}

#[test]
fn redis_enters_and_leaves_under_load() {
    if !has("redis-server") {
        return skip("redis_enters_and_leaves_under_load", "there is no redis-server");
    }
    let folder = Folder::new("attach-redis");
    let socket = folder.at("socket");
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"]).arg(folder.path());
    command.arg("--unixsocket").arg(&socket).stdin(Stdio::null());
    let server = start(command);
    let mut redis = Redis(BufReader::new(connect(&socket)));
    redis.ask("SET lasting v EX 864000000");
    cycle_under_load(&[pid_of(&server)], || {
        let mut redis = Redis(BufReader::new(connect(&socket)));
        for _ in 0..100 {
            assert_eq!(redis.ask("GET lasting"), ["v"]);
        }
    });
    let namespace = away();
    namespace.attach(pid_of(&server)).unwrap_err();
    drop(namespace);
    let mut time = || {
        let now: Vec<i128> = redis.ask("TIME").iter().map(|part| part.parse().unwrap()).collect();
        now[0] * SECOND + now[1] * 1000
    };
    is_ahead("redis", 0, 2_000_000, &mut time);
}

#[test]
fn nginx_enters_and_leaves_under_load() {
    let Some(program) = nginx() else { return skip("nginx_enters_and_leaves_under_load", "there is no nginx") };
    let folder = Folder::new("attach-nginx");
    let place = &Place::natively()[0];
    let configuration = folder.write("configuration", &nginx_configuration(&folder, place), 0o644);
    let mut command = Command::new(program);
    command.args(["-e", "stderr", "-p"]).arg(folder.path()).arg("-c").arg(configuration).stdin(Stdio::null());
    let server = start(command);
    let socket = folder.at("socket");
    until("it answers", || socket.exists() && get(&socket, "/date").0 == 200);
    // The one that listens, and the one that serves.
    let pids = tree(&server);
    assert_eq!(pids.len(), 2, "{pids:?}");
    cycle_under_load(&pids, || assert_eq!(get(&socket, "/date").0, 200));
    is_ahead("nginx", 0, SECOND, || http_date(&get(&socket, "/date").1));
}

#[test]
fn postgresql_enters_with_its_backends() {
    const TEST: &str = "postgresql_enters_with_its_backends";
    let Some(programs) = postgres_programs() else { return skip(TEST, "there is no PostgreSQL") };
    if is_root() && !has("setpriv") {
        return skip(TEST, "there is no setpriv to become unprivileged");
    }
    let folder = Folder::new("attach-postgresql");
    let place = &Place::natively()[0];
    make_data(&programs, &folder, place);
    let server = start_postgres(&programs, &folder, place);
    let psql = || psql(&programs, &folder);
    const NOW: &str = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let ask = |query: &str| {
        let mut command = psql();
        command.args(["-c", query]);
        run_quietly(command)
    };
    until("PostgreSQL answers", || ask("select 1").status.success());
    // A session, whose backend is there before and after.
    let mut session = psql().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, from) = (session.stdin.take().unwrap(), BufReader::new(session.stdout.take().unwrap()));
    let mut lines = from.lines();
    let mut answer = |query: &str| {
        writeln!(to, "{query};").unwrap();
        lines.next().unwrap().unwrap()
    };
    let backend: u32 = answer("select pg_backend_pid()").parse().unwrap();
    let mut in_session = || answer(NOW).parse::<i128>().unwrap() * 1000;
    let anew = || ask(NOW).success().stdout.trim().parse::<i128>().unwrap() * 1000;
    is_ahead("the session", 0, 1000, &mut in_session);
    let namespace = away();
    let pids = tree(&server);
    assert!(pids.len() > 3, "{pids:?}");
    // The first, and the session's.
    let lasting = [pid_of(&server), backend];
    each_that_lives(&server, &lasting, |pid| namespace.attach(pid));
    is_ahead("the session inside", AWAY, 1000, &mut in_session);
    is_ahead("a new session inside", AWAY, 1000, anew);
    ask("set statement_timeout = 300; select pg_sleep(0.1)").success();
    let timeout = ask("set statement_timeout = 100; select pg_sleep(100000)");
    assert!(timeout.stderr.contains("canceling statement due to statement timeout"), "{timeout:?}");
    // Its workers come and go.
    each_that_lives(&server, &lasting, Namespace::detach);
    is_ahead("the session outside", 0, 1000, &mut in_session);
    is_ahead("a new session outside", 0, 1000, anew);
    drop(to);
    session.wait().unwrap();
    server.signal(rustix::process::Signal::INT);
    server.finish().success();
}
